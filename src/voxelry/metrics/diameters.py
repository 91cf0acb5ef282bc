"""RECIST 1.1 diameters: the long and short axis of a structure within its slices.

Eisenhauer et al. 2009, New response evaluation criteria in solid tumours: revised RECIST guideline (version 1.1), European
Journal of Cancer 45:228. The long axis is the longest straight line between the edges of the structure within one slice; the
short axis is the longest line at a right angle to it, in the same slice.

Edges are the midpoints of voxel sides, half a spacing from a voxel's centre, so that a single voxel has its spacing as diameter
and a disc of voxels is not enlarged by its corners (marching squares puts the vertices of a mask there too). Components of a
slice (8-connected) are measured separately, so that no line runs from one component to another; it may cross a concavity. The
short axis is measured across the convex hull of the component.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label
from scipy.spatial import ConvexHull

from voxelry.core.measurement import Diameters

_CORNERS_TOUCH = np.ones((3, 3), dtype=bool)

Points = NDArray[np.float64]


def diameters(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> Diameters | None:
    """The axes of a mask in the slice where the long axis is longest; the first such slice where several are equal.

    Args:
        mask: ``(A, B, slices)`` bool.
        spacing: mm along the first two axes, which are perpendicular.

    Returns:
        The axes, None for an empty mask.
    """
    pixel = np.array(spacing)
    best: tuple[float, int, Points] | None = None
    for bound, k, component, corner in _components(mask, pixel):
        if best is not None and bound <= best[0] * (1 + 1e-9):
            break
        hull = _hull(_edge_points(component) + corner) * pixel
        length = float(_lengths(hull).max())
        if best is None or length > best[0] * (1 + 1e-9):
            best = length, k, hull
    if best is None:
        return None
    length, k, hull = best
    first, second = np.unravel_index(int(_lengths(hull).argmax()), (len(hull), len(hull)))
    ends = hull[[first, second]] / pixel
    return Diameters(length, _widest_chord(hull, hull[second] - hull[first]), k, (_pair(ends[0]), _pair(ends[1])))


def _pair(point: Points) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _components(mask: NDArray[np.bool_], pixel: Points) -> list[tuple[float, int, NDArray[np.bool_], Points]]:
    """The components of every slice: an upper bound of the long axis in mm, slice, mask, corner; the largest bound first."""
    components = []
    for k in np.flatnonzero(mask.any(axis=(0, 1))).tolist():
        numbered, _ = label(mask[:, :, k], structure=_CORNERS_TOUCH)
        for number, box in enumerate(find_objects(numbered), start=1):
            corner = np.array([box[0].start, box[1].start], dtype=np.float64)
            component = numbered[box] == number
            components.append((float(np.linalg.norm(component.shape * pixel)), int(k), component, corner))
    return sorted(components, key=lambda component: (-component[0], component[1]))


def _edge_points(component: NDArray[np.bool_]) -> Points:
    """``(n, 2)`` midpoints of the outermost voxel sides of each row and column: their hull is the hull of all."""
    points = []
    for axis in (0, 1):
        lines = component if axis == 0 else component.T
        across = np.flatnonzero(lines.any(axis=0))
        first = lines[:, across].argmax(axis=0) - 0.5
        last = lines.shape[0] - lines[::-1, across].argmax(axis=0) - 0.5
        for along in (first, last):
            points += [np.column_stack([along, across] if axis == 0 else [across, along])]
    return np.concatenate(points).astype(np.float64)


def _hull(points: Points) -> Points:
    """The corners of the convex hull, in order around it."""
    corners: Points = points[ConvexHull(points).vertices]
    return corners


def _lengths(hull: Points) -> Points:
    """``(n, n)`` distances in mm between the corners of a hull."""
    lengths: Points = np.linalg.norm(hull[:, None] - hull[None], axis=-1)
    return lengths


def _widest_chord(hull: Points, along: Points) -> float:
    """The longest line across a convex polygon at a right angle to `along`; it ends at a corner."""
    unit = along / np.linalg.norm(along)
    position = hull @ unit
    height = hull @ np.array([-unit[1], unit[0]])
    low, high = int(position.argmin()), int(position.argmax())
    upward, downward = _side(low, high, len(hull)), _side(high, low, len(hull))
    first: Any = np.interp(position, position[upward], height[upward])
    second: Any = np.interp(position, position[downward[::-1]], height[downward[::-1]])
    return float(np.abs(first - second).max())


def _side(start: int, stop: int, count: int) -> list[int]:
    """Indices around the polygon from one corner to another, both included."""
    return [(start + offset) % count for offset in range((stop - start) % count + 1)]
