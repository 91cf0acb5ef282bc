"""Class indices and parts of objects in one plane, so that a patch's labels are moved in one pass.

A packed value is the class index, plus the number of classes for each part; ignored voxels stay so. The distances of the instance
head are moved as one more channel of the image, linearly, which scaling and turning leave true.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import IGNORE_INDEX

PARTS = 3
"""No part, border, core."""

PLANES = 3
"""Planes of a target: class indices, parts, distances."""


def packed(classes: NDArray[np.integer], parts: NDArray[np.integer], count: int) -> NDArray[np.int16]:
    """Classes and parts in one plane.

    Args:
        classes: class indices, `IGNORE_INDEX` where a voxel counts nowhere.
        parts: 0, 1, 2.
        count: number of classes, background included.

    Example:
        >>> packed(np.array([-1, 0, 1]), np.array([0, 0, 2]), 2).tolist()
        [-1, 0, 5]
    """
    return np.where(classes == IGNORE_INDEX, IGNORE_INDEX, classes + parts.astype(np.int16) * count).astype(np.int16)


def packed_table(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """The table of new packed values, from that of new class indices -1, 0, 1...

    Example:
        >>> packed_table(np.array([-1, 0, 2, 1])).tolist()
        [-1, 0, 2, 1, 3, 5, 4, 6, 8, 7]
    """
    count = len(table) - 1
    return np.concatenate([table[:1], *(table[1:] + count * number for number in range(PARTS))])
