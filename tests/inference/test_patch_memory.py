import pytest
import torch
from torch import nn

from helpers.plans import tiny_network, tiny_plan
from voxelry.inference.patch_memory import SCRATCH, patch_bytes
from voxelry.networks.build import build_network

CPU = torch.device("cpu")


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv3d(1, 10, 1), nn.Conv3d(10, 4, 1)

    def forward(self, x):
        return [self.second(self.first(x))]


def test_what_is_alive_at_once_is_counted():
    plan = tiny_plan(patch_size=(32, 32, 32))
    voxels = 4 * 32**3
    assert patch_bytes(Wide(), plan, 4, CPU) == pytest.approx((1 + 10 + max(10 * SCRATCH, 4 * (1 + SCRATCH))) * voxels, rel=0.01)


def test_logits_are_never_forgotten_and_no_hook_stays():
    plan = tiny_plan(patch_size=(32, 32, 32), network=tiny_network(3))
    network = build_network(plan, 60).eval()
    count = patch_bytes(network, plan, 60, CPU)
    assert 60 * 4 * 32**3 < count < 4 * 60 * 4 * 32**3
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())
