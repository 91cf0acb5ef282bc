"""The scale of a scan's own objects, by the distance that the network found: the steeper it is, the smaller they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.inference.head_kernels import DISTANCE_UNIT, DISTANCE_ZERO

_SAMPLES = 2_000_000
_FEWEST = 20
_INSIDE = DISTANCE_ZERO + 0.1 * DISTANCE_UNIT


def median_diameter(
    classes: NDArray[np.integer[Any]], levels: NDArray[np.uint32], things: Sequence[int], spacing: Sequence[float]
) -> float | None:
    """The diameter of most voxels' objects: the distance is divided by an object's depth, so its slope is one over the depth.

    Args:
        classes: ``(*spatial)`` class indices.
        levels: ``(*spatial)`` quantised distance (`head_kernels`), before smoothing.
        things: class indices whose objects count.
        spacing: of the voxels along each axis.

    Returns:
        Twice that depth, in the unit of the spacing; None where too few voxels lie inside of objects.
    """
    shape = classes.shape
    axes = [axis for axis, size in enumerate(shape) if size > 2]
    step = max(1, math.ceil((classes.size / _SAMPLES) ** (1 / max(1, len(axes)))))

    def moved(axis: int, by: int) -> NDArray[np.uint32]:
        """Levels beside the sampled voxels."""
        places = (slice(1 + by * (axis == other), shape[other] - 1 + by * (axis == other), step) for other in range(len(shape)))
        return levels[tuple(place if other in axes else slice(None) for other, place in enumerate(places))]

    centre = tuple(slice(1, size - 1, step) if axis in axes else slice(None) for axis, size in enumerate(shape))
    inside = np.isin(classes[centre], things) & (levels[centre] > _INSIDE)
    if not axes or np.count_nonzero(inside) < _FEWEST:
        return None
    slope = np.zeros(np.count_nonzero(inside))
    for axis in axes:
        rise = moved(axis, 1)[inside].astype(np.int64) - moved(axis, -1)[inside]
        slope += (rise / (2 * DISTANCE_UNIT * spacing[axis])) ** 2
    median = float(np.median(np.sqrt(slope)))
    return 2 / median if median > 0 else None
