"""Rasterisation of closed planar contours, such as those of an RTSTRUCT, into the mask of one slice.

The rule of inclusion, the same for every contour:

* a voxel belongs to a contour if its centre lies inside by the even-odd rule, so that a keyhole (a contour that runs along a
  channel to a hole and back) encloses a hole;
* a centre within `EDGE_TOLERANCE` of the contour itself belongs too: contours traced through voxel centres, as by many writers,
  keep their rim and their one-voxel structures, and rounding of coordinates has no effect. Contours traced along voxel
  edges pass half a voxel from any centre and give back exactly their mask.

Contours of one structure on one slice are combined from the largest to the smallest: a contour that lies wholly within the voxels
filled so far is a hole, whose rim stays (so an island in a hole is filled again); any other is added. Where two overlap only in
part, both are added, and that is counted.

Exclusive contours (CLOSEDPLANAR_XOR, DICOM PS3.3 C.8.8.6.3) are combined by exclusive or instead: a voxel belongs to the
structure if its centre, or a point within `EDGE_TOLERANCE` of it, lies in an odd number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EDGE_TOLERANCE = 0.01
"""Voxels: a voxel's centre within this distance counts as on a contour; coordinates rounded to 0.01 mm stay within it."""

_NEIGHBOURS = EDGE_TOLERANCE * np.array([(0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)])
_MOST_PAIRS = 1 << 21
"""Pairs of an edge and a row that are processed at once."""
_LEVEL = 1e-12

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Filled:
    """The voxels of a slice that contours enclose.

    Attributes:
        start: first voxel of the box, ``(column, row)``.
        inside: ``(columns, rows)`` mask of the box, which lies wholly on the slice; of size 0 where no contour does.
        overlaps: number of contours that overlap others only in part.
        repeated: number of contours that are there before; left out, unless they are exclusive.
        clipped: whether a contour extends beyond the slice.
    """

    start: tuple[int, int]
    inside: NDArray[np.bool_]
    overlaps: int = 0
    repeated: int = 0
    clipped: bool = False


def fill(contours: Sequence[Points], shape: tuple[int, int], *, exclusive: bool = False) -> Filled:
    """Fill the contours of one structure on one slice.

    Args:
        contours: each ``(points, 2)``, column and row in voxels; voxel centres are whole numbers.
        shape: columns and rows of the slice.
        exclusive: they are combined by exclusive or.

    Returns:
        The box that holds them, and their voxels.
    """
    every = np.concatenate(contours)
    limit = np.array(shape) - 1
    reach = np.array([np.floor(every.min(axis=0) - EDGE_TOLERANCE), np.ceil(every.max(axis=0) + EDGE_TOLERANCE)])
    low, high = np.clip(reach[0], 0, limit + 1).astype(int), np.clip(reach[1], -1, limit).astype(int)
    size = np.maximum(high - low + 1, 0)
    clipped = bool((every < -0.5 - EDGE_TOLERANCE).any() or (every > limit + 0.5 + EDGE_TOLERANCE).any())
    unique = _without_duplicates(contours)
    inside, overlaps = np.zeros((int(size[0]), int(size[1])), dtype=bool), 0
    if inside.size and exclusive:
        inside = _odd([points - low for points in contours], inside.shape)
    elif inside.size:
        inside, overlaps = _united([points - low for points in unique], inside.shape)
    return Filled((int(low[0]), int(low[1])), inside, overlaps, len(contours) - len(unique), clipped)


def _united(contours: Sequence[Points], shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], int]:
    """The voxels within contours, without those within holes, and the number of contours that overlap others in part."""
    filled, overlaps = np.zeros(shape, dtype=bool), 0
    for points in sorted(contours, key=_area, reverse=True):
        within, edge = _rasterised(points, shape)
        own = within | edge
        core = within & ~edge
        if core.any() and not (own & ~filled).any():
            filled &= ~core | (core == filled).all()  # the same voxels again are a duplicate, not a hole
        else:
            overlaps += bool((core & filled).any())
            filled |= own
    return filled, overlaps


def _odd(contours: Sequence[Points], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The voxels within an odd number of contours, at their centre or within `EDGE_TOLERANCE` of it."""
    inside = np.zeros(shape, dtype=bool)
    for offset in _NEIGHBOURS:
        odd = np.zeros(shape, dtype=bool)
        for points in contours:
            odd ^= _rasterised(points + offset, shape)[0]
        inside |= odd
    return inside


def _without_duplicates(contours: Sequence[Points]) -> list[Points]:
    distinct: dict[bytes, Points] = {}
    for points in contours:
        distinct.setdefault(np.unique(points.round(4), axis=0).tobytes(), points)
    return list(distinct.values())


@np.errstate(all="ignore")
def _area(points: Points) -> float:
    """The area of a polygon in voxels; 0 for a point or a line."""
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


@np.errstate(all="ignore")  # coordinates of a damaged file may be of any size
def _rasterised(points: Points, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks ``(columns, rows)`` of the centres within a polygon by the even-odd rule, and of those on its outline."""
    columns, rows = shape
    start, end = points, np.roll(points, -1, axis=0)
    swap = (start[:, 1] > end[:, 1]) | ((start[:, 1] == end[:, 1]) & (start[:, 0] > end[:, 0]))
    a, b = (
        np.where(swap[:, None], end, start),
        np.where(swap[:, None], start, end),
    )  # the same both ways along an edge
    crossed, touched = np.zeros(rows * (columns + 1), dtype=np.int64), np.zeros(rows * (columns + 1), dtype=np.int64)
    block = max(1, _MOST_PAIRS // rows)
    for first in range(0, len(a), block):
        edges = slice(first, first + block)
        crossed += _crossings(a[edges], b[edges], shape)
        touched += _touches(a[edges], b[edges], shape)
    masks = [np.cumsum(counts.reshape(rows, columns + 1)[:, :columns], axis=1).T for counts in (crossed, touched)]
    return masks[0] % 2 == 1, masks[1] > 0


def _crossings(a: Points, b: Points, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The number of edges that cross each row just before each centre; an edge includes its lower end, not its upper end."""
    columns, rows = shape
    edge, row = _rows(np.ceil(a[:, 1]), np.ceil(b[:, 1]) - 1, rows)
    share = (row - a[edge, 1]) / (b[edge, 1] - a[edge, 1])  # a slope would overflow where an edge rises by next to nothing
    first = np.nan_to_num(np.ceil(a[edge, 0] + share * (b[edge, 0] - a[edge, 0]))).clip(0, columns).astype(np.int64)
    return np.bincount(row * (columns + 1) + first, minlength=rows * (columns + 1))


def _touches(a: Points, b: Points, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The begins (1) and ends (-1), in each row, of runs of centres within `EDGE_TOLERANCE` of an edge along both axes."""
    columns, rows = shape
    edge, row = _rows(np.ceil(a[:, 1] - EDGE_TOLERANCE), np.floor(b[:, 1] + EDGE_TOLERANCE), rows)
    height = b[edge, 1] - a[edge, 1]
    level = height < _LEVEL  # an edge along the row is near it over its whole length
    enter = np.where(level, 0.0, ((row - EDGE_TOLERANCE - a[edge, 1]) / height).clip(0, 1))
    leave = np.where(level, 1.0, ((row + EDGE_TOLERANCE - a[edge, 1]) / height).clip(0, 1))
    run = b[edge, 0] - a[edge, 0]
    ends = np.nan_to_num(np.stack([a[edge, 0] + enter * run, a[edge, 0] + leave * run]))
    first = np.ceil(ends.min(axis=0) - EDGE_TOLERANCE).clip(0, columns).astype(np.int64)
    last = np.floor(ends.max(axis=0) + EDGE_TOLERANCE).clip(-1, columns - 1).astype(np.int64)
    valid, width = last >= first, columns + 1
    begins = np.bincount(row[valid] * width + first[valid], minlength=rows * width)
    return begins - np.bincount(row[valid] * width + last[valid] + 1, minlength=rows * width)


def _rows(first: Points, last: Points, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of an edge and a row of the slice that it reaches: rows `first` to `last` of each edge."""
    low = first.clip(0, rows).astype(np.int64)
    counts = np.maximum(last.clip(-1, rows - 1).astype(np.int64) - low + 1, 0)
    edge = np.repeat(np.arange(len(low)), counts)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    return edge, low[edge] + within
