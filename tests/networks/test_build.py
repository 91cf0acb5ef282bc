import copy
import sys

import pytest
import torch
from monai.networks.nets import DynUNet
from monai.networks.nets.mednext import create_mednext

from helpers.plans import tiny_network, tiny_plan
from helpers.smallest import small
from voxelry.core.architectures import ARCHITECTURES, preset
from voxelry.core.plan import Region
from voxelry.errors import ConfigError, MissingExtraError
from voxelry.networks.build import build_network, count_parameters, input_channels, output_classes
from voxelry.planning.design import Design

ISOTROPIC = tiny_network(3, (16, 32, 64, 128), deep_supervision=2)
STRIDED = tiny_network(3, (4, 6, 8, 8), strides=((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2)),
                       kernels=((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3)), deep_supervision=2)  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_logits_have_the_shape_of_the_patch(dimensions, name):
    plan = small(name, dimensions, channels=("a", "b"))
    network = build_network(plan, 5)
    heads = network(torch.randn(1, 2, *plan.patch_size))
    assert heads[0].shape == (1, 5, *plan.patch_size)
    assert len(heads) == 1 + ARCHITECTURES[name].coarser_heads(len(plan.network.features))
    for level, head in enumerate(heads):
        assert head.shape[2:] == tuple(edge // 2**level for edge in plan.patch_size)
    sum(head.square().sum() for head in heads).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    with torch.inference_mode():
        assert len(network.eval()(torch.randn(1, 2, *plan.patch_size))) == 1


@pytest.mark.parametrize("name", ["dynunet", "resenc", "segresnet", "mednext"])
def test_as_many_heads_as_the_plan_wants(name):
    for wanted in (0, 1):
        plan = small(name, 2, wanted)
        network = build_network(plan, 3)
        heads = network(torch.randn(2, 1, *plan.patch_size))
        assert len(heads) == 1 + wanted
        sum(head.square().sum() for head in heads).backward()
        assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("axis", [0, 2])
def test_slices_are_seen_one_by_one(name, axis):
    plan = small(name, 3, across=axis)
    torch.manual_seed(0)
    network = build_network(plan, 3)
    heads = network(torch.randn(1, 1, *plan.patch_size))
    assert heads[0].shape == (1, 3, *plan.patch_size)
    assert all(head.shape[2 + axis] == 1 for head in heads)
    torch.manual_seed(0)
    flat = build_network(small(name, 2), 3)
    flat.load_state_dict(network.state_dict())
    x = torch.randn(1, 1, *plan.patch_size)
    with torch.inference_mode():
        found, wanted = network.eval()(x)[0], flat.eval()(x.squeeze(2 + axis))[0]
    assert torch.allclose(found.squeeze(2 + axis), wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["dynunet", "unet", "resenc", "segresnet"])
def test_strides_may_differ_along_the_axes(name):
    network = STRIDED.model_copy(update={"name": name})
    heads = build_network(tiny_plan(network=network, patch_size=(16, 24, 8)), 3)(torch.randn(2, 1, 16, 24, 8))
    shapes = [(16, 24, 8), (8, 12, 8), (4, 6, 8)]
    assert [tuple(head.shape[2:]) for head in heads] == (shapes[:1] if name == "unet" else shapes)


@pytest.mark.parametrize("name", ["dynunet", "mednext"])
def test_of_regions_the_background_is_a_constant(name):
    regions = tuple(Region(name=key, labels=("x",), label="x") for key in "ab")
    plan = small(name, 2, regions=regions)
    network = build_network(plan, 9)
    heads = network(torch.randn(2, 1, *plan.patch_size))
    assert all(head.shape[1] == 3 == output_classes(plan, 9) for head in heads)
    assert not any(head[:, 0].any() for head in heads)
    assert all(head[:, 1:].any() for head in heads)


@pytest.mark.parametrize("regions", [(), (Region(name="all", labels=("x",), label="x"),)])
def test_a_cascades_second_stage_sees_the_labels_of_the_first(regions):
    plan = tiny_plan(configuration="3d_cascade", channels=("a", "b"), regions=regions)
    assert input_channels(plan, 4) == 5
    assert build_network(plan, 4)(torch.randn(1, 5, 8, 8, 8))[0].shape[1] == (2 if regions else 4)


@pytest.mark.parametrize("size", "SBML")
@pytest.mark.parametrize("dimensions", [2, 3])
def test_mednext_has_the_sizes_of_its_authors(size, dimensions):
    wanted = preset("mednext", size)
    network = tiny_network(dimensions, (32, 64, 128, 256, 512), name="mednext", blocks=wanted.blocks,
                           options=dict(wanted.options), deep_supervision=4)  # fmt: skip
    plan = tiny_plan(dimensions, network=network, patch_size=(32,) * dimensions)
    with torch.device("meta"):
        theirs = create_mednext(size, dimensions, 1, 3, kernel_size=3, deep_supervision=True)
        ours = build_network(plan, 3).body
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }


def test_a_network_whose_extra_is_missing_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "einops", None)
    with pytest.raises(MissingExtraError, match=r"'swinunetr' needs 'einops'.*voxelry\[swin\]"):
        build_network(small("swinunetr", 2), 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dynunet", {"dropuot": 0.1}, r"'dynunet' takes no 'dropuot'. Did you mean 'dropout'"),
        ("unet", {"num_res_units": "many"}, r"'unet' cannot be built with .*num_res_units='many'"),
        ("segresnet", {"out_channels": 5}, r"'out_channels' follows from the data"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, message):
    network = small(name, 2).network.model_copy(update={"options": options})
    with pytest.raises(ConfigError, match=message):
        build_network(tiny_plan(2, network=network), 3)


def test_options_reach_the_network():
    network = small("dynunet", 2).network.model_copy(update={"options": {"res_block": True, "dropout": 0.1}})
    body = build_network(tiny_plan(2, network=network), 3).body
    assert any(isinstance(layer, torch.nn.Dropout) for layer in body.modules())
    assert type(body.input_block).__name__ == "UnetResBlock"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_half_types_and_channels_last(name):
    plan = small(name, 2)
    network = build_network(plan, 3).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        heads = network(torch.randn(2, 1, *plan.patch_size).contiguous(memory_format=torch.channels_last))
    assert all(torch.isfinite(head).all() for head in heads)
    assert heads[0].dtype == torch.bfloat16


def test_coarser_heads_keep_their_own_resolution():
    plan = tiny_plan(network=STRIDED, patch_size=(16, 24, 8))
    heads = build_network(plan, 3)(torch.zeros(1, 1, 16, 24, 8))
    assert [tuple(head.shape[2:]) for head in heads] == [(16, 24, 8), (8, 12, 8), (4, 6, 8)]


def test_no_coarser_head_than_the_network_has():
    plan = tiny_plan(network=tiny_network(3, (4, 8, 8), deep_supervision=5))
    assert len(build_network(plan, 2)(torch.zeros(1, 1, 8, 8, 8))) == 2


def test_two_stages_are_enough_for_a_residual_network():
    plan = tiny_plan(network=tiny_network(3, (4, 8), name="unet"))
    assert build_network(plan, 2)(torch.zeros(1, 1, 8, 8, 8))[0].shape == (1, 2, 8, 8, 8)


def test_the_fine_head_is_that_of_monais_network():
    plan = tiny_plan(network=STRIDED, patch_size=(16, 16, 4))
    torch.manual_seed(0)
    ours = build_network(plan, 3).eval()
    theirs = DynUNet(
        *(3, 1, 3, STRIDED.kernels, STRIDED.strides, STRIDED.strides[1:], STRIDED.features),
        norm_name=("INSTANCE", {"affine": True, "eps": 1e-5}),
        deep_supervision=True,
        deep_supr_num=2,
    ).eval()
    theirs.load_state_dict(ours.body.state_dict())
    x = torch.randn(1, 1, 16, 16, 4)
    with torch.inference_mode():
        assert torch.equal(ours(x)[0], theirs(x))


def test_every_head_is_trained():
    network = build_network(tiny_plan(network=STRIDED, patch_size=(16, 16, 4)), 3)
    sum(head.square().sum() for head in network(torch.randn(1, 1, 16, 16, 4))).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_a_plain_network_of_four_stages_has_about_a_million_and_a_half_numbers():
    network = build_network(tiny_plan(network=ISOTROPIC), 3)
    count = count_parameters(network)
    assert count == sum(weight.numel() for weight in network.parameters())
    assert 1.2e6 < count < 1.7e6


def test_planned_topologies_can_be_built():
    for patch, spacing in (((40, 56, 40), (1.0, 1.0, 1.0)), ((64, 64, 12), (0.7, 0.7, 4.0)), ((64, 64, 9), (1.0, 1.0, 1.0))):
        design = Design("dynunet", classes=2, first=4, widest=4, most=4)
        network = design.network(patch, design.topology(patch, spacing))
        size = tuple(-(-edge // d) * d for edge, d in zip(patch, network.divisor, strict=True))
        heads = build_network(tiny_plan(network=network, patch_size=size), 2)(torch.zeros(1, 1, *size))
        assert tuple(heads[0].shape[2:]) == size


def test_a_network_can_be_copied_after_a_step():
    plan = tiny_plan(2)
    network = build_network(plan, 3)
    sum(head.sum() for head in network(torch.randn(2, 1, 8, 8))).backward()
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(copy.deepcopy(network)(x)[0], network(x)[0])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_seed_gives_one_network(name):
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_network(small(name, 2), 3).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
