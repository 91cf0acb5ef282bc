"""Linear interpolation along one axis: the two neighbouring voxels of each new voxel, and its fraction between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelry.preparation.interpolation import resampling_operator


@dataclass(frozen=True, eq=False)
class Interp1d:
    """Linear interpolation from one regular axis to another over the same stretch of space.

    Attributes:
        below: ``(n,)`` int64, the old voxel before each new one.
        above: ``(n,)`` int64, the old voxel behind it; the same where the new voxel lies on an old one.
        fraction: ``(n,)`` float32, 0..1, how far it lies from the one to the other.
    """

    below: NDArray[np.int64]
    above: NDArray[np.int64]
    fraction: NDArray[np.float32]

    @classmethod
    def of(cls, old: int, new: int, order: int = 1) -> Interp1d:
        """From an axis of `old` voxels to one of `new` voxels (`voxelry.preparation.interpolation`).

        Args:
            old: voxels before.
            new: voxels after.
            order: 1, or 0 for the nearest voxel.
        """
        start, weights = resampling_operator(old, new, order)
        fraction = weights[:, -1] if weights.shape[1] > 1 else np.zeros(new, np.float32)
        end = start + weights.shape[1] - 1
        below, above = np.where(fraction == 1, end, start), np.where(fraction == 0, start, end)
        return cls(below, above, np.where(below == above, np.float32(0), fraction))

    def __len__(self) -> int:
        return len(self.below)

    @cached_property
    def pairs(self) -> NDArray[np.uint64]:
        """``(2, n)``, `below` over `above`, as compiled loops take them."""
        return np.stack([self.below, self.above]).astype(np.uint64)

    def slots(self, first: int, last: int, depth: int) -> NDArray[np.int64]:
        """``(last - first, 2)`` slots, in a ring buffer of `depth` slices, of the voxels around new voxels `first` to `last`."""
        return np.ascontiguousarray(np.stack([self.below[first:last], self.above[first:last]], axis=1) % depth)


Interp3d = tuple[Interp1d, Interp1d, Interp1d]
"""Linear interpolation along S, Y and X."""


class SlabInterp(NamedTuple):
    """Linear interpolation of some new slices from the slots of a ring buffer, as compiled loops take it.

    Attributes:
        slices: ``(n, 2)`` int64, slots of the slices before and behind each new slice.
        slice_fractions: ``(n,)`` float32, 0..1, how far the new slice lies between them.
        rows: ``(r, 2)`` int64, the rows before and behind each new row.
        row_fractions: ``(r,)`` float32.
        columns: ``(2, m)`` uint64, the columns before each new column, and those behind it.
        column_fractions: ``(m,)`` float32.
    """

    slices: NDArray[np.int64]
    slice_fractions: NDArray[np.float32]
    rows: NDArray[np.int64]
    row_fractions: NDArray[np.float32]
    columns: NDArray[np.uint64]
    column_fractions: NDArray[np.float32]

    @classmethod
    def of(cls, interp: Interp3d, first: int, last: int, depth: int, height: int) -> SlabInterp:
        """Of new slices `first` to `last`.

        Args:
            interp: to the new grid.
            first: new slice.
            last: new slice to stop before.
            depth: slots of the ring buffer.
            height: its rows.
        """
        z, y, x = interp
        rows = y.slots(0, len(y), height)
        return cls(z.slots(first, last, depth), z.fraction[first:last], rows, y.fraction, x.pairs, x.fraction)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n, r, m)`` of the new voxels."""
        return len(self.slices), len(self.rows), self.columns.shape[1]


def interp3d(axes: Sequence[Interp1d]) -> Interp3d:
    """Of a volume's axes S, Y and X, or of a picture's S and X."""
    return (axes[0], axes[1], axes[2]) if len(axes) == 3 else (axes[0], Interp1d.of(1, 1), axes[1])
