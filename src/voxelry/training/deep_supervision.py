"""Deep supervision: the weights of a network's heads, and labels on the grid of a coarser one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def head_weights(count: int) -> list[float]:
    """Weights of heads, finest first: 1, 1/2, 1/4..., normalised; the coarsest of three or more has none (nnU-Net's rule)."""
    halves = [0.5**level for level in range(count)]
    if count > 2:
        halves[-1] = 0.0
    return [half / sum(halves) for half in halves]


def reduced(classes_B: Tensor, shape: Sequence[int]) -> Tensor:
    """Labels on the grid of a coarser head: the voxel nearest to the centre of each coarser voxel, on a tie the later one.

    Args:
        classes_B: ``(B, *spatial)`` integers.
        shape: the new spatial shape.

    Returns:
        ``(B, *shape)`` of the same type.
    """
    for axis, (old, new) in enumerate(zip(classes_B.shape[1:], shape, strict=True), start=1):
        if old % new == 0:
            factor = old // new
            classes_B = classes_B[(slice(None),) * axis + (slice(factor // 2, None, factor),)]
        else:
            middles = (2 * torch.arange(new, device=classes_B.device) + 1) * old // (2 * new)
            classes_B = classes_B.index_select(axis, middles)
    return classes_B
