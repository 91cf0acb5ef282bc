"""PassAgreement: Dice between the first pass of each patch and its other ones, by other members or over mirrored copies."""

from __future__ import annotations

import torch
from torch import Tensor

from voxelry.inference.patches import Start

EVERY = 2
"""Every second row and column of a patch is compared: a quarter of the voxels tells the same."""


class PassAgreement:
    """Counts, patch by patch, the voxels on which the passes of the networks agree; nothing is kept but one winner a voxel.

    Args:
        classes: K, background included.
        passes: passes of each patch: members times mirrored copies.
        regions: whether classes are regions that decide each for itself; else the largest value wins.
    """

    def __init__(self, classes: int, passes: int, regions: bool = False) -> None:
        self.classes, self.passes, self.regions = classes, passes, regions
        self._first: dict[tuple[Start, int], tuple[Tensor, int]] = {}
        self._counts: Tensor | None = None

    def add(self, start: Start, dz: int, values_K: Tensor) -> None:
        """Compare a pass of some slices of a patch with the first pass of the same slices.

        Args:
            start: of the patch.
            dz: number of the first of the slices.
            values_K: ``(K, n, q, r)`` logits or probabilities, upright; of regions above 0 inside. Channels of a head behind
                them are passed over.
        """
        if self.passes < 2:
            return
        winners = self._winners(values_K[: self.classes, :, ::EVERY, ::EVERY])
        first, done = self._first.pop((start, dz), (None, 0))
        if first is not None:
            self._count(first, winners)
        if done + 1 < self.passes:
            self._first[start, dz] = (winners if first is None else first), done + 1

    @property
    def dice(self) -> list[float | None]:
        """Dice of each class between the first pass and the others, the background's None; None where none won a voxel.

        Empty where there is a single pass.
        """
        if self.passes < 2:
            return []
        if self._counts is None:
            return [None] * self.classes
        both, sizes = self._counts.cpu().tolist()
        return [None, *(2 * both[k] / sizes[k] if sizes[k] else None for k in range(1, self.classes))]

    def _winners(self, values_K: Tensor) -> Tensor:
        """The class of each voxel; of regions ``(K, ...)`` whether it is inside."""
        if self.regions:
            return values_K > 0
        return values_K.max(0).indices.to(torch.uint8 if self.classes <= 256 else torch.int16)

    def _count(self, first: Tensor, other: Tensor) -> None:
        """Add to ``(2, K)``: voxels of both, and of each added up."""
        if self._counts is None:
            self._counts = torch.zeros((2, self.classes), dtype=torch.int64, device=first.device)
        if self.regions:
            axes = tuple(range(1, first.ndim))
            both, sizes = (first & other).sum(axes), first.sum(axes) + other.sum(axes)
        else:
            pairs = (first.long() * self.classes + other.long()).ravel()
            table = torch.zeros(self.classes**2, dtype=torch.int64, device=pairs.device)
            table = table.scatter_add_(0, pairs, torch.ones_like(pairs)).view(self.classes, self.classes)
            both, sizes = table.diagonal(), table.sum(0) + table.sum(1)
        self._counts += torch.stack([both, sizes])
