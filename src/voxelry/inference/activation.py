"""How much memory one window costs in a network: counted on a small window, and scaled to the whole one."""

from __future__ import annotations

import math
import threading
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from voxelry.core.plan import Plan
from voxelry.networks.build import input_channels

SCRATCH = 0.5
"""Of a layer's output, taken beside it while it is computed: oneDNN reorders it in blocks of channels, or from a half type."""

SMALL = 2
"""A small window is this many times what the network's axes must be divisible by, so that its deepest stage has two voxels."""


class _Tally:
    """Adds up what is alive between layers, and what a convolution library copies beside a layer's output."""

    def __init__(self) -> None:
        self.alive, self.peak = 0, 0
        self.seen: set[int] = set()
        self.thread = threading.get_ident()

    def entered(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        """A layer starts: its input may be new (a concatenation)."""
        self._alive(given, 0)

    def left(self, _: nn.Module, _given: tuple[Any, ...], result: Any) -> None:
        """A layer ends: its output is new, unless it wrote in place."""
        self._alive((result,), SCRATCH)

    def _alive(self, values: tuple[Any, ...], scratch: float) -> None:
        if threading.get_ident() != self.thread:
            return  # another thread uses the network meanwhile
        tensors = [value for value in values if isinstance(value, Tensor)]
        for tensor in tensors:
            self._count(tensor)
        self.peak = max(self.peak, self.alive + int(scratch * sum(tensor.nbytes for tensor in tensors)))

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.seen:
            self.seen.add(key)
            self.alive += size
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.alive -= size
        self.seen.discard(key)


def window_bytes(network: nn.Module, plan: Plan, classes: int, device: torch.device) -> int:
    """Peak memory of one window's forward pass in float32, its logits included, the weights not.

    Args:
        network: ``(B, C, *window)`` -> list of logits.
        plan: window and channels.
        classes: K.
        device: where the network is.

    Returns:
        Bytes; an estimate from above where convolutions are computed in a half type.
    """
    channels, tally = input_channels(plan, classes), _Tally()
    small = tuple(min(p, SMALL * d) for p, d in zip(plan.patch_size, plan.network.divisor, strict=True))
    share = math.prod(plan.patch_size) / math.prod(small)
    layers = [layer for layer in network.modules() if next(layer.children(), None) is None]
    hooks = [
        hook
        for layer in layers
        for hook in (layer.register_forward_pre_hook(tally.entered), layer.register_forward_hook(tally.left))
    ]
    try:
        with torch.inference_mode():
            network(torch.zeros((1, channels, *small), device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return max(int(tally.peak * share), 4 * math.prod(plan.patch_size) * (channels + classes))
