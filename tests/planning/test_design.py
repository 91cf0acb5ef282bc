import pytest

from voxelry.errors import ConfigError
from voxelry.planning.design import Design, make_design
from voxelry.recipes.settings import PlanSettings

STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 1))


def test_numbers_are_those_of_every_convolution():
    """Counted by hand: a patch of 8 x 8 x 8, then 4 x 4 x 4, then 2 x 2 x 4."""
    plain = Design("dynunet", classes=3, first=10, widest=30)
    fine, middle, coarse = 10 * 512, 20 * 64, 30 * 16
    encoder, decoder, heads = 2 * (fine + middle + coarse), 3 * (fine + middle), 3 * 512
    assert plain.widths(3) == (10, 20, 30)
    assert plain.activations((8, 8, 8), STRIDES) == encoder + decoder + heads


def test_numbers_of_residual_blocks():
    """Stem; 1, 3, 4 blocks of two convolutions; one past each change of channels or resolution; one in the decoder and its up."""
    residual = Design("resenc", classes=3, first=10, widest=20, blocks=(1, 3, 4))
    fine, middle, coarse = 10 * 512, 20 * 64, 20 * 16  # as many channels, but strides: a change too
    encoder = (1 + 2) * fine + (6 + 1) * middle + (8 + 1) * coarse
    assert residual.activations((8, 8, 8), STRIDES) == encoder + 2 * (fine + middle) + 3 * 512


def test_other_networks_take_a_multiple():
    plain, swin = (Design(name, classes=3, first=12, widest=999) for name in ("dynunet", "segresnet"))
    assert swin.activations((8, 8, 8), STRIDES) == pytest.approx(1.2 * plain.activations((8, 8, 8), STRIDES))
    small, large = (make_design(PlanSettings(network="mednext", preset=size), 3, 32, 320, None) for size in "SL")
    strides = ((1,) * 3, *((2,) * 3,) * 4)
    assert large.activations((32,) * 3, strides) / small.activations((32,) * 3, strides) == 9 / 4


def test_what_the_user_decides_wins():
    chosen = make_design(PlanSettings(network="mednext", preset="B", options={"kernel_size": 5}), 3, 32, 320, 4)
    assert (chosen.most, chosen.blocks) == (5, (2, 2, 2, 2, 2))
    assert chosen.options["kernel_size"] == 5
    assert chosen.options["bottleneck_expansion_ratio"] == 4
    assert make_design(PlanSettings(features=(8, 9)), 3, 32, 320, None).widths(2) == (8, 9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": (12, 13, 48, 96, 192, 384), "network": "swinunetr"}, "network 'swinunetr' has channels"),
        ({"features": (8, 16, 32, 64), "network": "mednext"}, r"network 'mednext' has 5 stages. Give 5 numbers"),
    ],
)
def test_features_that_do_not_suit_the_network_are_refused(settings, message):
    def planned():
        chosen = make_design(PlanSettings(**settings), 3, 32, 320, None)
        return chosen.network((64, 64, 64), chosen.topology((64, 64, 64), (1, 1, 1)))

    with pytest.raises(ConfigError, match=message):
        planned()
