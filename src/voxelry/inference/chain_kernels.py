"""The compiled search behind `chain_order`: stretches of a path are turned and moved until it gets no shorter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from voxelry.base.compiled import compiled, readonly

LONGEST_STRETCH = 3
"""Points of a stretch that is moved elsewhere at most."""

_PATH, _DISTANCES = types.int64[::1], readonly(types.float64, 2)


_PLACE = types.int64


@compiled(types.boolean(_PATH, _DISTANCES, types.float64, _PLACE))
def turn_from(order: NDArray[np.int64], distance: NDArray[np.float64], gain: float, first: int) -> Any:
    """Turn the shortest stretch from `first` on whose turn shortens the path; see `shorten`."""
    n = order.size
    for last in range(first + 2, n + 1):
        change = 0.0
        if first > 0:
            change += distance[order[first - 1], order[last - 1]] - distance[order[first - 1], order[first]]
        if last < n:
            change += distance[order[first], order[last]] - distance[order[last - 1], order[last]]
        if change < -gain:
            order[first:last] = order[first:last][::-1].copy()
            return True
    return False


@compiled(types.float64(_PATH, _DISTANCES, _PLACE, _PLACE))
def freed_by(order: NDArray[np.int64], distance: NDArray[np.float64], first: int, end: int) -> Any:
    """How much shorter the rest of a path is without the stretch from `first` to `end`, and what joined it."""
    freed = 0.0
    if first > 0:
        freed += distance[order[first - 1], order[first]]
    if end < order.size:
        freed += distance[order[end - 1], order[end]]
    if first > 0 and end < order.size:
        freed -= distance[order[first - 1], order[end]]
    return freed


@compiled(types.boolean(_PATH, _DISTANCES, types.float64, _PLACE, _PLACE))
def move(order: NDArray[np.int64], distance: NDArray[np.float64], gain: float, first: int, end: int) -> Any:
    """Move the stretch from `first` to `end` to the first place that shortens the path, turned or not; see `shorten`."""
    freed = freed_by(order, distance, first, end)
    stretch = order[first:end].copy()
    rest = np.concatenate((order[:first], order[end:]))
    for place in range(rest.size + 1):
        for is_turned in range(2):
            head, tail = (stretch[-1], stretch[0]) if is_turned else (stretch[0], stretch[-1])
            added = 0.0
            if place > 0:
                added += distance[rest[place - 1], head]
            if place < rest.size:
                added += distance[tail, rest[place]]
            if 0 < place < rest.size:
                added -= distance[rest[place - 1], rest[place]]
            if added - freed < -gain:
                order[:place] = rest[:place]
                order[place : place + stretch.size] = stretch[::-1] if is_turned else stretch
                order[place + stretch.size :] = rest[place:]
                return True
    return False


@compiled(types.boolean(_PATH, _DISTANCES, types.float64))
def shorten(order: NDArray[np.int64], distance: NDArray[np.float64], gain: float) -> Any:
    """Turn the first stretch, or move the first one elsewhere, that shortens the path.

    Args:
        order: ``(n,)`` points along the path; changed in place.
        distance: ``(n, n)`` between points, symmetric.
        gain: by how much the path must get shorter at least.

    Returns:
        Whether there was one.
    """
    n = order.size
    for first in range(n):
        if turn_from(order, distance, gain, first):
            return True
        for size in range(1, min(LONGEST_STRETCH, n - first) + 1):
            if move(order, distance, gain, first, first + size):
                return True
    return False
