"""Smoothing of levels in place, axis by axis, in whole numbers: the same result in any order of memory and in any stretches.

Only cells that are wanted are smoothed, and what these need on the way: scans are mostly background.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from voxelry.base.compiled import compiled, jitable, readonly
from voxelry.base.threads import run_slabs

REACH = 2.5
"""Standard deviations beyond which the Gaussian of a kernel is cut off."""

MARK_BIT = 1 << 31
"""A bit of a voxel that smoothing leaves as it is."""

CELL = 16
"""Voxels of a row, as close in memory as its axis, of which all or none are smoothed: 64 bytes."""

_ONE_BITS, _FRACTION_BITS = 15, 8

_u, _i, _b, _place = numba.uint32, numba.int64, numba.boolean, np.uint64

Cells = NDArray[np.bool_]


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


def smooth(levels: NDArray[np.uint32], kernels: list[NDArray[np.uint32]], wanted: Cells | None = None) -> None:
    """Smooth levels of a byte in place; beyond the grid its edge goes on. Between axes they have 8 more bits. `MARK_BIT` stays.

    Args:
        levels: ``(*spatial)`` uint32 of 0..255, in one piece of memory.
        kernels: `taps` along each axis, in the array's own order; axes are smoothed in it.
        wanted: cells of the result that are wanted, rows in the order of memory, ``(*rows, ceil(X / CELL))``: other voxels become
            any number. None wants all.
    """
    is_c, last = levels.flags.c_contiguous, levels.ndim - 1
    sizes = levels.shape if is_c else levels.shape[::-1]
    cells_shape = (*sizes[:-1], -(-sizes[-1] // CELL))
    cells = np.ones(cells_shape, np.bool_) if wanted is None else wanted.reshape(cells_shape)
    passes = [(axis if is_c else last - axis, kernel) for axis, kernel in enumerate(kernels) if len(kernel) > 1]
    needed = [cells]
    for place, kernel in reversed(passes[1:]):
        needed.insert(0, _spread(needed[0], place, len(kernel) // 2))
    flat = levels.reshape(-1, order="A")
    for number, ((place, kernel), goal) in enumerate(zip(passes, needed, strict=False)):
        rows, length = math.prod(sizes[:place]), sizes[place]
        shift = _ONE_BITS - _FRACTION_BITS * (number == 0) + _FRACTION_BITS * (number == len(passes) - 1)
        if place == last:
            work = partial(_smooth_along, flat, goal.reshape(-1), kernel, shift, length)
            run_slabs(work, rows)
        else:
            lines, across = math.prod(sizes[place + 1 : -1]), sizes[-1]
            work = partial(_smooth_across, flat, goal.reshape(-1), kernel, shift, length, lines, across)
            run_slabs(work, rows * lines * cells_shape[-1])


def _spread(cells: Cells, place: int, reach: int) -> Cells:
    """The cells that lie within `reach` voxels of others along an axis of memory."""
    reach = -(-reach // CELL) if place == cells.ndim - 1 else reach
    result = cells.copy()
    source, goal = np.moveaxis(cells, place, 0), np.moveaxis(result, place, 0)
    for step in range(1, min(reach, len(source) - 1) + 1):
        goal[step:] |= source[:-step]
        goal[:-step] |= source[step:]
    return result


@compiled(*(numba.void(readonly(c, 2), readonly(_b), _i, _i, _b[:, ::1]) for c in (numba.uint8, numba.uint16)))
def mark_cells(classes: Any, things: Any, first: int, last: int, cells: Any) -> None:
    """Mark the cells of rows `first` to `last` that hold a voxel of a thing.

    Args:
        classes: ``(rows, X)`` class indices.
        things: ``(K,)`` bool, classes whose objects are told apart.
        first: the first row to work on.
        last: the row to stop before.
        cells: ``(rows, ceil(X / CELL))`` bool, written.
    """
    width = classes.shape[1]
    for row in range(first, last):
        for group in range(cells.shape[1]):
            low, all_bits, is_wanted = group * CELL, classes.dtype.type(0), False
            count = min(CELL, width - low)
            if count == CELL and not things[0]:
                for n in range(CELL):
                    all_bits |= classes[row, _place(low + n)]
                count = count if all_bits > 0 else 0
            for n in range(count):
                is_wanted |= things[classes[row, _place(low + n)]]
            cells[row, group] = is_wanted


@jitable
def _next_stretch(cells: Any, place: Any, stride: Any, size: Any, begin: Any, gap: Any) -> Any:
    """First and stop of the next stretch of marked cells from cell `begin` of a line on; its size twice where there is none.

    Args:
        cells: all cells.
        place: of the line's first.
        stride: between its cells.
        size: how many it has.
        begin: where to look.
        gap: stretches that lie closer are one, since their inputs meet.
    """
    while begin < size and not cells[place + begin * stride]:
        begin += 1
    stop = ahead = min(begin + 1, size)
    while ahead < size and ahead - stop <= gap:
        ahead += 1
        if cells[place + (ahead - 1) * stride]:
            stop = ahead
    return begin, stop


@jitable
def _weigh(before: Any, sums: Any, kernel: Any, step: Any, count: Any, half: Any) -> None:
    """Weighted sums of `count` numbers, a multiple of `CELL`, whose inputs lie `step` apart."""
    for low in range(0, count, CELL):
        for n in range(CELL):
            sums[_place(low + n)] = half
        for tap in range(len(kernel)):
            weight, offset = kernel[tap], low + tap * step
            for n in range(CELL):
                sums[_place(low + n)] += weight * before[_place(offset + n)]


@compiled(numba.void(_u[::1], readonly(_b), readonly(_u), _i, _i, _i, _i))
def _smooth_along(flat: Any, cells: Any, kernel: Any, shift: Any, length: Any, first: int, last: int) -> None:
    """Smooth cells of rows `first` to `last` along the axis that is closest in memory.

    Args:
        flat: ``(rows * length,)`` voxels; written.
        cells: ``(rows * ceil(length / CELL),)``, those to work on.
        kernel: `taps`.
        shift: bits that are dropped from sums.
        length: voxels of a row.
        first: the first row.
        last: the row to stop before.
    """
    groups, reach = -(-length // CELL), len(kernel) // 2
    before, sums = np.zeros(groups * CELL + 2 * reach, np.uint32), np.empty(groups * CELL, np.uint32)
    half, bits, mark = np.uint32(1 << (shift - 1)), np.uint32(shift), np.uint32(MARK_BIT)
    for row in range(first, last):
        base = row * length
        begin, stop = _next_stretch(cells, row * groups, 1, groups, 0, 2 * reach // CELL)
        while begin < groups:
            start, end = begin * CELL, min(stop * CELL, length)
            low, high, shifted = max(start - reach, 0), min(end + reach, length), reach - start
            for n in range(low, high):
                before[_place(n + shifted)] = flat[_place(base + n)] & ~mark
            for n in range(low + shifted):
                before[n] = flat[base] & ~mark
            for n in range(high + shifted, end + reach + shifted):
                before[n] = flat[base + length - 1] & ~mark
            _weigh(before, sums, kernel, 1, (stop - begin) * CELL, half)
            for n in range(end - start):
                voxel = _place(base + start + n)
                flat[voxel] = sums[_place(n)] >> bits | flat[voxel] & mark
            begin, stop = _next_stretch(cells, row * groups, 1, groups, stop, 2 * reach // CELL)


@compiled(numba.void(_u[::1], readonly(_b), readonly(_u), _i, _i, _i, _i, _i, _i))
def _smooth_across(
    flat: Any, cells: Any, kernel: Any, shift: Any, length: Any, lines: Any, across: Any, first: int, last: int
) -> None:
    """Smooth cells along the second axis of ``(rows, length, lines, across)``; a block is a group of a line of a row.

    Args:
        flat: all voxels; written.
        cells: of ``(rows, length, lines, ceil(across / CELL))``, those to work on.
        kernel: `taps`.
        shift: bits that are dropped from sums.
        length: as above.
        lines: as above.
        across: as above.
        first: the first block.
        last: the block to stop before.
    """
    groups, reach, step = -(-across // CELL), len(kernel) // 2, lines * across
    before, sums = np.zeros((length + 2 * reach) * CELL, np.uint32), np.empty(length * CELL, np.uint32)
    half, bits, mark = np.uint32(1 << (shift - 1)), np.uint32(shift), np.uint32(MARK_BIT)
    for block in range(first, last):
        row, line, group = block // (lines * groups), block // groups % lines, block % groups
        columns = min(CELL, across - group * CELL)
        base, place = (row * length * lines + line) * across + group * CELL, (row * length * lines + line) * groups + group
        begin, stop = _next_stretch(cells, place, lines * groups, length, 0, 2 * reach)
        while begin < length:
            for n in range(stop - begin + 2 * reach):
                source, goal = base + min(max(begin + n - reach, 0), length - 1) * step, n * CELL
                if columns == CELL:
                    for column in range(CELL):
                        before[_place(goal + column)] = flat[_place(source + column)] & ~mark
                else:
                    for column in range(columns):
                        before[_place(goal + column)] = flat[_place(source + column)] & ~mark
            _weigh(before, sums, kernel, CELL, (stop - begin) * CELL, half)
            for n in range(stop - begin):
                source, goal = n * CELL, base + (begin + n) * step
                if columns == CELL:
                    for column in range(CELL):
                        voxel = _place(goal + column)
                        flat[voxel] = sums[_place(source + column)] >> bits | flat[voxel] & mark
                else:
                    for column in range(columns):
                        voxel = _place(goal + column)
                        flat[voxel] = sums[_place(source + column)] >> bits | flat[voxel] & mark
            begin, stop = _next_stretch(cells, place, lines * groups, length, stop, 2 * reach)
