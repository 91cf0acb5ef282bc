"""Memory formats in which a network trains fastest."""

from __future__ import annotations

import torch

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
"""By the axes of the images."""


def training_formats(
    network: int, images: int, device: torch.device, dtype: torch.dtype
) -> tuple[torch.memory_format, torch.memory_format]:
    """Memory formats of a network's weights and of its images.

    Channels last, but for 2D networks in float32 on a CPU: oneDNN's gradients of 2D convolutions take a third less time where
    channels come first (docs/lab.md, "Memory formats").

    Args:
        network: axes of its convolutions, 2 or 3.
        images: axes of the patches, 3 also for a network that takes them slice by slice.
        device: where it trains.
        dtype: of its convolutions.
    """
    if network == 2 and device.type == "cpu" and dtype == torch.float32:
        return torch.contiguous_format, torch.contiguous_format
    return CHANNELS_LAST[network], CHANNELS_LAST[images]
