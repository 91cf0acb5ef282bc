"""Every network is the same function in every backend; the backends themselves are tested with prediction."""

import pytest
import torch

from helpers.smallest import small
from voxelry.core.architectures import ARCHITECTURES
from voxelry.core.plan import Region
from voxelry.inference.backends import BACKENDS
from voxelry.networks.build import build_network

REGIONS = (Region(name="all", labels=("x",), label="x"),)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["2D", "3D", "slices"])
def test_backends_give_the_same_logits(name, kind):
    plan = small(name, int(kind[0])) if kind != "slices" else small(name, 3, across=0, regions=REGIONS)
    torch.manual_seed(0)
    network = build_network(plan, 3).eval()
    x = torch.randn(1, 1, *plan.patch_size)
    with torch.inference_mode():
        wanted = network(x)[0]
    for backend in ("torch", "openvino", "onnxruntime"):
        torch.testing.assert_close(BACKENDS[backend](network, torch.device("cpu"), torch.float32)(x), wanted, atol=2e-4, rtol=0)
