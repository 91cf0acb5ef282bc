"""The loss: overlap of classes or regions, and cross-entropy, over deep supervision; ignored voxels count nowhere.

Overlap leaves the background out (but for generalised Dice, whose weights make it light). Everything is computed in float32: half
types lose the sums of large windows. All of it follows MONAI's definitions, with one exception: class weights are shares, so that
they change what matters and not how large the loss is.

Shape legend: B batch, K channels (background first), then spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from voxelry.core.labels import IGNORE_INDEX, LabelTable
from voxelry.core.plan import Plan
from voxelry.errors import ConfigError, nearest
from voxelry.networks.classes import class_members, make_regions
from voxelry.recipes.settings import LossSettings
from voxelry.training.soft_counts import Shares, shares_of_classes, shares_of_regions

SMOOTH = 1e-5
"""Added above and below every ratio, as in nnU-Net (Isensee et al. 2021): a class that is absent and not given scores 1."""

Overlap = Callable[[LossSettings, Tensor, Tensor, Tensor, Tensor], Tensor]
"""``(settings, overlap, given, truth, weights)``, the first three ``(B, K)``, weights ``(K,)`` -> a scalar."""


def make_loss(settings: LossSettings, plan: Plan, table: LabelTable) -> Loss:
    """The loss that a recipe names.

    Args:
        settings: of the recipe.
        plan: with the regions, if there are any.
        table: the labels.

    Raises:
        ConfigError: a weight for something that is no label (where regions are learnt: no region); regions that do not fit the
            labels.
    """
    if plan.regions != make_regions({region.name: region.labels for region in plan.regions}, table):
        known = ", ".join(f"{region.name} known by {region.label}" for region in plan.regions)
        raise ConfigError(
            f"the plan's regions ({known}) do not follow from its labels, or from the recipe's regions", remedy="Plan anew."
        )
    classes = class_members(plan, table)
    for name in settings.weights:
        if name not in classes:
            kind = "region" if plan.regions else "label"
            raise ConfigError(f"loss.weights names '{name}', which is no {kind}", remedy=nearest(name, classes))
    weights = torch.tensor([1.0, *(settings.weights.get(name, 1.0) for name in classes)])
    if not plan.regions:
        return Loss(settings, weights)
    members = torch.zeros((len(classes), len(table) + 2), dtype=torch.bool)
    for row, indices in zip(members, classes.values(), strict=True):
        row[list(indices)] = True
    return Loss(settings, weights, members)


class Loss(nn.Module):
    """A loss over all heads of a network. It has nothing to learn, and follows its input to the device on which that lies.

    Args:
        settings: which loss.
        weights: ``(K,)`` float32, of the background and of each class.
        members: ``(R, labels + 2)`` bool, which class indices lie in which region, the ignored (-1) last; None where the classes
            are the labels.
    """

    weights: Tensor
    members: Tensor | None

    def __init__(self, settings: LossSettings, weights: Tensor, members: Tensor | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.weighted = bool((weights != 1).any())
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("members", members, persistent=False)

    def forward(self, heads: Sequence[Tensor], classes_B: Tensor) -> Tensor:
        """The losses of all heads, weighted by `head_weights`.

        Args:
            heads: logits ``(B, K, *spatial)``, finest first; with regions channel 0 is not looked at.
            classes_B: ``(B, *spatial)`` integers, class indices of labels at the finest resolution, `IGNORE_INDEX` where a voxel
                counts nowhere.

        Returns:
            A scalar, float32 (float64 where logits are).
        """
        if self.weights.device != classes_B.device:
            self.to(classes_B.device)
        parts = [
            weight * self.of_head(logits, reduced(classes_B, logits.shape[2:]))
            for weight, logits in zip(head_weights(len(heads)), heads, strict=True)
            if weight
        ]
        return torch.stack(parts).sum()

    def of_head(self, logits_BK: Tensor, classes_B: Tensor) -> Tensor:
        """The loss of one head against labels of its own resolution."""
        logits = logits_BK if logits_BK.dtype == torch.float64 else logits_BK.float()
        logits_BKN, classes_BN = logits.flatten(2), classes_B.flatten(1).long()
        counted = classes_BN != IGNORE_INDEX
        if self.members is None:
            shares = shares_of_classes(logits_BKN, classes_BN.clamp(min=0), counted)
        else:
            shares = shares_of_regions(logits_BKN[:, 1:], self.members[:, classes_BN].movedim(0, 1), counted)
        loss = self._overlap(shares)
        if self.settings.name not in ("dice_ce", "dice_focal"):
            return loss
        return loss + (self._of_classes(shares, classes_BN) if self.members is None else self._of_regions(shares))

    def _overlap(self, shares: Shares) -> Tensor:
        sums = shares.pooled() if self.settings.batch_dice else (shares.overlap, shares.given, shares.truth)
        skipped = 0 if self.settings.name == "generalised_dice" or self.members is not None else 1
        weights = self.weights if self.members is None else self.weights[1:]
        overlap, given, truth = (one[:, skipped:] for one in sums)
        return OVERLAPS[self.settings.name](self.settings, overlap, given, truth, weights[skipped:])

    def _of_classes(self, shares: Shares, classes_BN: Tensor) -> Tensor:
        """Cross-entropy or focal loss, a mean over counted voxels by the weights of their true classes."""
        counted = shares.counted.to(shares.logs.dtype)
        shown = self.weights[classes_BN.clamp(min=0)] * counted if self.weighted else counted
        return (shown * self._surprise(shares.logs)).sum() / _at_least(shown.sum())

    def _of_regions(self, shares: Shares) -> Tensor:
        """Binary cross-entropy or focal loss, a mean over counted voxels and, by their weights, over regions."""
        counted = shares.counted.to(shares.logs.dtype)[:, None]
        means = (counted * self._surprise(shares.logs)).sum((0, 2)) / _at_least(counted.sum())
        return _weighted_mean(means, self.weights[1:])

    def _surprise(self, logs: Tensor) -> Tensor:
        """Minus the logarithm of a probability p; times ``(1 - p)^gamma`` in the focal loss (Lin et al. 2017, equation 4)."""
        gamma = self.settings.focal_gamma
        if self.settings.name == "dice_ce" or gamma == 0:
            return -logs
        return -logs * (-torch.expm1(logs)).clamp(min=1e-12) ** gamma


def head_weights(count: int) -> list[float]:
    """Weights of heads, finest first: 1, 1/2, 1/4..., normalised; the coarsest of three or more has none (nnU-Net's rule)."""
    halves = [0.5**level for level in range(count)]
    if count > 2:
        halves[-1] = 0.0
    return [half / sum(halves) for half in halves]


def reduced(classes_B: Tensor, shape: Sequence[int]) -> Tensor:
    """Labels on the grid of a coarser head: the voxel nearest to the middle of each coarser one, ties to the one behind.

    Args:
        classes_B: ``(B, *spatial)`` integers.
        shape: the new spatial shape.

    Returns:
        ``(B, *shape)`` of the same type.
    """
    for axis, (old, new) in enumerate(zip(classes_B.shape[1:], shape, strict=True), start=1):
        if old % new == 0:
            step = old // new
            classes_B = classes_B[(slice(None),) * axis + (slice(step // 2, None, step),)]
        else:
            middles = (2 * torch.arange(new, device=classes_B.device) + 1) * old // (2 * new)
            classes_B = classes_B.index_select(axis, middles)
    return classes_B


def _dice(_: LossSettings, overlap: Tensor, given: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """One minus soft Dice (Milletari et al. 2016, without squares), a mean over batch and classes."""
    dice = (2 * overlap + SMOOTH) / (given + truth + SMOOTH)
    return _weighted_mean((1 - dice).mean(0), weights)


def _tversky(settings: LossSettings, overlap: Tensor, given: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """One minus the Tversky index (Salehi et al. 2017): false positives weigh alpha, false negatives beta."""
    wrong = settings.alpha * (given - overlap) + settings.beta * (truth - overlap)
    return _weighted_mean((1 - (overlap + SMOOTH) / (overlap + wrong + SMOOTH)).mean(0), weights)


def _generalised_dice(_: LossSettings, overlap: Tensor, given: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """One minus generalised Dice (Sudre et al. 2017): one ratio over all classes, each weighing 1 / (its voxels)^2.

    Weights are relative to the smallest class that is there, as which absent classes weigh: of large windows the squares would
    else be lost beside `SMOOTH`.
    """
    smallest = torch.where(truth > 0, truth, torch.inf).amin(1, keepdim=True)
    balance = torch.where(truth > 0, (smallest / truth.clamp(min=1)) ** 2, 1) * weights
    above, below = 2 * (overlap * balance).sum(1), ((given + truth) * balance).sum(1)
    return (1 - (above + SMOOTH) / (below + SMOOTH)).mean()


OVERLAPS: dict[str, Overlap] = {
    "dice_ce": _dice,
    "dice_focal": _dice,
    "tversky": _tversky,
    "generalised_dice": _generalised_dice,
}


def _weighted_mean(values_K: Tensor, weights_K: Tensor) -> Tensor:
    return (values_K * weights_K).sum() / weights_K.sum()


def _at_least(count: Tensor) -> Tensor:
    """A divisor: where everything is ignored nothing is summed, and 0 / 1 has no gradient."""
    return torch.where(count > 0, count, torch.ones_like(count))
