"""Compiled watershed of touching objects: seeds grow through the foreground, the voxels farthest inside first.

A voxel of the scan is ``label << LABEL_SHIFT | level``: 0 is background, a level of 1..254 the distance to the surface, label 0
not yet grown into. Growth goes level by level from the highest; within a level in waves of one step, so that fronts meet half-way
on a plateau; where two fronts reach a voxel in one wave the lower label takes it. So the result depends on levels and labels
alone, never on the order of voxels in memory, and without ties it is that of `skimage.segmentation.watershed`.

What is still to be grown into stands in a box of one byte a voxel, with a rim: neighbours are looked up within few lines of the
processor's cache, and without a check for the scan's border. Loops over voxels call no function that takes arrays, since Numba
would count references to them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from voxelry.base.compiled import compiled, jitable, readonly

LABEL_SHIFT = 9
MOST_LABELS = (1 << (32 - LABEL_SHIFT)) - 1
LEVELS = 256

PEAK_BIT = 1 << 8
"""Bit of a peak's voxel before it has its label."""

BLOCK = 128
"""Voxels of a block of the queue."""

_NEW = 255
"""In the box, a voxel that the wave at work grew into; 0 is background or has its label, 1..254 are levels."""

_u, _i, _n, _byte, _place = numba.uint32, numba.int64, numba.int32, numba.uint8, np.uint64
_RUNS = (readonly(_n), readonly(_n), readonly(_n))


class Box(NamedTuple):
    """Grid of a box of the scan, which holds voxels that lie together in space together in memory.

    Attributes:
        slices: ``(depth,)`` int64, step of each slice in the box; a voxel lies at the sum of its three steps.
        rows: ``(height,)`` step of each row; a single row has no rim.
        columns: ``(width,)`` step of each column.
        z: the scan's slice at which the box begins, rim included.
        y: the scan's row.
        x: the scan's column.
        scan_height: rows of the scan's slices.
        scan_width: voxels of the scan's rows.
        row_bits: an entry of the queue is ``label << label_bits | z << slice_bits | y << row_bits | x``.
        slice_bits: as above.
        label_bits: as above.
    """

    slices: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    z: int
    y: int
    x: int
    scan_height: int
    scan_width: int
    row_bits: int
    slice_bits: int
    label_bits: int


class Queue(NamedTuple):
    """Voxels to grow from, a list for each level. A list is a chain of blocks; those given back are used again.

    Attributes:
        pool: ``(blocks * BLOCK,)`` int64, entries of all blocks.
        links: ``(blocks,)`` int32, the block behind each.
        tops: ``(LEVELS,)`` int64, first block of each list, -1 of empty ones.
        fills: ``(LEVELS,)`` int64, entries of that block.
        free: ``(2,)`` int64, the first block given back, -1 for none; and how many were ever in use.
    """

    pool: NDArray[np.int64]
    links: NDArray[np.int32]
    tops: NDArray[np.int64]
    fills: NDArray[np.int64]
    free: NDArray[np.int64]


_BOX = numba.types.NamedTuple((*(_i[::1],) * 3, *(_i,) * 8), Box)
_QUEUE = numba.types.NamedTuple((_i[::1], _n[::1], _i[::1], _i[::1], _i[::1]), Queue)


@compiled(numba.void(readonly(_u), _byte[::1], _BOX, *_RUNS, _i, _i))
def fill_box(voxels: Any, levels: Any, box: Any, rows: Any, starts: Any, stops: Any, first: int, last: int) -> None:
    """Write the levels of the voxels without a label of runs `first` to `last` into a box, uint8."""
    columns = box.columns
    for run in range(first, last):
        z, y = rows[run] // box.scan_height, rows[run] % box.scan_height
        step, place = box.slices[z - box.z] + box.rows[y - box.y], np.int64(rows[run]) * box.scan_width
        for x in range(starts[run], stops[run]):
            code = voxels[place + x]
            levels[step + columns[x - box.x]] = code if code < LEVELS else 0


@jitable
def _push_all(queue: Any, levels: Any, box: Any, voxels: Any, entries: Any, count: Any, least: Any, front: Any) -> Any:
    """Queue entries with the labels of their voxels, which are no longer new; those of level `least` and above make up the front.

    Args:
        queue: takes the others.
        levels: the box.
        box: its grid.
        voxels: voxels of the scan.
        entries: entries, without labels.
        count: how many.
        least: the level at work.
        front: written.

    Returns:
        The length of the front.
    """
    pool, links, tops, fills, free = queue.pool, queue.links, queue.tops, queue.fills, queue.free
    slices, rows, columns = box.slices, box.rows, box.columns
    row_mask, column_mask, length = (1 << (box.slice_bits - box.row_bits)) - 1, (1 << box.row_bits) - 1, 0
    for n in range(count):
        entry = entries[n]
        z, y, x = entry >> box.slice_bits, entry >> box.row_bits & row_mask, entry & column_mask
        levels[_place(slices[z] + rows[y] + columns[x])] = 0
        code = np.int64(voxels[((z + box.z) * box.scan_height + y + box.y) * box.scan_width + x + box.x])
        level, labelled = code & (LEVELS - 1), code >> LABEL_SHIFT << box.label_bits | entry
        if level >= least:
            front[length] = labelled
            length += 1
            continue
        block, fill = tops[level], fills[level]
        if fill == BLOCK:
            block = free[0]
            if block >= 0:
                free[0] = links[block]
            else:
                block = free[1]
                free[1] += 1
            links[block] = tops[level]
            tops[level], fill = block, 0
        pool[_place(block * BLOCK + fill)] = labelled
        fills[level] = fill + 1
    return length


@jitable
def _take(queue: Any, level: Any, front: Any) -> Any:
    """Move a level's list to the front; its length."""
    pool, links, tops, fills, free, length = queue.pool, queue.links, queue.tops, queue.fills, queue.free, 0
    while tops[level] >= 0:
        block = tops[level]
        for n in range(fills[level]):
            front[length] = pool[block * BLOCK + n]
            length += 1
        tops[level], fills[level] = links[block], BLOCK
        links[block], free[0] = free[0], block
    return length


@jitable
def _spread(voxels: Any, levels: Any, box: Any, front: Any, length: Any, grown: Any) -> Any:
    """Grow one step from a front: voxels without a label take one, those new in this wave the lower of two.

    Args:
        voxels: voxels of the scan; written.
        levels: the box; what is grown into becomes new.
        box: its grid.
        front: entries.
        length: how many.
        grown: entries of the new voxels, without labels; written.

    Returns:
        How many are new.
    """
    slices, rows, columns = box.slices, box.rows, box.columns
    row_bits, slice_bits, width = box.row_bits, box.slice_bits, box.scan_width
    row_mask, column_mask = (1 << (slice_bits - row_bits)) - 1, (1 << row_bits) - 1
    slice_mask, reach, count = (1 << (box.label_bits - slice_bits)) - 1, min(len(rows) - 1, 1), 0
    for n in range(length):
        entry = front[n]
        label = np.uint32(entry >> box.label_bits)
        x = entry & column_mask
        left, middle, right = columns[_place(x - 1)], columns[_place(x)], columns[_place(x + 1)]
        for z in range((entry >> slice_bits & slice_mask) - 1, (entry >> slice_bits & slice_mask) + 2):
            for y in range((entry >> row_bits & row_mask) - reach, (entry >> row_bits & row_mask) + reach + 1):
                row = slices[_place(z)] + rows[_place(y)]
                if levels[_place(row + left)] | levels[_place(row + middle)] | levels[_place(row + right)] == 0:
                    continue
                goal = ((z + box.z) * box.scan_height + y + box.y) * width + box.x
                for column in range(x - 1, x + 2):
                    own = levels[_place(row + columns[_place(column)])]
                    if own == 0:
                        continue
                    if own != _NEW:
                        levels[_place(row + columns[_place(column)])] = _NEW
                        voxels[_place(goal + column)] = label << LABEL_SHIFT | own
                        grown[count] = z << slice_bits | y << row_bits | column
                        count += 1
                        continue
                    code = voxels[_place(goal + column)]
                    if code >> LABEL_SHIFT > label:
                        voxels[_place(goal + column)] = label << LABEL_SHIFT | code & (LEVELS - 1)
    return count


@compiled(numba.void(_u[::1], _byte[::1], _BOX, *_RUNS, _QUEUE, _i[::1], _i[::1]))
def grow(voxels: Any, levels: Any, box: Any, rows: Any, starts: Any, stops: Any, queue: Any, front: Any, grown: Any) -> None:
    """Grow labelled peaks through the foreground that they touch.

    Args:
        voxels: ``(N,)`` uint32 voxels of the scan, as above; peaks have their labels.
        levels: the box, uint8 (`fill_box`); becomes 0.
        box: its grid.
        rows: ``(R,)`` row of the scan of each run of a peak's voxels.
        starts: ``(R,)`` its first voxel.
        stops: ``(R,)`` the voxel to stop before.
        queue: empty, with room for all voxels.
        front: int64, scratch as long as there are voxels, peaks included.
        grown: the same.
    """
    for run in range(len(rows)):
        z, y, count = rows[run] // box.scan_height - box.z, rows[run] % box.scan_height - box.y, 0
        for x in range(starts[run] - box.x, stops[run] - box.x):
            grown[count] = z << box.slice_bits | y << box.row_bits | x
            count += 1
        _push_all(queue, levels, box, voxels, grown, count, LEVELS, front)
    for level in range(LEVELS - 2, 0, -1):
        length = _take(queue, level, front)
        while length > 0:
            count = _spread(voxels, levels, box, front, length, grown)
            length = _push_all(queue, levels, box, voxels, grown, count, level, front)
