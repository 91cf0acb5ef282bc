"""The order of objects along the row that they form, straight or curved: the shortest path through their centroids.

Paths that follow the main axis, or go from each object to the nearest next one, are shortened by turning stretches around and by
moving stretches elsewhere (2-opt and or-opt: Croes 1958, doi:10.1287/opre.6.6.791; Or 1976) until neither helps.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_LONGEST_STRETCH = 3
_GAIN = 1e-9

Order = list[int]


def chain_order(centroids: NDArray[np.float64]) -> Order:
    """Order points along the chain that they form.

    Args:
        centroids: ``(n, axes)`` mm.

    Returns:
        Their numbers from one end of the chain to the other; the result does not depend on the points' numbers (but for points
        at one place), and which end comes first is arbitrary.

    Example:
        >>> chain_order(np.array([[0.0, 5], [0, 0], [0, 9], [0, 2]]))
        [1, 3, 0, 2]
    """
    if len(centroids) < 2:
        return list(range(len(centroids)))
    numbers = np.lexsort(centroids.T[::-1])
    points = centroids[numbers]
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1).tolist()
    axis = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
    along = [int(i) for i in np.argsort(points @ axis, kind="stable")]
    starts = [along, _nearest(distance, along[0]), _nearest(distance, along[-1])]
    best = min((_shortened(start, distance) for start in starts), key=lambda order: (round(_length(order, distance), 6), order))
    order = best if best[0] < best[-1] else best[::-1]
    return [int(numbers[i]) for i in order]


def _length(order: Order, distance: list[list[float]]) -> float:
    return sum(distance[a][b] for a, b in pairwise(order))


def _nearest(distance: NDArray[np.float64], first: int) -> Order:
    """From one point always to the nearest that is left."""
    order, left = [first], set(range(len(distance))) - {first}
    while left:
        order.append(min(left, key=lambda point: (distance[order[-1]][point], point)))
        left.remove(order[-1])
    return order


def _shortened(order: Order, distance: list[list[float]]) -> Order:
    """Turn and move stretches of a path until it gets no shorter."""
    length = _length(order, distance)
    while True:
        shorter = next((other for other in _changes(order) if _length(other, distance) < length - _GAIN), None)
        if shorter is None:
            return order
        order, length = shorter, _length(shorter, distance)


def _changes(order: Order) -> Iterator[Order]:
    n = len(order)
    for first in range(n):
        for last in range(first + 2, n + 1):
            yield order[:first] + order[first:last][::-1] + order[last:]
        for size in range(1, min(_LONGEST_STRETCH, n - first) + 1):
            stretch, rest = order[first : first + size], order[:first] + order[first + size :]
            for place in range(len(rest) + 1):
                yield from (rest[:place] + piece + rest[place:] for piece in (stretch, stretch[::-1]))
