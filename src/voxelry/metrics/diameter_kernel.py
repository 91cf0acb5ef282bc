"""The compiled search for the long and short axis of a mask: components of each slice, their hulls, the longest lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from voxelry.base.compiled import compiled, jitable, readonly

_TIE = 1 + 1e-9
"""Lengths that differ by less are equal: the first counts."""

_FLAT = 1e-12
_I8, _F8 = types.int64, types.float64


@jitable
def _flood(plane: Any, reached: Any, a: int, b: int, stack: Any, low: Any, high: Any) -> tuple[int, int, int, int]:
    """Mark an 8-connected component from one pixel on; its box, both corners included.

    `low` and `high` get the first and last column of each of its rows, and from ``plane.shape[0]`` on the first and last row of
    each of its columns.
    """
    rows, columns = plane.shape
    first_a, last_a, first_b, last_b = a, a, b, b
    stack[0], count = a * columns + b, 1
    reached[a, b] = True
    while count:
        count -= 1
        a, b = stack[count] // columns, stack[count] % columns
        first_a, last_a, first_b, last_b = min(first_a, a), max(last_a, a), min(first_b, b), max(last_b, b)
        low[a], high[a] = min(low[a], b), max(high[a], b)
        low[rows + b], high[rows + b] = min(low[rows + b], a), max(high[rows + b], a)
        for i in range(max(a - 1, 0), min(a + 2, rows)):
            for j in range(max(b - 1, 0), min(b + 2, columns)):
                if plane[i, j] and not reached[i, j]:
                    reached[i, j] = True
                    stack[count] = i * columns + j
                    count += 1
    return first_a, last_a, first_b, last_b


@jitable
def _hull(rows: int, box: tuple[int, int, int, int], low: Any, high: Any, bottom: Any, top: Any, hull: Any) -> int:
    """The corners of the convex hull of the middles of a component's outermost sides, in order around it; their number.

    Args:
        rows: of the plane.
        box: as of `_flood`.
        low: as `_flood` leaves it.
        high: likewise.
        bottom: gets the lowest point at every half row.
        top: gets the highest.
        hull: gets the corners, row and column in pixels.
    """
    first_a, last_a, first_b, last_b = box
    steps = 2 * (last_a - first_a) + 3
    for k in range(steps):
        bottom[k], top[k] = np.inf, -np.inf
    for a in range(first_a, last_a + 1):
        k = 2 * (a - first_a) + 1
        bottom[k], top[k] = low[a] - 0.5, high[a] + 0.5
    for b in range(first_b, last_b + 1):
        for k in (2 * (low[rows + b] - first_a), 2 * (high[rows + b] - first_a) + 2):
            bottom[k], top[k] = min(bottom[k], b), max(top[k], b)
    count = 0
    for side in range(2):
        begin = count
        for step in range(steps):
            k = step if side == 0 else steps - 1 - step
            y = bottom[k] if side == 0 else top[k]
            if not np.isfinite(y):
                continue
            x = first_a + 0.5 * (k - 1)
            while count - begin > 1:
                ax, ay, bx, by = hull[count - 2, 0], hull[count - 2, 1], hull[count - 1, 0], hull[count - 1, 1]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > _FLAT:
                    break
                count -= 1
            hull[count, 0], hull[count, 1] = x, y
            count += 1
    return count


@jitable
def _chord(hull: Any, count: int, along_x: float, along_y: float) -> float:
    """The longest line across a convex polygon at a right angle to a direction; it ends at a corner."""
    length = np.hypot(along_x, along_y)
    ux, uy = along_x / length, along_y / length
    widest = 0.0
    for i in range(count):
        at = hull[i, 0] * ux + hull[i, 1] * uy
        least, most = np.inf, -np.inf
        for j in range(count):
            k = (j + 1) % count
            t, t_next = hull[j, 0] * ux + hull[j, 1] * uy, hull[k, 0] * ux + hull[k, 1] * uy
            if min(t, t_next) > at + _FLAT or max(t, t_next) < at - _FLAT:
                continue
            height, height_next = hull[j, 1] * ux - hull[j, 0] * uy, hull[k, 1] * ux - hull[k, 0] * uy
            if abs(t_next - t) < _FLAT:
                least, most = min(least, height, height_next), max(most, height, height_next)
            else:
                there = height + (height_next - height) * min(1.0, max(0.0, (at - t) / (t_next - t)))
                least, most = min(least, there), max(most, there)
        widest = max(widest, most - least)
    return widest


@jitable
def _scale(hull: Any, count: int, step_a: float, step_b: float) -> None:
    """Bring the corners of a polygon from pixels to mm."""
    for i in range(count):
        hull[i, 0], hull[i, 1] = hull[i, 0] * step_a, hull[i, 1] * step_b


@jitable
def _forget(low: Any, high: Any, first: int, last: int, size: int) -> None:
    """Make the extents of lines `first` to `last` empty."""
    for line in range(first, last + 1):
        low[line], high[line] = size, -1


@compiled(types.UniTuple(_F8, 7)(readonly(types.boolean, 3, "A"), _F8, _F8))
def longest_axes(mask: NDArray[np.bool_], step_a: float, step_b: float) -> Any:
    """The axes of a mask in the slice where the long axis is longest, the first of equal ones.

    Args:
        mask: ``(A, B, slices)``.
        step_a: mm along the first axis.
        step_b: mm along the second.

    Returns:
        Long axis in mm, -1 for an empty mask; short axis; slice; both ends of the long axis in pixels.
    """
    rows, columns, slices = mask.shape
    reached = np.zeros((rows, columns), np.bool_)
    stack = np.empty(rows * columns, np.int64)
    low, high = np.full(rows + columns, rows + columns), np.full(rows + columns, -1)
    bottom, top = np.empty(2 * rows + 1), np.empty(2 * rows + 1)
    hull = np.empty((4 * rows + 4, 2))
    long, short, where, ends = -1.0, 0.0, 0, np.zeros(4)
    for k in range(slices):
        plane = mask[:, :, k]
        reached.fill(False)
        for a in range(rows):
            for b in range(columns):
                if not plane[a, b] or reached[a, b]:
                    continue
                box = _flood(plane, reached, a, b, stack, low, high)
                reach = np.hypot((box[1] - box[0] + 1) * step_a, (box[3] - box[2] + 1) * step_b)
                if reach > long * _TIE:
                    count = _hull(rows, box, low, high, bottom, top, hull)
                    _scale(hull, count, step_a, step_b)
                    best, first, second = -1.0, 0, 0
                    for i in range(count):
                        for j in range(i):
                            length = np.hypot(hull[i, 0] - hull[j, 0], hull[i, 1] - hull[j, 1])
                            if length > best * _TIE:
                                best, first, second = length, j, i
                    if best > long * _TIE:
                        long, where = best, k
                        short = _chord(hull, count, hull[second, 0] - hull[first, 0], hull[second, 1] - hull[first, 1])
                        ends[0], ends[1] = hull[first, 0] / step_a, hull[first, 1] / step_b
                        ends[2], ends[3] = hull[second, 0] / step_a, hull[second, 1] / step_b
                _forget(low, high, box[0], box[1], rows + columns)
                _forget(low, high, rows + box[2], rows + box[3], rows + columns)
    return long, short, float(where), ends[0], ends[1], ends[2], ends[3]
