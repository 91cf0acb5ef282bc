"""ForegroundRuns: stretches of foreground voxels of a scan, joined to objects and peaks that are not finished yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ForegroundRuns:
    """Runs of foreground voxels, in the order of their rows (`instance_kernels`).

    Attributes:
        rows: ``(R,)`` int32.
        starts: ``(R,)`` int32, the first voxel of each.
        stops: ``(R,)`` int32, the voxel to stop before.
        values: ``(R,)`` uint16.
        objects: ``(R,)`` int32, the first run of the foreground that each belongs to.
        seeds: ``(R,)`` int32, the first run of the peak that each belongs to.
        marked: ``(R,)`` bool, those with a voxel that stood high before smoothing.
    """

    rows: NDArray[np.int32]
    starts: NDArray[np.int32]
    stops: NDArray[np.int32]
    values: NDArray[np.uint16]
    objects: NDArray[np.int32]
    seeds: NDArray[np.int32]
    marked: NDArray[np.bool_]

    @classmethod
    def empty(cls, count: int = 0) -> ForegroundRuns:
        """Runs to be written; each is its own object and seed."""
        rows, starts, stops = (np.empty(count, np.int32) for _ in range(3))
        objects, seeds = (np.arange(count, dtype=np.int32) for _ in range(2))
        return cls(rows, starts, stops, np.empty(count, np.uint16), objects, seeds, np.ones(count, np.bool_))

    def __len__(self) -> int:
        return len(self.rows)

    def with_new(self, new: ForegroundRuns) -> ForegroundRuns:
        """These, and new ones behind them."""
        shift = np.int32(len(self))
        return ForegroundRuns(
            np.concatenate([self.rows, new.rows]),
            np.concatenate([self.starts, new.starts]),
            np.concatenate([self.stops, new.stops]),
            np.concatenate([self.values, new.values]),
            np.concatenate([self.objects, new.objects + shift]),
            np.concatenate([self.seeds, new.seeds + shift]),
            np.concatenate([self.marked, new.marked]),
        )

    def of(self, mask: NDArray[np.bool_]) -> ForegroundRuns:
        """Those of some whole objects."""
        number = np.cumsum(mask, dtype=np.int32) - np.int32(1)
        objects, seeds = number[self.objects[mask]], number[self.seeds[mask]]
        rows, starts, stops = self.rows[mask], self.starts[mask], self.stops[mask]
        return ForegroundRuns(rows, starts, stops, self.values[mask], objects, seeds, self.marked[mask])
