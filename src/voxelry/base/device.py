"""Compute device by name, and the number type for mixed precision. PyTorch is imported only when they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxelry.errors import UsageError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is the first GPU, else the CPU.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: the device does not exist or cannot be used.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device '{name}' cannot be used: {reason}", remedy="Use 'auto', 'cpu' or 'cuda'.") from error
    return device


def compute_dtype(device: torch.device, mixed_precision: str) -> torch.dtype:
    """The type in which convolutions are computed: a half type where the device has units for it, else float32.

    On a CPU bfloat16 is faster where it has matrix tiles (AMX) or bfloat16 vector instructions; elsewhere it is emulated and
    slow.
    """
    import torch

    if mixed_precision == "off":
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return torch.bfloat16 if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else torch.float32
    return torch.float32
