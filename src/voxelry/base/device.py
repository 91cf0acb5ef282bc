"""Compute device by name, and the number type for mixed precision. PyTorch is imported only when they are called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from voxelry.errors import UsageError

_DEVICE = re.compile(r"cpu|cuda(:\d+)?", re.ASCII)
_REMEDY = "Use 'auto', 'cpu', 'cuda' or 'cuda:N'."

if TYPE_CHECKING:
    import torch


def check_device_name(name: str) -> None:
    """Refuse what is no name of a device, whether it is there or not.

    Raises:
        UsageError: none of ``auto``, ``cpu``, ``cuda`` and ``cuda:N``.
    """
    if name != "auto" and not _DEVICE.fullmatch(name):
        raise UsageError(f"device '{name}' cannot be used: it is none that voxelry computes on", remedy=_REMEDY)


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is the first GPU, else the CPU.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: the device does not exist or cannot be used.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    check_device_name(name)
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    if name != "cpu" and int(name.partition(":")[2] or 0) >= gpus:
        there = f"this machine has {gpus}, counted from 0" if gpus else "PyTorch finds no GPU on this machine"
        raise UsageError(f"device '{name}' cannot be used: {there}", remedy=_REMEDY)
    device = torch.device(name)
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:
        raise UsageError(
            f"device '{name}' cannot be used: it does not answer",
            remedy="Its driver may be older than this PyTorch, or its memory full. Use 'cpu' meanwhile.",
        ) from error
    return device


def compute_dtype(device: torch.device, mixed_precision: str) -> torch.dtype:
    """The type in which convolutions are computed: a half type where the device has units for it that pass a trial, or float32.

    On a CPU bfloat16 is faster where it has matrix tiles (AMX) or bfloat16 vector instructions; elsewhere it is emulated and
    slow. What a device claims is tried: its convolutions must have steady and right gradients (`voxelry.base.type_trial`).
    """
    import torch

    from voxelry.base.type_trial import is_sound

    half = None if mixed_precision == "off" else _half_type(device)
    return torch.float32 if half is None or not is_sound(device, half) else half


def _half_type(device: torch.device) -> torch.dtype | None:
    """The half type that a device says it computes in."""
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return torch.bfloat16 if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else None
    return None
