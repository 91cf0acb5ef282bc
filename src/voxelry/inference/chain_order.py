"""The order of objects along the row that they form, straight or curved: the shortest path through their centroids.

Paths that follow the main axis, or go from each object to the nearest next one, are shortened by turning stretches around and by
moving stretches elsewhere (2-opt and or-opt: Croes 1958, doi:10.1287/opre.6.6.791; Or 1976) until neither helps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxelry.inference.chain_kernels import shorten

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
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    axis = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
    along = [int(i) for i in np.argsort(points @ axis, kind="stable")]
    starts = [along, _nearest(distance, along[0]), _nearest(distance, along[-1])]
    best = min((_shortened(start, distance) for start in starts), key=lambda order: (round(_length(order, distance), 6), order))
    order = best if best[0] < best[-1] else best[::-1]
    return [int(numbers[i]) for i in order]


def _length(order: Order, distance: NDArray[np.float64]) -> float:
    return float(distance[order[:-1], order[1:]].sum())


def _nearest(distance: NDArray[np.float64], first: int) -> Order:
    """From one point always to the nearest that is left."""
    order, left = [first], set(range(len(distance))) - {first}
    while left:
        order.append(min(left, key=lambda point: (distance[order[-1], point], point)))
        left.remove(order[-1])
    return order


def _shortened(order: Order, distance: NDArray[np.float64]) -> Order:
    """Turn and move stretches of a path until it gets no shorter."""
    path = np.array(order, np.int64)
    while shorten(path, distance, _GAIN):
        pass
    return [int(point) for point in path]
