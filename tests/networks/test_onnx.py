"""Every network leaves PyTorch as the same function; the backends themselves are tested with prediction."""

import pytest
import torch

from helpers.smallest import small
from voxelry.core.architectures import ARCHITECTURES
from voxelry.core.plan import Region
from voxelry.inference.backends import onnxruntime_forward
from voxelry.networks.build import build_network

REGIONS = (Region(name="all", labels=("x",), label="x"),)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("across", [None, 0])
def test_onnx_gives_the_same_logits(name, across):
    plan = small(name, 2) if across is None else small(name, 3, across=across, regions=REGIONS)
    torch.manual_seed(0)
    network = build_network(plan, 3).eval()
    x = torch.randn(1, 1, *plan.patch_size)
    with torch.inference_mode():
        wanted = network(x)[0]
    assert torch.allclose(onnxruntime_forward(network, torch.device("cpu"), torch.float32)(x), wanted, atol=1e-3)
