"""A pass through a network that computes nothing: shapes of its logits, and what a training step keeps for the way back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


@dataclass(frozen=True)
class DryPass:
    """What a pass in training mode would give.

    Attributes:
        heads: shapes of the logits, batch and classes included.
        kept: bytes that the backward pass needs, weights not counted.
        largest: bytes of the largest of these tensors.
    """

    heads: tuple[tuple[int, ...], ...]
    kept: int
    largest: int


def dry_pass(network: nn.Module, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> DryPass:
    """Send a batch through a network without memory or time for its voxels.

    Tensors have shapes and types and no values (PyTorch's FakeTensorMode); a network whose way depends on values is computed.

    Args:
        network: ``(B, C, *window)`` -> list of logits.
        shape: of a batch.
        dtype: in which convolutions are computed.
    """
    kept = {id(parameter): parameter for parameter in network.parameters()}
    twin = copy.deepcopy(network, kept).train()  # what layers remember of the pass goes with it
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return _measured(twin, shape, dtype)
    except RuntimeError:
        return _measured(twin, shape, dtype)


def _measured(network: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> DryPass:
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    held: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            held[storage._cdata] = (tensor, storage.nbytes())  # held, so that no other storage takes its place
        return tensor

    device = next(network.parameters()).device
    layout = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    batch = torch.zeros(tuple(shape), device=device).contiguous(memory_format=layout)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32),
    ):
        heads = network(batch)
    sizes = [size for _, size in held.values()]
    return DryPass(tuple(tuple(head.shape) for head in heads), sum(sizes), max(sizes, default=0))
