"""Dice + cross-entropy over deep supervision, with voxels that count nowhere left out.

Shape legend: B batch, K classes (background first), then spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, one_hot

from voxelry.labels import IGNORE_INDEX

SMOOTH = 1e-5


def dice_ce(logits_BK: Tensor, classes_B: Tensor) -> Tensor:
    """Soft Dice loss over the foreground classes plus cross-entropy, both over the whole batch.

    Dice is summed over the batch before the ratio ("batch Dice"), so that a window without a class does not count as a
    failure (Isensee et al. 2021). Computed in float32: half types lose the sums of large windows.

    Args:
        logits_BK: ``(B, K, *spatial)``.
        classes_B: ``(B, *spatial)`` int64, `IGNORE_INDEX` where a voxel counts nowhere.

    Returns:
        A scalar: (1 - mean Dice) + cross-entropy.
    """
    logits = logits_BK.float()
    known = classes_B != IGNORE_INDEX
    axes = (0, *range(2, logits.ndim))
    target = one_hot(classes_B.clamp(min=0), logits.shape[1]).movedim(-1, 1).float() * known[:, None]
    share = logits.softmax(1) * known[:, None]
    overlap = (share * target).sum(axes)[1:]
    size = (share.sum(axes) + target.sum(axes))[1:]
    dice = (2 * overlap + SMOOTH) / (size + SMOOTH)
    entropy = cross_entropy(logits, classes_B, ignore_index=IGNORE_INDEX, reduction="sum") / known.sum().clamp(min=1)
    return 1 - dice.mean() + entropy


def deep_supervision(heads: list[Tensor], classes_B: Tensor) -> Tensor:
    """`dice_ce` of every head against labels of its own resolution, weighted 1, 1/2, 1/4... and normalised.

    Args:
        heads: logits, finest first.
        classes_B: ``(B, *spatial)`` at the finest resolution.
    """
    weights = [0.5**level for level in range(len(heads))]
    total = torch.zeros((), device=classes_B.device)
    for weight, logits in zip(weights, heads, strict=True):
        total = total + weight / sum(weights) * dice_ce(logits, _reduced(classes_B, logits.shape[2:]))
    return total


def _reduced(classes_B: Tensor, shape: torch.Size) -> Tensor:
    """Labels at a head's resolution, nearest neighbour."""
    if classes_B.shape[1:] == shape:
        return classes_B
    return interpolate(classes_B[:, None].float(), size=tuple(shape), mode="nearest-exact")[:, 0].long()
