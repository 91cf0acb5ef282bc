"""Linear interpolation along one axis: the two voxels that each new voxel lies between."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from voxelry.preparation.interpolation import resampling_operator


@dataclass(frozen=True, eq=False)
class Cells:
    """Where new voxels lie between old ones.

    Attributes:
        below: ``(n,)`` int64, the old voxel before each new one.
        above: ``(n,)`` int64, the old voxel behind it; the same where the new voxel lies on an old one.
        part: ``(n,)`` float32, 0..1, how far it lies from the one to the other.
    """

    below: NDArray[np.int64]
    above: NDArray[np.int64]
    part: NDArray[np.float32]

    @classmethod
    def of(cls, old: int, new: int, order: int = 1) -> Cells:
        """The cells that bring an axis of `old` voxels to `new` ones over the same stretch of space (`resampling_operator`).

        Args:
            old: voxels before.
            new: voxels after.
            order: 1, or 0 for the nearest voxel.
        """
        start, weights = resampling_operator(old, new, order)
        part = weights[:, -1] if weights.shape[1] > 1 else np.zeros(new, np.float32)
        end = start + weights.shape[1] - 1
        below, above = np.where(part == 1, end, start), np.where(part == 0, start, end)
        return cls(below, above, np.where(below == above, np.float32(0), part))

    def __len__(self) -> int:
        return len(self.below)

    @cached_property
    def pairs(self) -> NDArray[np.uint64]:
        """``(2, n)``, `below` over `above`, as compiled loops take them."""
        return np.stack([self.below, self.above]).astype(np.uint64)

    def slots(self, first: int, last: int, depth: int) -> NDArray[np.int64]:
        """``(last - first, 2)``: the slots of a ring of `depth` that hold the voxels of some cells."""
        return np.ascontiguousarray(np.stack([self.below[first:last], self.above[first:last]], axis=1) % depth)
