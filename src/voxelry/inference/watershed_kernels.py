"""Compiled watershed of touching objects: seeds grow through the foreground, the voxels farthest inside first.

A voxel is ``label << LABEL_SHIFT | level``: 0 is background, a level of 1..255 the distance to the surface, label 0 not yet grown
into. Growth goes level by level from the highest; within a level in waves of one step, so that fronts meet half-way on a plateau;
where two fronts reach a voxel in one wave the lower label takes it. So the result depends on levels and labels alone, never on
the order of voxels in memory, and without ties it is that of `skimage.segmentation.watershed`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, inlined, readonly

LEVELS = 256
LABEL_SHIFT = 9
MOST_LABELS = (1 << (32 - LABEL_SHIFT)) - 1

NEW = 1 << 8
"""Bit of a voxel that the wave at work grew into; before growth begins, of a core's voxel."""

BLOCK = 128
"""Voxels of a block of the queue. A queue is the voxels of all blocks, the successor of each block, of each list the first block
and how many voxels it holds, and the first block given back beside how many were ever in use."""

LISTS = LEVELS + 3
"""Lists of the queue: a level each, the wave at work, the next one, and the voxels that the wave grew into."""

_WAVE, _NEXT, _GROWN = LEVELS, LEVELS + 1, LEVELS + 2
_u, _i, _n = numba.uint32, numba.int64, numba.int32


@inlined
def _push(queue: Any, number: Any, voxel: Any) -> None:
    """Put a voxel on a list of the queue, a stack of blocks."""
    pool, links, tops, fills, free = queue
    if tops[number] < 0 or fills[number] == BLOCK:
        block = free[0]
        if block >= 0:
            free[0] = links[block]
        else:
            block = free[1]
            free[1] += 1
        links[block] = tops[number]
        tops[number] = block
        fills[number] = 0
    pool[tops[number] * BLOCK + fills[number]] = voxel
    fills[number] += 1


@inlined
def _pop(queue: Any, number: Any) -> Any:
    """Take a voxel from a list that is not empty."""
    pool, links, tops, fills, free = queue
    block = tops[number]
    fills[number] -= 1
    voxel = np.int64(pool[block * BLOCK + fills[number]])
    if fills[number] == 0:
        tops[number] = links[block]
        fills[number] = BLOCK
        links[block] = free[0]
        free[0] = block
    return voxel


@inlined
def _is_open(code: Any) -> Any:
    """Whether a voxel is foreground that has no label yet."""
    return 0 < code < LEVELS


@inlined
def _inside(voxel: Any, shape: Any) -> Any:
    """Whether all neighbours of a voxel lie on the grid; along an axis of one voxel there are none."""
    depth, height, width = shape
    x, rest = voxel % width, voxel // width
    y, z = rest % height, rest // height
    return (width == 1 or 0 < x < width - 1) and (height == 1 or 0 < y < height - 1) and (depth == 1 or 0 < z < depth - 1)


@inlined
def _neighbour(voxel: Any, shift: Any, shape: Any) -> Any:
    """The voxel a shift away, or -1 beyond the grid."""
    depth, height, width = shape
    x, rest = voxel % width, voxel // width
    y, z = rest % height, rest // height
    x, y, z = x + shift[2], y + shift[1], z + shift[0]
    if x < 0 or x >= width or y < 0 or y >= height or z < 0 or z >= depth:
        return -1
    return (z * height + y) * width + x


@inlined
def _touches_open(voxels: Any, voxel: Any, shifts: Any, offsets: Any, shape: Any) -> Any:
    """Whether a voxel has a neighbour without a label."""
    inside = _inside(voxel, shape)
    for n in range(len(offsets)):
        other = voxel + offsets[n] if inside else _neighbour(voxel, shifts[n], shape)
        if other >= 0 and _is_open(voxels[other]):
            return True
    return False


@inlined
def _spread(voxels: Any, voxel: Any, shifts: Any, offsets: Any, shape: Any, queue: Any) -> None:
    """Give a voxel's label to its neighbours without one, and to those to which this wave gave a higher one."""
    label, inside = voxels[voxel] >> LABEL_SHIFT, _inside(voxel, shape)
    for n in range(len(offsets)):
        other = voxel + offsets[n] if inside else _neighbour(voxel, shifts[n], shape)
        if other < 0:
            continue
        code = voxels[other]
        if _is_open(code):
            voxels[other] = code | NEW | label << LABEL_SHIFT
            _push(queue, _GROWN, other)
        elif code & NEW and code >> LABEL_SHIFT > label:
            voxels[other] = code & (NEW | (LEVELS - 1)) | label << LABEL_SHIFT


@compiled(
    *(
        numba.void(_u[::1], _i, _i, _i, readonly(_i, 2), readonly(_n), readonly(_n), readonly(_n), _i, _i, pool[::1], _n[::1])
        for pool in (numba.int32, numba.int64)
    )
)
def grow(
    voxels: Any, depth: int, height: int, width: int, shifts: Any, rows: Any, starts: Any, stops: Any, first: int, last: int,
    pool: Any, links: Any,
) -> None:  # fmt: skip
    """Grow labelled cores through the foreground that they touch.

    Args:
        voxels: ``(depth * height * width,)`` uint32, as above; cores have their labels.
        depth: voxels along the first axis.
        height: along the second.
        width: along the third.
        shifts: ``(n, 3)`` int64, steps to the neighbours of a voxel.
        rows: ``(R,)`` row of each run of a core's voxels, of ``depth * height``.
        starts: ``(R,)`` its first voxel.
        stops: ``(R,)`` the voxel to stop before.
        first: the first run to grow from.
        last: the run to stop before.
        pool: room for the queue: a number for each foreground voxel, and ``LISTS`` blocks.
        links: ``(blocks,)`` int32, scratch.
    """
    shape = (depth, height, width)
    queue = (pool, links, np.full(LISTS, -1, np.int64), np.full(LISTS, BLOCK, np.int64), np.array([-1, 0], np.int64))
    tops = queue[2]
    offsets = (shifts[:, 0] * height + shifts[:, 1]) * width + shifts[:, 2]
    for run in range(first, last):
        row = np.int64(rows[run]) * width
        for voxel in range(row + starts[run], row + stops[run]):
            if _touches_open(voxels, voxel, shifts, offsets, shape):
                _push(queue, voxels[voxel] & (LEVELS - 1), voxel)
    for level in range(LEVELS - 1, 0, -1):
        wave, following = level, _WAVE
        while tops[wave] >= 0:
            while tops[wave] >= 0:
                _spread(voxels, _pop(queue, wave), shifts, offsets, shape, queue)
            while tops[_GROWN] >= 0:
                voxel = _pop(queue, _GROWN)
                voxels[voxel] ^= NEW
                own = np.int64(voxels[voxel] & (LEVELS - 1))
                _push(queue, following if own >= level else own, voxel)
            wave, following = following, (_NEXT if following == _WAVE else _WAVE)
