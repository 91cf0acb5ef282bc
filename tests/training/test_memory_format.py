import pytest
import torch

from helpers.training_cases import loop
from voxelry.networks import cost
from voxelry.training.memory_format import training_formats

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FIRST, LAST, LAST_3D = torch.contiguous_format, torch.channels_last, torch.channels_last_3d


@pytest.mark.parametrize(
    ("axes", "device", "dtype", "formats"),
    [
        ((2, 2), CPU, torch.float32, (FIRST, FIRST)),
        ((2, 3), CPU, torch.float32, (FIRST, FIRST)),  # a network that takes volumes slice by slice
        ((3, 3), CPU, torch.float32, (LAST_3D, LAST_3D)),
        ((2, 2), CPU, torch.bfloat16, (LAST, LAST)),
        ((2, 3), CPU, torch.bfloat16, (LAST, LAST_3D)),
        ((2, 2), GPU, torch.float32, (LAST, LAST)),
        ((3, 3), GPU, torch.float16, (LAST_3D, LAST_3D)),
    ],
)
def test_channels_come_first_in_pictures_of_float32_on_a_cpu(axes, device, dtype, formats):
    assert training_formats(*axes, device, dtype) == formats


@pytest.mark.parametrize(("dimensions", "expected"), [(2, FIRST), (3, LAST_3D)])
def test_a_run_has_its_formats(tmp_path, monkeypatch, dimensions, expected):
    monkeypatch.setattr(cost, "compute_dtype", lambda *_: torch.float32)
    run = loop(tmp_path, dimensions, steps=2)
    kernels = [weight for weight in run.network.parameters() if weight.ndim == dimensions + 2]
    assert all(weight.is_contiguous(memory_format=expected) for weight in kernels)
    assert run.loader.layout == expected
