"""Long and short axis of a region in the plane of its slices, as RECIST 1.1 measures lesions.

Eisenhauer et al. 2009, New response evaluation criteria in solid tumours: revised RECIST guideline (version 1.1), European
Journal of Cancer 45:228. The long axis is the longest straight line between the edges of the region within one slice; the short
axis is the longest line across it, in the same slice, at a right angle to the long axis.

Here: edges are the middles of voxel sides, half a spacing from a voxel's centre, so that a lone voxel has its spacing as
diameter and a disc of voxels is not made larger by its corners (the vertices that marching squares would give a mask). Parts
of a slice that touch nowhere, not even at a corner, are measured apart: a line does not leave the region for another. A bay
may be crossed. The short axis is measured across the convex hull of the part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label
from scipy.spatial import ConvexHull

_CORNERS_TOUCH = np.ones((3, 3), dtype=bool)

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Diameters:
    """The axes of a region.

    Attributes:
        long_mm, short_mm: in mm.
        slice: index of the slice along the third axis.
        ends: ``(2, 2)``: where the long axis begins and ends, in voxels along the first two axes.
    """

    long_mm: float
    short_mm: float
    slice: int
    ends: tuple[tuple[float, float], tuple[float, float]]


def diameters(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> Diameters | None:
    """The axes of a region in the slice where the long axis is longest; the first such slice where several are equal.

    Args:
        mask: ``(A, B, slices)`` bool.
        spacing: mm along the first two axes, which are perpendicular.

    Returns:
        The axes, None for an empty mask.
    """
    step = np.array(spacing)
    best: tuple[float, int, Points] | None = None
    for bound, k, part, corner in _parts(mask, step):
        if best is not None and bound <= best[0] * (1 + 1e-9):
            break
        hull = _hull(_edge_points(part) + corner) * step
        length = float(_lengths(hull).max())
        if best is None or length > best[0] * (1 + 1e-9):
            best = length, k, hull
    if best is None:
        return None
    length, k, hull = best
    first, second = np.unravel_index(int(_lengths(hull).argmax()), (len(hull), len(hull)))
    ends = hull[[first, second]] / step
    return Diameters(length, _widest_chord(hull, hull[second] - hull[first]), k, (_pair(ends[0]), _pair(ends[1])))


def _pair(point: Points) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _parts(mask: NDArray[np.bool_], step: Points) -> list[tuple[float, int, NDArray[np.bool_], Points]]:
    """The connected parts of every slice: no line in it can be longer than this, slice, mask, corner; longest first."""
    parts = []
    for k in np.flatnonzero(mask.any(axis=(0, 1))).tolist():
        numbered, _ = label(mask[:, :, k], structure=_CORNERS_TOUCH)
        for number, box in enumerate(find_objects(numbered), start=1):
            corner = np.array([box[0].start, box[1].start], dtype=np.float64)
            part = numbered[box] == number
            parts.append((float(np.linalg.norm(part.shape * step)), int(k), part, corner))
    return sorted(parts, key=lambda part: (-part[0], part[1]))


def _edge_points(part: NDArray[np.bool_]) -> Points:
    """``(n, 2)`` middles of the outermost voxel sides of each row and column: their hull is the hull of all."""
    points = []
    for axis in (0, 1):
        lines = part if axis == 0 else part.T
        at = np.flatnonzero(lines.any(axis=0))
        first = lines[:, at].argmax(axis=0) - 0.5
        last = lines.shape[0] - lines[::-1, at].argmax(axis=0) - 0.5
        for along in (first, last):
            points += [np.column_stack([along, at] if axis == 0 else [at, along])]
    return np.concatenate(points).astype(np.float64)


def _hull(points: Points) -> Points:
    """The corners of the convex hull, in order around it."""
    corners: Points = points[ConvexHull(points).vertices]
    return corners


def _lengths(hull: Points) -> Points:
    apart: Points = np.linalg.norm(hull[:, None] - hull[None], axis=-1)
    return apart


def _widest_chord(hull: Points, along: Points) -> float:
    """The longest line across a convex polygon at a right angle to `along`; it ends at a corner."""
    unit = along / np.linalg.norm(along)
    place = hull @ unit
    height = hull @ np.array([-unit[1], unit[0]])
    low, high = int(place.argmin()), int(place.argmax())
    one, other = _side(low, high, len(hull)), _side(high, low, len(hull))
    first: Any = np.interp(place, place[one], height[one])
    second: Any = np.interp(place, place[other[::-1]], height[other[::-1]])
    return float(np.abs(first - second).max())


def _side(start: int, stop: int, count: int) -> list[int]:
    """Indices around the polygon from one corner to another, both included."""
    return [(start + step) % count for step in range((stop - start) % count + 1)]
