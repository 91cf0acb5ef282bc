import pytest
import torch
from monai.networks.nets import SegResNetDS

from voxelry.networks.segresnet import SegResNet

ONES = (1, 1, 1)


@pytest.mark.parametrize(
    ("resolution", "strides", "kernels"),
    [
        (None, (ONES, (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3),
        ((1.0, 1.0, 2.5), (ONES, (2, 2, 1), (2, 2, 2)), ((3, 3, 1), (3, 3, 3), (3, 3, 3))),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_layers_and_logits_are_those_of_monais_network(resolution, strides, kernels, training):
    norm = ("INSTANCE", {"affine": True, "eps": 1e-5})
    theirs = SegResNetDS(3, 4, 2, 3, norm=norm, blocks_down=(1, 2, 2), dsdepth=2, resolution=resolution).train(training)
    ours = SegResNet(3, 2, 3, (4, 8, 16), strides, kernels, (1, 2, 2), coarser_heads=1).train(training)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 2, 8, 8, 8)
    found, wanted = ours(x), theirs(x)
    for one, other in zip(found, wanted if training else [wanted], strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_an_axis_may_cease_to_be_halved():
    strides = (ONES, (2, 2, 2), (2, 2, 1))
    heads = SegResNet(3, 1, 2, (4, 6, 6), strides, ((3, 3, 3),) * 3, (1, 1, 1), coarser_heads=1)(torch.randn(2, 1, 8, 8, 4))
    assert [tuple(head.shape[2:]) for head in heads] == [(8, 8, 4), (4, 4, 2)]
