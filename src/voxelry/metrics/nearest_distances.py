"""Distances from each point of one surface to the nearest point of another on a regular grid: offsets, k-d tree or transform.

Most points of a good segmentation lie within a few voxels of the other surface, and a search through the shortest grid offsets
resolves those; a few remaining points are resolved by a k-d tree, many by a Euclidean distance transform of the box, since a tree
would be slow. All three are exact.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from voxelry.base.threads import pool, slabs

Distances = NDArray[np.float64]
Points = NDArray[np.int32]

_STEPS = 700
_MANY_POINTS = 2_000
_MAX_BOX = 20_000_000
_MAX_CELLS = 60_000_000
_CELLS_A_POINT = 200  # of the box; a search of the tree takes about as long as transforming these


def nearest_distances(points: Points, targets: Points, spacing: tuple[float, ...]) -> Distances:
    """The distance from each point to the nearest target.

    Args:
        points: ``(N, D)`` int32 grid indices, D 2 or 3.
        targets: ``(M, D)`` int32 grid indices.
        spacing: mm along each axis.

    Returns:
        ``(N,)`` float64 mm; infinite if there are no targets.
    """
    distances = np.full(len(points), np.inf)
    if not len(points) or not len(targets):
        return distances
    corner = np.minimum(points.min(axis=0), targets.min(axis=0))
    points, targets = points - corner, targets - corner
    box = tuple(int(size) + 1 for size in np.maximum(points.max(axis=0), targets.max(axis=0)))
    cells = int(np.prod(box))
    if len(points) >= _MANY_POINTS and len(box) == 3 and cells <= _MAX_CELLS:
        _search_steps(points, targets, box, spacing, distances)
    far = np.flatnonzero(np.isinf(distances))
    if len(far) > _MANY_POINTS and len(box) == 3 and cells <= min(_MAX_BOX, _CELLS_A_POINT * len(far)):
        distances[far] = _by_transform(points[far], targets, box, spacing)
    elif len(far):
        tree = cKDTree(targets * np.array(spacing), balanced_tree=False, compact_nodes=True)
        distances[far] = tree.query(points[far] * np.array(spacing), workers=2 if len(far) > _MANY_POINTS else 1)[0]
    return distances


def _search_steps(points: Points, targets: Points, box: tuple[int, ...], spacing: tuple[float, ...], out: Distances) -> None:
    """Write the distances of points that have a target within the `_STEPS` shortest grid steps."""
    from voxelry.metrics.metric_kernels import search_nearby

    occupied = np.zeros(box, dtype=np.uint8)
    occupied[tuple(targets.T)] = 1
    steps, lengths = _nearest_steps(spacing)
    points = np.ascontiguousarray(points)

    def search(stretch: tuple[int, int]) -> None:
        rows = slice(*stretch)
        search_nearby(points[rows], occupied, steps, lengths, out[rows])

    list(pool().map(search, slabs(len(points))))


@lru_cache(maxsize=16)
def _nearest_steps(spacing: tuple[float, ...]) -> tuple[Points, Distances]:
    """The `_STEPS` shortest steps on the grid, shortest first, complete up to the last one's length; and their lengths."""
    reach = min(spacing)
    while True:
        counts = [int(reach / step) for step in spacing]
        axes = [np.arange(-count, count + 1, dtype=np.int32) for count in counts]
        steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(spacing))
        lengths = np.sqrt(((steps * np.array(spacing)) ** 2).sum(axis=1))
        steps, lengths = steps[lengths <= reach], lengths[lengths <= reach]
        if len(steps) >= _STEPS:
            order = np.argsort(lengths, kind="stable")[:_STEPS]
            return np.ascontiguousarray(steps[order]), np.ascontiguousarray(lengths[order])
        reach *= 1.25


def _by_transform(points: Points, targets: Points, box: tuple[int, ...], spacing: tuple[float, ...]) -> Distances:
    """Distances by an exact Euclidean distance transform, whose last axis is only evaluated at the points."""
    from voxelry.metrics.metric_kernels import search_planes, transform_planes

    occupied = np.zeros(box, dtype=np.uint8)
    occupied[tuple(targets.T)] = 1
    along_row, nearest_row = np.empty(box, dtype=np.uint16), np.empty(box, dtype=np.uint16)

    def transform(planes: tuple[int, int]) -> None:
        transform_planes(occupied, spacing[1], spacing[2], *planes, along_row, nearest_row)

    list(pool().map(transform, slabs(box[0])))
    distances, steps, points = np.empty(len(points)), np.array(spacing), np.ascontiguousarray(points)

    def search(stretch: tuple[int, int]) -> None:
        rows = slice(*stretch)
        search_planes(points[rows], steps, along_row, nearest_row, distances[rows])

    list(pool().map(search, slabs(len(points))))
    return distances
