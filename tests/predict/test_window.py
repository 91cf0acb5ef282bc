import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from plans import tiny_network, tiny_plan
from voxelry.networks.build import build_network
from voxelry.predict.window import window_logits

CPU = torch.device("cpu")
KEEP = torch.arange(3)


@pytest.fixture(params=[2, 3])
def setting(request):
    plan = tiny_plan(request.param)
    torch.manual_seed(0)
    return plan, build_network(plan, 3).eval()


def image(shape, seed=1):
    return np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)


def test_a_scan_of_one_window_is_one_forward_pass(setting):
    plan, network = setting
    x = image(plan.patch_size)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)[None])[0][0]
    got = window_logits(network, x, plan, CPU, torch.float32, KEEP)
    assert (got.dtype, got.shape) == (torch.float32, expected.shape)
    assert torch.allclose(got, expected, atol=1e-5)


def test_several_windows_as_monais_inferer_joins_them(setting):
    plan, network = setting
    x = image((13, 9, 17)[: plan.dimensions])
    inferer = SlidingWindowInferer(plan.patch_size, 1, overlap=0.5, mode="gaussian", sigma_scale=0.125)
    with torch.inference_mode():
        expected = inferer(torch.from_numpy(x)[None], lambda windows: network(windows)[0])[0]
    got = window_logits(network, x, plan, CPU, torch.float32, KEEP)
    assert torch.allclose(got, expected, atol=1e-4)


def test_every_voxel_is_seen_however_small_or_odd_the_scan(setting):
    plan, _ = setting
    one = nn.Conv2d(1, 3, 1) if plan.dimensions == 2 else nn.Conv3d(1, 3, 1)

    class Pointwise(nn.Module):
        def forward(self, x):
            return [one(x)]

    for shape in ((1, 1, 1), (3, 8, 5), (8, 8, 8), (21, 7, 11)):
        x = image(shape[: plan.dimensions])
        got = window_logits(Pointwise(), x, plan, CPU, torch.float32, KEEP)
        with torch.inference_mode():
            assert torch.allclose(got, one(torch.from_numpy(x)[None])[0], atol=1e-5)


class Sided(nn.Module):
    """Class 1 where a bright voxel has its dark neighbour before it along an axis, class 2 where behind it."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, x):
        before, behind = x.roll(1, self.axis), x.roll(-1, self.axis)
        return [torch.cat([torch.zeros_like(x), x - before, x - behind], 1)]


def test_mirrored_copies_of_an_equivariant_network_change_nothing():
    twins = torch.tensor([0, 2, 1])
    for dimensions, side in ((3, 0), (2, 1)):
        plain = tiny_plan(dimensions)
        mirrored = tiny_plan(dimensions, flips=tuple(range(dimensions)))
        assert plain.side_axis == side
        x = image(plain.patch_size)
        one = window_logits(Sided(side + 2), x, plain, CPU, torch.float32, twins)
        assert torch.allclose(window_logits(Sided(side + 2), x, mirrored, CPU, torch.float32, twins), one, atol=1e-5)


def test_twins_are_swapped_on_the_side_axis_alone():
    twins = torch.tensor([0, 2, 1])
    x = image((8, 8, 8))
    one = window_logits(Sided(3), x, tiny_plan(), CPU, torch.float32, twins)
    both = window_logits(Sided(3), x, tiny_plan(flips=(1,)), CPU, torch.float32, twins)
    # axis 1 mirrored without a swap: the two sides are averaged
    assert torch.allclose(both[1], (one[1] + one[2]) / 2, atol=1e-5)
    assert not torch.allclose(both[1], one[1], atol=1e-2)


def test_mirrored_copies_are_averaged():
    plan = tiny_plan(flips=(1, 2))
    torch.manual_seed(2)
    network = build_network(plan, 3).eval()
    x = image(plan.patch_size)
    with torch.inference_mode():
        copies = [
            network(torch.from_numpy(x)[None].flip(axes))[0].flip(axes) if axes else network(torch.from_numpy(x)[None])[0]
            for axes in ([], [3], [4], [3, 4])
        ]
    got = window_logits(network, x, plan, CPU, torch.float32, KEEP)
    assert torch.allclose(got, torch.stack(copies).mean(0)[0], atol=1e-5)


def test_half_precision_is_near_single(setting):
    plan, network = setting
    x = image((12, 9, 10)[: plan.dimensions])
    one = window_logits(network, x, plan, CPU, torch.float32, KEEP)
    half = window_logits(network, x, plan, CPU, torch.bfloat16, KEEP)
    assert half.dtype == torch.float32
    assert not torch.equal(one, half)
    assert (one - half).abs().max() < 0.15 * one.abs().max()


def test_strided_windows():
    network = tiny_network(3, strides=((1, 1, 1), (2, 2, 1), (2, 2, 1)), kernels=((3, 3, 1),) * 3)
    plan = tiny_plan(network=network, patch_size=(8, 12, 3))
    got = window_logits(build_network(plan, 3).eval(), image((10, 20, 4)), plan, CPU, torch.float32, KEEP)
    assert got.shape == (3, 10, 20, 4)
    assert torch.isfinite(got).all()
