"""Smoothing of levels in place, axis by axis, in whole numbers: the same result in any order of memory and in any stretches."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from voxelry.base.compiled import compiled, readonly
from voxelry.base.threads import run_slabs

REACH = 2.5
"""Standard deviations beyond which the Gaussian of a kernel is cut off."""

MARK_BIT = 1 << 31
"""A bit of a voxel that smoothing leaves as it is."""

_ONE_BITS, _FRACTION_BITS = 15, 8
_BLOCK = 1 << 14  # numbers of a kernel's scratch: they should stay in the processor's cache

_u, _i = numba.uint32, numba.int64


def taps(deviation: float) -> NDArray[np.uint32]:
    """``(2 r + 1,)`` weights of a Gaussian cut off at `REACH`, which sum to ``2^15``; a single one where nothing is reached.

    Args:
        deviation: standard deviation in voxels.
    """
    reach = math.floor(REACH * deviation)
    if reach == 0:
        return np.array([1 << _ONE_BITS], np.uint32)
    shares = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weights = np.rint(shares / shares.sum() * (1 << _ONE_BITS)).astype(np.int64)
    weights[reach] += (1 << _ONE_BITS) - weights.sum()
    result: NDArray[np.uint32] = weights.astype(np.uint32)
    return result


def smooth(levels: NDArray[np.uint32], kernels: list[NDArray[np.uint32]]) -> None:
    """Smooth levels of a byte in place; beyond the grid its edge goes on. Between axes they have 8 more bits. `MARK_BIT` stays.

    Args:
        levels: ``(*spatial)`` uint32 of 0..255, in one piece of memory.
        kernels: `taps` along each axis, in the array's own order; axes are smoothed in it.
    """
    axes = [axis for axis, kernel in enumerate(kernels) if len(kernel) > 1]
    sizes = levels.shape if levels.flags.c_contiguous else levels.shape[::-1]
    flat = levels.reshape(-1, order="A")
    for number, axis in enumerate(axes):
        place = axis if levels.flags.c_contiguous else levels.ndim - 1 - axis
        rows, length, across = math.prod(sizes[:place]), sizes[place], math.prod(sizes[place + 1 :])
        shift = _ONE_BITS - _FRACTION_BITS * (number == 0) + _FRACTION_BITS * (axis == axes[-1])
        width = min(across, max(1, _BLOCK // length))
        blocks, view = -(-across // width), flat.reshape(rows, length, across)
        _smooth_all(view, kernels[axis], shift, width, rows * blocks)


def _smooth_all(view: NDArray[np.uint32], kernel: NDArray[np.uint32], shift: int, width: int, count: int) -> None:
    run_slabs(lambda low, high: _smooth(view, kernel, shift, width, low, high), count)


@compiled(numba.void(_u[:, :, ::1], readonly(_u), _i, _i, _i, _i))
def _smooth(levels: Any, kernel: Any, shift: Any, width: Any, first: int, last: int) -> None:
    """Smooth along the middle axis of ``(rows, n, across)``, blocks `first` to `last` of `width` columns of one row each."""
    length, across, reach = levels.shape[1], levels.shape[2], len(kernel) // 2
    blocks = -(-across // width)
    before, sums = np.empty((length + 2 * reach) * width, np.uint32), np.empty(length * width, np.uint32)
    half, bits, mark = np.uint32(1 << (shift - 1)), np.uint32(shift), np.uint32(MARK_BIT)
    for block in range(first, last):
        row, low = block // blocks, block % blocks * width
        columns = min(width, across - low)
        for n in range(length + 2 * reach):
            line = levels[row, min(max(n - reach, 0), length - 1)]
            for column in range(columns):
                before[n * columns + column] = line[low + column] & ~mark
        sums[:] = half
        for tap in range(len(kernel)):
            weight, offset = kernel[tap], tap * columns
            for place in range(length * columns):
                sums[place] += weight * before[offset + place]
        for n in range(length):
            line = levels[row, n]
            for column in range(columns):
                line[low + column] = sums[n * columns + column] >> bits | line[low + column] & mark
