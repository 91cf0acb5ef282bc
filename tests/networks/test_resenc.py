"""Counts and logits are those of dynamic_network_architectures 0.4 (nnU-Net's), kept as numbers: it is not installed here."""

import pytest
import torch
from torch import nn

from helpers.plans import tiny_network, tiny_plan
from voxelry.networks.build import build_network, count_parameters
from voxelry.networks.resenc import AveragePool3d, ResidualEncoderUNet


def halved(dimensions, stages):
    return ((1,) * dimensions, *((2,) * dimensions,) * (stages - 1)), ((3,) * dimensions,) * stages


SLICES = (
    ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)),
    ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
)
CASES = {
    "hippocampus": (3, (32, 64, 128, 256), halved(3, 4), 3, 1, 25_895_593, 5_601_545),
    "six stages, 13 labels": (3, (32, 64, 128, 256, 320, 320), halved(3, 6), 14, 4, 102_362_022, 31_203_206),
    "pictures": (2, (32, 64, 128, 256, 512, 512, 512), halved(2, 7), 4, 1, 105_919_832, 33_466_296),
    "thick slices": (3, (32, 64, 128, 256, 320, 320), SLICES, 3, 2, 101_273_039, None),
}


def plan_of(name, dimensions, features, topology, channels):
    strides, kernels = topology
    network = tiny_network(dimensions, features, name=name, strides=strides, kernels=kernels, deep_supervision=9)
    patch = tuple(2 * edge for edge in network.divisor)
    return tiny_plan(dimensions, network=network, channels=tuple("abcd"[:channels]), patch_size=patch)


@pytest.mark.parametrize("case", CASES)
def test_as_many_numbers_as_nnunets_residual_encoder(case):
    dimensions, features, topology, classes, channels, count, _ = CASES[case]
    with torch.device("meta"):
        assert count_parameters(build_network(plan_of("resenc", dimensions, features, topology, channels), classes)) == count


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][-1]])
def test_as_many_numbers_as_nnunets_plain_network_without_biases_before_norms(case):
    dimensions, features, topology, classes, channels, _, count = CASES[case]
    with torch.device("meta"):
        assert count_parameters(build_network(plan_of("dynunet", dimensions, features, topology, channels), classes)) == count


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (3, 1, 2)])
def test_blocks_are_averaged_alike_where_every_step_must_be_repeatable(stride, monkeypatch):
    pool, generator = AveragePool3d(stride), torch.Generator().manual_seed(1)
    x = torch.randn((2, 3, 6, 4, 8), dtype=torch.float64, generator=generator, requires_grad=True)
    usual = pool(x)
    weight = torch.randn(usual.shape, dtype=torch.float64, generator=generator)
    (expected,) = torch.autograd.grad((usual * weight).sum(), x)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    monkeypatch.setattr(nn.AvgPool3d, "forward", lambda *_: pytest.fail("torch refuses this on a GPU"))
    torch.testing.assert_close(pool(x), usual)
    torch.testing.assert_close(torch.autograd.grad((pool(x) * weight).sum(), x)[0], expected)


def test_logits_are_nnunets():
    strides = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    kernels = ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    network = ResidualEncoderUNet(3, 2, 3, (4, 6, 8, 8), strides, kernels, (1, 2, 2, 1), coarser_heads=2).train()
    filled(network)
    x = torch.cos(torch.arange(2 * 2 * 8 * 16 * 16, dtype=torch.float64) * 0.11).float().reshape(2, 2, 8, 16, 16)
    heads = network(x)
    sums = [(head.double().sum().item(), head.double().square().sum().item()) for head in heads]
    theirs = [
        (10772.48968344112, 10186.637017215719),
        (-1866.9500003131689, 8341.943762307339),
        (-160.8344395328313, 158.05808559161005),
    ]
    assert [value for pair in sums for value in pair] == pytest.approx([value for pair in theirs for value in pair], rel=1e-4)
    assert heads[0].flatten()[[0, 7, 100]].tolist() == pytest.approx([0.97664541, 0.96896076, 0.97383231], rel=1e-4)


def filled(network):
    """Every parameter by a formula, in the order of registration, as in the run of nnU-Net's own class."""
    with torch.no_grad():
        for number, weight in enumerate(network.parameters()):
            values = torch.sin(torch.arange(weight.numel(), dtype=torch.float64) * 0.37 + number)
            if weight.ndim > 1:
                values *= (2.0 / weight[0].numel()) ** 0.5
            weight.copy_(values.reshape(weight.shape).float())


def test_it_starts_as_nnunets_does():
    torch.manual_seed(0)
    network = ResidualEncoderUNet(2, 1, 2, (64, 64), ((1, 1), (2, 2)), ((3, 3), (3, 3)), (1, 3), coarser_heads=0)
    weight = network.encoder[1][1].first.conv.weight
    assert weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / (64 * 9)) ** 0.5, rel=0.02)  # He et al. 2015, fan in
    assert all(not module.bias.any() for module in network.modules() if isinstance(module, nn.Conv2d))
    assert not network.encoder[1][2].second.adn.N.weight.any()
    x = torch.randn(1, 64, 8, 8)
    assert torch.allclose(network.encoder[1][1](x), nn.functional.leaky_relu(x, 0.01))
