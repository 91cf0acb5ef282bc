"""The compiled pass over a mask that its shape is measured from: neighbour codes, moments, the ends of each line of voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from voxelry.base.compiled import compiled, readonly

MOMENTS = 9
"""Sums of the indices along the axes (3), of their squares (3), of the products of axes 0 and 1, 0 and 2, 1 and 2."""


@compiled(
    types.void(readonly(types.boolean, 3, "A"), types.int64[::1], types.float64[::1], types.int64[:, ::1], types.int64[:, ::1])
)
def scan_shape(mask: NDArray[np.bool_], codes: Any, moments: Any, first: Any, last: Any) -> None:
    """Collect what the shape of a mask follows from.

    Args:
        mask: ``(A, B, C)``; outside it there is nothing.
        codes: ``(256,)`` gets the number of corners of each neighbour code: bit ``4 a + 2 b + c`` is the voxel that lies `a`, `b`
            and `c` after the corner along the axes, where 1 is after and 0 before.
        moments: ``(MOMENTS,)`` gets sums over the voxels.
        first: ``(A, B)`` gets the first voxel of each line along the last axis, -1 for none.
        last: likewise, the last one.
    """
    size_a, size_b, size_c = mask.shape
    first[:], last[:] = -1, -1
    for a in range(size_a + 1):
        for b in range(size_b + 1):
            before = 0
            for c in range(size_c + 1):
                after = 0
                if c < size_c:
                    if a > 0 and b > 0 and mask[a - 1, b - 1, c]:
                        after |= 1
                    if a > 0 and b < size_b and mask[a - 1, b, c]:
                        after |= 4
                    if a < size_a and b > 0 and mask[a, b - 1, c]:
                        after |= 16
                    if a < size_a and b < size_b and mask[a, b, c]:
                        after |= 64
                        if first[a, b] < 0:
                            first[a, b] = c
                        last[a, b] = c
                        moments[0] += a
                        moments[1] += b
                        moments[2] += c
                        moments[3] += a * a
                        moments[4] += b * b
                        moments[5] += c * c
                        moments[6] += a * b
                        moments[7] += a * c
                        moments[8] += b * c
                codes[before | (after << 1)] += 1
                before = after
