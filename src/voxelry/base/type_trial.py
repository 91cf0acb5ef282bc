"""Trial of a half type on the machine at hand: small convolutions, whose gradients must be steady and close to exact ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

log = logging.getLogger(__name__)

TOLERANCE = 0.02
"""Largest error of a value, as a share of the largest value. Rounding to bfloat16 alone makes 0.004."""

REPEATS = 3
"""Times that each convolution is computed."""


@dataclass(frozen=True)
class _Trial:
    """A convolution to try.

    Attributes:
        channels: of its input and output.
        size: voxels of its input along each axis.
        stride: along every axis.
    """

    channels: tuple[int, int]
    size: tuple[int, ...]
    stride: int = 1


_TRIALS = (
    _Trial((1, 8), (5, 6, 7)),
    _Trial((16, 16), (3, 4, 4)),
    _Trial((16, 32), (6, 6, 4), 2),
    _Trial((40, 24), (4, 5, 6)),
    _Trial((1, 8), (9, 12)),
    _Trial((16, 16), (3, 4)),
    _Trial((16, 32), (8, 6), 2),
    _Trial((40, 24), (7, 6)),
)
"""Kernels are three wide. No input is narrower: those are known to fail, and may end the process (`training_dtype` in
`voxelry.networks.cost` keeps networks away from them)."""


@cache
def is_sound(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether convolutions in a half type give the right values and gradients here; tried once a process.

    The outputs and both gradients must be close to those in float64, and on a CPU the same every time.

    Args:
        device: where they would be computed.
        dtype: bfloat16 or float16.
    """
    with torch.inference_mode(False), torch.enable_grad():
        sound = all(_passes(trial, device, dtype) for trial in _TRIALS)
    if not sound:
        log.warning("%s gives wrong or unsteady gradients on this machine: float32 is used", str(dtype).removeprefix("torch."))
    return sound


def _passes(trial: _Trial, device: torch.device, dtype: torch.dtype) -> bool:
    exact = _results(trial, torch.device("cpu"), torch.float64)
    runs = []
    for _ in range(REPEATS):
        _leave_numbers_in_freed_memory()
        runs.append([result.double().cpu() for result in _results(trial, device, dtype)])
    close = all(_is_close(value, wanted) for run in runs for value, wanted in zip(run, exact, strict=True))
    steady = device.type != "cpu" or all(
        torch.equal(value, first) for run in runs for value, first in zip(run, runs[0], strict=True)
    )
    return close and steady


def _is_close(value: Tensor, wanted: Tensor) -> bool:
    return bool((value - wanted).abs().max() <= TOLERANCE * wanted.abs().max())  # false for NaN


def _results(trial: _Trial, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Output, gradient of the input and gradient of the weight, as training computes them: channels last, in autocast."""
    axes, (inputs, outputs) = len(trial.size), trial.channels
    random = torch.Generator().manual_seed(0)
    image_BC = torch.randn((2, inputs, *trial.size), generator=random)
    weight = torch.randn((outputs, inputs, *(3,) * axes), generator=random) / (inputs * 3**axes) ** 0.5
    convolution = torch.nn.functional.conv3d if axes == 3 else torch.nn.functional.conv2d
    half = dtype != torch.float64
    layout = torch.contiguous_format if not half else torch.channels_last_3d if axes == 3 else torch.channels_last
    number = torch.float32 if half else torch.float64
    image_BC, weight = (
        tensor.to(device, number).contiguous(memory_format=layout).requires_grad_() for tensor in (image_BC, weight)
    )
    with torch.autocast(device.type, dtype=dtype, enabled=half):
        output_BC = convolution(image_BC, weight, stride=trial.stride, padding=1)
    slope_BC = torch.randn(output_BC.shape, generator=random).to(device, number)
    (output_BC.to(number) * slope_BC).sum().backward()  # type: ignore[no-untyped-call]
    assert image_BC.grad is not None
    assert weight.grad is not None
    return [output_BC.detach(), image_BC.grad, weight.grad]


def _leave_numbers_in_freed_memory() -> None:
    """So that a library that reads what it never wrote is noticed: fresh memory is often zero."""
    blocks = [torch.full((1 << power,), float("nan")) for power in range(6, 16)]
    del blocks
