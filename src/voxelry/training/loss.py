"""Losses: Dice with cross-entropy or focal loss, Tversky, generalised Dice; with deep supervision, class weights and regions.

`LOSSES` is the table of them. The overlap term leaves the background out (except generalised Dice, whose weights make it light).
Ignored voxels count nowhere. Everything is computed in float32: half types lose the sums of large patches. Definitions are
MONAI's, with one exception: class weights are relative, so that they shift the balance of classes and not the size of the loss.

Shape legend: B batch, K channels (background first), N voxels of a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxelry.core.label_combinations import LabelCombinations
from voxelry.core.labels import IGNORE_INDEX, LabelTable
from voxelry.core.plan import Plan
from voxelry.errors import ConfigError, nearest
from voxelry.networks.build import head_channels
from voxelry.networks.classes import check_regions, class_members
from voxelry.recipes.settings import LossSettings
from voxelry.training.deep_supervision import head_weights, reduced
from voxelry.training.instance_loss import InstanceLoss
from voxelry.training.soft_counts import SoftCounts, soft_counts_of_classes, soft_counts_of_regions

SMOOTH = 1e-5
"""Added to numerator and denominator of every ratio, as in nnU-Net (Isensee et al. 2021): a class absent from both scores 1."""

OverlapTerm = Callable[[LossSettings, Tensor, Tensor, Tensor, Tensor], Tensor]
"""``(settings, overlap, predicted, truth, weights)`` -> a scalar: soft counts of each class ``(B, K)``, weights ``(K,)``."""

VoxelTerm = Callable[[LossSettings, Tensor], Tensor]
"""``(settings, log_p)`` -> the loss of each voxel, of the shape of `log_p`, the log probability of the true class."""


@dataclass(frozen=True)
class LossKind:
    """A row of `LOSSES`.

    Attributes:
        text: description of the loss in one line, with its source.
        overlap: the term of soft counts.
        voxelwise: the term of single voxels that is added to it, None without one.
        settings: the keys of `LossSettings` that are this loss's own.
        background: the overlap term includes the background.
    """

    text: str
    overlap: OverlapTerm
    voxelwise: VoxelTerm | None = None
    settings: tuple[str, ...] = ()
    background: bool = False


def _dice(_: LossSettings, overlap: Tensor, predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """One minus soft Dice, a mean over batch and classes."""
    dice = (2 * overlap + SMOOTH) / (predicted + truth + SMOOTH)
    return _weighted_mean((1 - dice).mean(0), weights)


def _tversky(settings: LossSettings, overlap: Tensor, predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """One minus the Tversky index: false positives weigh alpha, false negatives beta."""
    errors = settings.alpha * (predicted - overlap) + settings.beta * (truth - overlap)
    return _weighted_mean((1 - (overlap + SMOOTH) / (overlap + errors + SMOOTH)).mean(0), weights)


def _generalised_dice(_: LossSettings, overlap: Tensor, predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """One minus generalised Dice: one ratio over all classes, each weighing 1 / (its voxels)^2.

    Weights are relative to the smallest class that is present, which is also the weight of absent classes: in large patches the
    squares would otherwise be lost beside `SMOOTH`.
    """
    smallest = torch.where(truth > 0, truth, torch.inf).amin(1, keepdim=True)
    balance = torch.where(truth > 0, (smallest / truth.clamp(min=1)) ** 2, 1) * weights
    above, below = 2 * (overlap * balance).sum(1), ((predicted + truth) * balance).sum(1)
    return (1 - (above + SMOOTH) / (below + SMOOTH)).mean()


def _cross_entropy(_: LossSettings, log_p: Tensor) -> Tensor:
    """Minus the log probability of the true class."""
    return -log_p


def _focal(settings: LossSettings, log_p: Tensor) -> Tensor:
    """Cross-entropy times ``(1 - p)^gamma`` (equation 4 of the source)."""
    if settings.focal_gamma == 0:
        return -log_p
    return -log_p * (-torch.expm1(log_p)).clamp(min=1e-12) ** settings.focal_gamma


LOSSES: dict[str, LossKind] = {
    "dice_ce": LossKind("soft Dice (Milletari et al. 2016, without squares) + cross-entropy", _dice, _cross_entropy),
    "dice_focal": LossKind("soft Dice + focal loss (Lin et al. 2017)", _dice, _focal, ("focal_gamma",)),
    "tversky": LossKind("Tversky index (Salehi et al. 2017)", _tversky, None, ("alpha", "beta")),
    "generalised_dice": LossKind("generalised Dice (Sudre et al. 2017)", _generalised_dice, background=True),
}
"""Every loss by its name in a recipe. `weights`, `regions` and `batch_dice` of `LossSettings` apply to all of them."""


def make_loss(settings: LossSettings, plan: Plan, table: LabelTable) -> SegmentationLoss | InstanceLoss:
    """The loss that a recipe names; with that of the instance head where the plan has one.

    Args:
        settings: settings of the recipe.
        plan: with the regions, if there are any.
        table: the labels.

    Raises:
        ConfigError: a weight for an unknown label (with regions: an unknown region); regions that do not fit the labels.

    Example:
        >>> import torch
        >>> from voxelry.core.plan import Plan
        >>> from voxelry.core.labels import Label, LabelTable
        >>> from voxelry.recipes.settings import LossSettings
        >>> from voxelry.training import make_loss
        >>> table = LabelTable(labels=(Label(value=1, name="liver"),))
        >>> plan = Plan(
        ...     dimensions=2, channels=("CT",), configuration="2d", normalisation=({"scheme": "image"},), patch_size=(8, 8),
        ...     batch_size=1, network={"features": (4, 8, 8), "strides": ((1, 1), (2, 2), (2, 2)), "kernels": ((3, 3),) * 3},
        ... )
        >>> loss = make_loss(LossSettings(name="dice_focal"), plan, table)
        >>> logits, classes = torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.int64)
        >>> loss([logits], classes).shape
        torch.Size([])
    """
    check_regions(plan, table)
    classes = class_members(plan, table)
    for name in settings.weights:
        if name not in classes:
            kind = "region" if plan.regions else "label"
            raise ConfigError(f"loss.weights names '{name}', which is no {kind}", remedy=nearest(name, classes))
    weights = torch.tensor([1.0, *(settings.weights.get(name, 1.0) for name in classes)])
    members = None
    if plan.regions:
        members = torch.zeros((len(classes), LabelCombinations(table).count + 1), dtype=torch.bool)
        for row, indices in zip(members, classes.values(), strict=True):
            row[list(indices)] = True
    loss = SegmentationLoss(settings, weights, members)
    return InstanceLoss(loss.of_head, len(weights), settings.instances) if head_channels(plan) else loss


class SegmentationLoss(nn.Module):
    """A loss over all heads of a network. It has no parameters and moves itself to the device of its input.

    Args:
        settings: which loss.
        weights: ``(K,)`` float32, of the background and of each class.
        members: ``(R, classes + 1)`` bool, which class indices lie in which region, the ignored (-1) last; None where the classes
            are the labels.
    """

    weights: Tensor
    members: Tensor | None

    def __init__(self, settings: LossSettings, weights: Tensor, members: Tensor | None = None) -> None:
        super().__init__()
        self.settings, self.kind = settings, LOSSES[settings.name]
        self.weighted = bool((weights != 1).any())
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("members", members, persistent=False)

    def forward(self, heads: Sequence[Tensor], classes_B: Tensor) -> Tensor:
        """The losses of all heads, weighted by `head_weights`.

        Args:
            heads: logits ``(B, K, *spatial)``, finest first; with regions channel 0 is unused.
            classes_B: ``(B, *spatial)`` integers, class indices of labels at the finest resolution, `IGNORE_INDEX` where a voxel
                counts nowhere.

        Returns:
            A scalar, float32 (float64 where logits are).
        """
        if self.weights.device != classes_B.device:
            self.to(classes_B.device)
        losses = [
            weight * self.of_head(logits, reduced(classes_B, logits.shape[2:]))
            for weight, logits in zip(head_weights(len(heads)), heads, strict=True)
            if weight
        ]
        return torch.stack(losses).sum()

    def of_head(self, logits_BK: Tensor, classes_B: Tensor) -> Tensor:
        """The loss of one head against labels of its own resolution."""
        logits = logits_BK if logits_BK.dtype == torch.float64 else logits_BK.float()
        logits_BKN, classes_BN = logits.flatten(2), classes_B.flatten(1).long()
        counted = classes_BN != IGNORE_INDEX
        if self.members is None:
            counts = soft_counts_of_classes(logits_BKN, classes_BN.clamp(min=0), counted)
        else:
            counts = soft_counts_of_regions(logits_BKN[:, 1:], self.members[:, classes_BN].movedim(0, 1), counted)
        loss = self._overlap(counts)
        if self.kind.voxelwise is None:
            return loss
        voxel_losses = self.kind.voxelwise(self.settings, counts.log_p)
        return loss + (
            self._mean_of_classes(voxel_losses, counts, classes_BN)
            if self.members is None
            else self._mean_of_regions(voxel_losses, counts)
        )

    def _overlap(self, counts: SoftCounts) -> Tensor:
        sums = counts.pooled() if self.settings.batch_dice else (counts.overlap, counts.predicted, counts.truth)
        first = 0 if self.kind.background or self.members is not None else 1
        weights = self.weights if self.members is None else self.weights[1:]
        overlap, predicted, truth = (values[:, first:] for values in sums)
        return self.kind.overlap(self.settings, overlap, predicted, truth, weights[first:])

    def _mean_of_classes(self, losses_BN: Tensor, counts: SoftCounts, classes_BN: Tensor) -> Tensor:
        """A mean over counted voxels by the weights of their true classes."""
        counted = counts.counted.to(counts.log_p.dtype)
        weights_BN = self.weights[classes_BN.clamp(min=0)] * counted if self.weighted else counted
        return (weights_BN * losses_BN).sum() / _divisor(weights_BN.sum())

    def _mean_of_regions(self, losses_BKN: Tensor, counts: SoftCounts) -> Tensor:
        """A mean over counted voxels and, by their weights, over regions."""
        counted = counts.counted.to(counts.log_p.dtype)[:, None]
        means = (counted * losses_BKN).sum((0, 2)) / _divisor(counted.sum())
        return _weighted_mean(means, self.weights[1:])


def _weighted_mean(values_K: Tensor, weights_K: Tensor) -> Tensor:
    return (values_K * weights_K).sum() / weights_K.sum()


def _divisor(count: Tensor) -> Tensor:
    """The count, or 1 where everything is ignored: nothing is summed then, and 0 / 1 has no gradient."""
    return torch.where(count > 0, count, torch.ones_like(count))
