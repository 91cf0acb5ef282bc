"""Lesions of two dates: which are kept, new, gone, split or merged.

Each lesion of the second examination is carried into the first by the registration. Two lesions are the same where they share a
tenth of the smaller one, or lie within a tolerance of each other that covers the error of the registration. What hangs together
this way is one change: one lesion and one is `kept`, one and several `split`, several and one `merged`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from voxelry.cohort.registration import Registration
from voxelry.core.geometry import Geometry

ChangeKind = Literal["kept", "new", "gone", "split", "merged", "rearranged"]

SHARED = 0.1
"""Least share of the smaller lesion that two dates of one lesion have in common."""


@dataclass(frozen=True)
class LesionChange:
    """A change from the first date to the second.

    Attributes:
        kind: ``rearranged`` where several lesions became several others.
        first: ids at the first date, none where it is new.
        second: ids at the second date, none where it is gone.
        first_volume_mm3, second_volume_mm3: together.

    Example:
        >>> LesionChange("kept", (1,), (4,), 100.0, 150.0).growth
        0.5
    """

    kind: ChangeKind
    first: tuple[int, ...]
    second: tuple[int, ...]
    first_volume_mm3: float
    second_volume_mm3: float

    @property
    def growth(self) -> float | None:
        """Change of volume as a share of the first; None where it is new."""
        return self.second_volume_mm3 / self.first_volume_mm3 - 1 if self.first_volume_mm3 else None


def lesion_changes(
    first: NDArray[np.integer[Any]],
    first_grid: Geometry,
    second: NDArray[np.integer[Any]],
    second_grid: Geometry,
    registration: Registration | None = None,
    tolerance: float = 2.0,
) -> list[LesionChange]:
    """Match the lesions of two dates.

    Args:
        first: ``(*spatial)`` lesion ids of the first date, 0 for none.
        first_grid: its grid, of a volume.
        second: ``(*spatial)`` lesion ids of the second date.
        second_grid: its grid, of a volume.
        registration: from the first examination (fixed) to the second (moving); None where they lie in one space.
        tolerance: mm by which lesions of one kind may miss each other.

    Returns:
        Changes: those with lesions of the first date in the order of their ids, then new ones.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry
        >>> before = np.zeros((10, 10, 10), np.uint8)
        >>> before[2:5, 2:5, 2:5] = 1
        >>> after = np.zeros_like(before)
        >>> after[1:6, 1:6, 1:6] = 7
        >>> grid = Geometry.from_spacing((10, 10, 10), (1, 1, 1))
        >>> [change] = lesion_changes(before, grid, after, grid)
        >>> change.kind, change.first, change.second, change.second_volume_mm3
        ('kept', (1,), (7,), 125.0)
    """
    first_ids, first_counts = _ids(first)
    second_ids, second_counts = _ids(second)
    votes = np.zeros((len(first_ids), len(second_ids)))
    if len(first_ids) and len(second_ids):
        near = _grown(first, first_grid, tolerance)
        points = np.argwhere(second)
        matrix = np.eye(4) if registration is None else np.linalg.inv(registration.matrix)
        voxel_map = np.linalg.inv(np.asarray(first_grid.affine)) @ matrix @ np.asarray(second_grid.affine)
        places = np.rint(points @ voxel_map[:3, :3].T + voxel_map[:3, 3]).astype(np.int64)
        inside = ((places >= 0) & (places < np.array(first.shape))).all(axis=1)
        there = near[tuple(places[inside].T)]
        rows = np.searchsorted(first_ids, there[there > 0])
        columns = np.searchsorted(second_ids, second[tuple(points[inside][there > 0].T)])
        np.add.at(votes, (rows, columns), 1)
    volume_of_first = first_counts.astype(np.float64) * _voxel_volume(first_grid)
    volume_of_second = second_counts.astype(np.float64) * _voxel_volume(second_grid)
    smaller = np.minimum(volume_of_first[:, None], volume_of_second[None])
    linked = votes * _voxel_volume(second_grid) >= SHARED * smaller
    linked &= votes > 0
    return _changes(linked, first_ids, second_ids, volume_of_first, volume_of_second)


def _changes(
    linked: NDArray[np.bool_],
    first_ids: NDArray[np.int64],
    second_ids: NDArray[np.int64],
    first_volumes: NDArray[np.float64],
    second_volumes: NDArray[np.float64],
) -> list[LesionChange]:
    """What hangs together by links."""
    n, m = linked.shape
    rows, columns = np.nonzero(linked)
    graph = coo_array((np.ones(len(rows)), (rows, n + columns)), shape=(n + m, n + m))
    count, group = connected_components(graph, directed=False)
    changes = []
    for number in range(count):
        members = np.flatnonzero(group == number)
        own, other = members[members < n], members[members >= n] - n
        changes.append(
            LesionChange(
                _kind(len(own), len(other)),
                tuple(first_ids[own].tolist()),
                tuple(second_ids[other].tolist()),
                float(first_volumes[own].sum()),
                float(second_volumes[other].sum()),
            )
        )
    return sorted(changes, key=lambda change: (not change.first, change.first, change.second))


def _kind(before: int, after: int) -> ChangeKind:
    if not before:
        return "new"
    if not after:
        return "gone"
    if before == after == 1:
        return "kept"
    if before == 1:
        return "split"
    return "merged" if after == 1 else "rearranged"


def _ids(array: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids, counts = np.unique(array[array > 0], return_counts=True)
    return ids.astype(np.int64), counts.astype(np.int64)


def _voxel_volume(grid: Geometry) -> float:
    assert grid.voxel_volume is not None
    return grid.voxel_volume


def _grown(ids: NDArray[np.integer[Any]], grid: Geometry, tolerance: float) -> NDArray[np.int64]:
    """Ids grown by a distance in mm, each voxel to the lesion nearest to it."""
    distance, nearest = distance_transform_edt(ids == 0, sampling=grid.spacing, return_indices=True)
    grown: NDArray[np.int64] = np.where(distance <= tolerance, ids[tuple(nearest)], 0).astype(np.int64)
    return grown
