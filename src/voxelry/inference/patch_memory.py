"""Memory that a network takes to run one patch: counted on a small patch, and scaled to the whole one."""

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
"""Share of a layer's output copied while it is computed: oneDNN reorders it in blocks of channels, or from a half type."""

SMALL = 2
"""A small patch is this many times the network's divisor, so that its deepest stage has two voxels."""


class _LiveTensors:
    """Adds up the tensors alive between layers, and the copies that a convolution library makes of a layer's output."""

    def __init__(self) -> None:
        self.alive, self.peak = 0, 0
        self.storages: set[int] = set()
        self.thread = threading.get_ident()

    def before_layer(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        """A layer starts: its input may be new (a concatenation)."""
        self._add(inputs, 0)

    def after_layer(self, _: nn.Module, _inputs: tuple[Any, ...], result: Any) -> None:
        """A layer ends: its output is new, unless it wrote in place."""
        self._add((result,), SCRATCH)

    def _add(self, values: tuple[Any, ...], scratch: float) -> None:
        if threading.get_ident() != self.thread:
            return  # another thread uses the network meanwhile
        tensors = [value for value in values if isinstance(value, Tensor)]
        for tensor in tensors:
            self._count(tensor)
        self.peak = max(self.peak, self.alive + int(scratch * sum(tensor.nbytes for tensor in tensors)))

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.storages:
            self.storages.add(key)
            self.alive += size
            weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self.alive -= size
        self.storages.discard(key)


def patch_bytes(network: nn.Module, plan: Plan, classes: int, device: torch.device) -> int:
    """Peak memory of one patch's forward pass in float32, including its logits, without the weights.

    Args:
        network: ``(B, C, *patch)`` -> list of logits.
        plan: patch and channels.
        classes: K.
        device: where the network is.

    Returns:
        Bytes; an estimate from above where convolutions are computed in a half type.
    """
    channels, tensors = input_channels(plan, classes), _LiveTensors()
    small = tuple(min(p, SMALL * d) for p, d in zip(plan.patch_size, plan.network.divisor, strict=True))
    share = math.prod(plan.patch_size) / math.prod(small)
    layers = [layer for layer in network.modules() if next(layer.children(), None) is None]
    hooks = [
        hook
        for layer in layers
        for hook in (layer.register_forward_pre_hook(tensors.before_layer), layer.register_forward_hook(tensors.after_layer))
    ]
    try:
        with torch.inference_mode():
            network(torch.zeros((1, channels, *small), device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return max(int(tensors.peak * share), 4 * math.prod(plan.patch_size) * (channels + classes + plan.head_channels))
