"""The loss of a network with an instance head: that of its classes, and the head's.

Border and core are binary: cross-entropy and soft Dice, each a mean of the two. The distance is learnt by smooth L1, inside
objects and outside within one radius of the nearest: beyond that it is -1 everywhere, and nothing depends on it.

Shape legend: B batch, K classes (background first), H channels of the head, N voxels of a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from voxelry.core.labels import IGNORE_INDEX
from voxelry.preparation.instance_targets import BORDER, CORE, FULL
from voxelry.training.deep_supervision import head_weights, reduced
from voxelry.training.soft_counts import soft_counts_of_regions

SMOOTH = 1e-5
"""Added to numerator and denominator of Dice."""

CORNER = 0.1
"""Error of the distance at which its loss turns from squared to linear."""


class InstanceLoss(nn.Module):
    """The loss over all heads of a network, whose channels are those of the classes, then those of the instance head.

    Args:
        semantic: ``(logits_BK, classes_B)`` -> the loss of one head's classes.
        classes: K.
        weight: of the instance head beside the classes.
    """

    def __init__(self, semantic: Callable[[Tensor, Tensor], Tensor], classes: int, weight: float) -> None:
        super().__init__()
        self.semantic, self.classes, self.weight = semantic, classes, weight

    def forward(self, heads: Sequence[Tensor], targets_B: Tensor) -> Tensor:
        """The losses of all heads, weighted by `head_weights`.

        Args:
            heads: ``(B, K + H, *spatial)``, finest first.
            targets_B: ``(B, 3, *spatial)`` integers at the finest resolution: class indices, `IGNORE_INDEX` where a voxel counts
                nowhere; parts; and distances times `FULL`.

        Returns:
            A scalar, float32.
        """
        losses = []
        for weight, logits in zip(head_weights(len(heads)), heads, strict=True):
            if not weight:
                continue
            targets = torch.stack([reduced(plane_B, logits.shape[2:]) for plane_B in targets_B.unbind(1)], 1)
            semantic = self.semantic(logits[:, : self.classes], targets[:, 0])
            losses.append(weight * (semantic + self.weight * head_loss(logits[:, self.classes :], targets)))
        return torch.stack(losses).sum()


def head_loss(outputs_BH: Tensor, targets_B: Tensor) -> Tensor:
    """The loss of one instance head against targets of its own resolution."""
    outputs_BHN, targets_BN = outputs_BH.float().flatten(2), targets_B.flatten(2)
    classes, parts, distance = targets_BN.unbind(1)
    counted = classes != IGNORE_INDEX
    inside = torch.stack([parts == BORDER, parts == CORE], 1)
    counts = soft_counts_of_regions(outputs_BHN[:, :2], inside, counted)
    overlap, predicted, truth = counts.pooled()
    dice = (2 * overlap + SMOOTH) / (predicted + truth + SMOOTH)
    cross_entropy = -_mean(counts.log_p.mean(1), counted)
    errors = nn.functional.smooth_l1_loss(outputs_BHN[:, 2], distance / FULL, reduction="none", beta=CORNER)
    return cross_entropy + (1 - dice).mean() + _mean(errors, counted & (distance > -FULL))


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """The mean over some voxels, 0 without any."""
    return (values * where).sum() / where.sum().clamp(min=1)
