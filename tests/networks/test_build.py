import pytest
import torch
from monai.networks.nets import DynUNet

from plans import tiny_network, tiny_plan
from voxelry.config import PlanSettings
from voxelry.errors import UsageError
from voxelry.networks.build import build_network, choose_device, compute_dtype, count_parameters
from voxelry.prepare.planner import MEANS, topology

ISOTROPIC = tiny_network(3, (16, 32, 64, 128), deep_supervision=2)
STRIDED = tiny_network(3, (4, 6, 8, 8), strides=((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2)),
                       kernels=((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3)), deep_supervision=2)  # fmt: skip


@pytest.mark.parametrize("name", ["dynunet", "unet"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_logits_have_the_shape_of_the_window(dimensions, name):
    plan = tiny_plan(dimensions, network=tiny_network(dimensions, name=name), channels=("a", "b"))
    network = build_network(plan, 5)
    heads = network(torch.zeros(2, 2, *plan.patch_size))
    assert heads[0].shape == (2, 5, *plan.patch_size)
    assert len(heads) == (2 if name == "dynunet" else 1)
    assert len(network.eval()(torch.zeros(1, 2, *plan.patch_size))) == 1


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
        network = topology(patch, spacing, MEANS["cpu", 3], PlanSettings(features=(4, 4, 4, 4)))
        window = tuple(-(-edge // d) * d for edge, d in zip(patch, network.divisor, strict=True))
        heads = build_network(tiny_plan(network=network, patch_size=window), 2)(torch.zeros(1, 1, *window))
        assert tuple(heads[0].shape[2:]) == window


def test_one_seed_gives_one_network():
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_network(tiny_plan(), 3).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UsageError, match=r"device 'tpu9' cannot be used.*Use 'auto'"):
        choose_device("tpu9")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"device 'cuda' cannot be used"):
            choose_device("cuda")


def test_computing_types(monkeypatch):
    cpu = torch.device("cpu")
    assert compute_dtype(cpu, "off") is torch.float32
    for found, dtype in (({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16), ({}, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert compute_dtype(cpu, "auto") is dtype
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert compute_dtype(torch.device("cuda"), "auto") is torch.float16
    assert compute_dtype(torch.device("meta"), "auto") is torch.float32
