"""Mean, standard deviation and range of one channel's grey values, in one compiled pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelry.augmentation.intensity_kernels import moments

FLAT = 1e-7
"""Grey values that differ by less are equal."""


class GreyStatistics(NamedTuple):
    """Of normalised grey values."""

    mean: float
    deviation: float
    lowest: float
    highest: float


def grey_statistics(image: NDArray[np.float32]) -> GreyStatistics:
    """Statistics of a channel.

    Args:
        image: ``(*patch)`` float32, C-contiguous.
    """
    total, squares, lowest, highest = moments(image.reshape(-1))
    mean = total / image.size
    return GreyStatistics(mean, math.sqrt(max(0.0, squares / image.size - mean * mean)), lowest, highest)
