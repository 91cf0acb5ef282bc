"""Compiled loops of the metrics over large label arrays: joint histograms, surface scans, distance transforms.

They run on slabs by a few threads (`voxelry.base.threads`), for large inputs only (`LARGE_VOXELS`): for small ones numpy is
faster than loading the compiler.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, readonly


def _joint(kind: Any) -> Any:
    flat, whole = readonly(kind, 1), numba.int64
    return numba.void(flat, flat, whole, whole, numba.int64[:, ::1])


def _scan(kind: Any) -> Any:
    outputs = numba.int64[::1], numba.int16[::1], numba.uint8[::1]
    return numba.int64(readonly(kind, 3), numba.int16[::1], numba.int64, numba.int64, numba.boolean, *outputs)


_JOINT = [_joint(kind) for kind in (numba.uint8, numba.uint16, numba.int16, numba.int32, numba.int64)]
_SCAN = [_scan(kind) for kind in (numba.uint8, numba.uint16)]


@compiled(numba.void(readonly(numba.uint64, 1), readonly(numba.uint64, 1), numba.int64[:, ::1]))
def joint_histogram_of_words(reference: Any, prediction: Any, counts: Any) -> None:
    """Add to ``(256, 256)`` `counts` the pairs of bytes of two arrays that are read eight bytes at a time.

    A word that repeats the previous one is only counted; label maps consist of long runs, so most words do.
    """
    run = 0
    last_r, last_p = np.uint64(0), np.uint64(0)
    low, eight = np.uint64(255), np.uint64(8)
    for n in range(reference.size):
        r, p = reference[n], prediction[n]
        if r == last_r and p == last_p:
            run += 1
            continue
        for _ in range(8):
            counts[last_r & low, last_p & low] += run
            last_r >>= eight
            last_p >>= eight
        run, last_r, last_p = 1, r, p
    for _ in range(8):
        counts[last_r & low, last_p & low] += run
        last_r >>= eight
        last_p >>= eight


@compiled(*_JOINT)
def joint_histogram(reference: Any, prediction: Any, low_r: int, low_p: int, counts: Any) -> None:
    """Add the pairs of values of two flat arrays to `counts`, whose first row is value `low_r`, first column `low_p`."""
    run = 0
    last_r, last_p = reference[0], prediction[0]
    for n in range(reference.size):
        r, p = reference[n], prediction[n]
        if r == last_r and p == last_p:
            run += 1
            continue
        counts[np.int64(last_r) - low_r, np.int64(last_p) - low_p] += run
        run, last_r, last_p = 1, r, p
    counts[np.int64(last_r) - low_r, np.int64(last_p) - low_p] += run


@compiled(*(numba.int64(kind[::1], numba.int64) for kind in (numba.uint8, numba.uint16)))
def _neighbour_code(cube: Any, corner: int) -> int:
    """The code of the label at one corner of a cube of eight; 0 if an earlier corner has the same label."""
    code = 0
    for neighbour in range(8):
        if cube[neighbour] == cube[corner]:
            if neighbour < corner:
                return 0
            code |= 128 >> neighbour
    return code


@compiled(*_SCAN)
def scan_elements(volume: Any, slots: Any, start: int, stop: int, fill: bool, where: Any, slot: Any, code: Any) -> int:
    """Find the surface elements of all labels between corner planes `start` and `stop` (of shape[0] + 1) of a volume.

    Args:
        volume: ``(I, J, K)`` labels; everything outside it is label 0.
        slots: label value -> number of the label, -1 for labels to skip.
        start: first corner plane.
        stop: corner plane after the last.
        fill: write the elements; otherwise only count them.
        where: flat index of each element in the ``(I + 1, J + 1, K + 1)`` grid of voxel corners.
        slot: number of its label.
        code: its neighbour code, the voxel before the corner on all axes the highest bit.

    Returns:
        The number of elements.
    """
    planes, rows, columns = volume.shape
    outside = np.zeros(columns, dtype=volume.dtype)
    cube = np.zeros(8, dtype=volume.dtype)
    count = 0
    for i in range(start, stop):
        for j in range(rows + 1):
            row_00 = volume[i - 1, j - 1] if i > 0 and j > 0 else outside
            row_01 = volume[i - 1, j] if i > 0 and j < rows else outside
            row_10 = volume[i, j - 1] if i < planes and j > 0 else outside
            row_11 = volume[i, j] if i < planes and j < rows else outside
            cube[0] = cube[2] = cube[4] = cube[6] = 0
            before_same, before = True, cube[0]
            for k in range(columns + 1):
                if k < columns:
                    a, b, c, d = row_00[k], row_01[k], row_10[k], row_11[k]
                else:
                    a = b = c = d = outside[0]
                same = a == b and a == c and a == d
                if same and before_same and a == before:
                    continue
                cube[1], cube[3], cube[5], cube[7] = a, b, c, d
                if k > 0:
                    cube[0], cube[2], cube[4], cube[6] = row_00[k - 1], row_01[k - 1], row_10[k - 1], row_11[k - 1]
                before_same, before = same, a
                for n in range(8):
                    value = cube[n]
                    if slots[value] < 0:
                        continue
                    bits = _neighbour_code(cube, n)
                    if bits == 0:
                        continue
                    if fill:
                        where[count] = (i * (rows + 1) + j) * (columns + 1) + k
                        slot[count] = slots[value]
                        code[count] = bits
                    count += 1
    return count


@compiled(*_SCAN)
def scan_border(volume: Any, slots: Any, start: int, stop: int, fill: bool, where: Any, slot: Any, code: Any) -> int:
    """Find the border voxels of all labels between planes `start` and `stop`: those with a face on another label.

    The arguments are those of `scan_elements`, on the grid of voxels; the outside of the volume is another label; `code` is 1.
    """
    planes, rows, columns = volume.shape
    count = 0
    for i in range(start, stop):
        for j in range(rows):
            rim = i == 0 or j == 0 or i == planes - 1 or j == rows - 1
            row = volume[i, j]
            up = volume[i - 1, j] if i > 0 else row
            down = volume[i + 1, j] if i < planes - 1 else row
            before = volume[i, j - 1] if j > 0 else row
            after = volume[i, j + 1] if j < rows - 1 else row
            for k in range(columns):
                value = row[k]
                if slots[value] < 0:
                    continue
                inside = not rim and up[k] == value and down[k] == value and before[k] == value and after[k] == value
                if inside and 0 < k < columns - 1 and row[k - 1] == value and row[k + 1] == value:
                    continue
                if fill:
                    where[count] = (i * rows + j) * columns + k
                    slot[count] = slots[value]
                    code[count] = 1
                count += 1
    return count


@compiled("void(int32[:, ::1], uint8[:, :, ::1], int32[:, ::1], float64[::1], float64[::1])")
def search_nearby(points: Any, occupied: Any, offsets: Any, lengths: Any, distances: Any) -> None:
    """For each point, the length of the first offset that leads to an occupied cell; unchanged where none does.

    Args:
        points: ``(N, 3)`` cells of the grid.
        occupied: ``(I, J, K)`` 1 where there is a target.
        offsets: ``(M, 3)`` steps, shortest first.
        lengths: ``(M,)`` their lengths in mm.
        distances: ``(N,)`` result in mm.
    """
    planes, rows, columns = occupied.shape
    for n in range(points.shape[0]):
        for m in range(offsets.shape[0]):
            i, j, k = points[n, 0] + offsets[m, 0], points[n, 1] + offsets[m, 1], points[n, 2] + offsets[m, 2]
            if 0 <= i < planes and 0 <= j < rows and 0 <= k < columns and occupied[i, j, k]:
                distances[n] = lengths[m]
                break


_WORD_GRID = numba.uint16[:, :, ::1]
_NOWHERE = 65535


@compiled(numba.void(readonly(numba.uint8, 1), numba.uint16[::1]))
def _steps_along(occupied: Any, steps: Any) -> None:
    """Cells from each cell of a row to the nearest occupied one, 65535 if there is none."""
    last = -_NOWHERE
    for k in range(occupied.size):
        if occupied[k]:
            last = k
        steps[k] = min(k - last, _NOWHERE)
    last = 2 * _NOWHERE
    for k in range(occupied.size - 1, -1, -1):
        if occupied[k]:
            last = k
        steps[k] = min(last - k, np.int64(steps[k]))


@compiled(numba.void(readonly(numba.uint8, 3), numba.float64, numba.float64, numba.int64, numba.int64, _WORD_GRID, _WORD_GRID))
def transform_planes(
    occupied: Any, row_step: float, column_step: float, start: int, stop: int, along_row: Any, nearest_row: Any
) -> None:
    """The nearest occupied cell of every cell within its plane (two passes of an exact distance transform).

    The second pass is the lower envelope of parabolas of Felzenszwalb and Huttenlocher, Theory of Computing 8 (2012).

    Args:
        occupied: ``(I, J, K)`` 1 where there is a target.
        row_step: mm between rows (axis 1).
        column_step: mm between columns (axis 2).
        start: first plane.
        stop: plane after the last.
        along_row: ``(I, J, K)`` result: cells to the nearest target in the same row, 65535 if there is none.
        nearest_row: ``(I, J, K)`` result: the row of the plane's nearest target, 65535 if there is none.
    """
    rows, columns = occupied.shape[1:]
    hull, reach, heights = np.zeros(rows, np.int64), np.zeros(rows + 1), np.zeros(rows)
    for i in range(start, stop):
        for j in range(rows):
            _steps_along(occupied[i, j], along_row[i, j])
        for k in range(columns):
            top = -1
            for j in range(rows):
                if along_row[i, j, k] == _NOWHERE:
                    continue
                heights[j] = (along_row[i, j, k] * column_step / row_step) ** 2 + j * j
                crossing = -np.inf
                while top >= 0:
                    crossing = (heights[j] - heights[hull[top]]) / (2 * (j - hull[top]))
                    if crossing > reach[top]:
                        break
                    top -= 1
                    crossing = -np.inf
                top += 1
                hull[top], reach[top] = j, crossing
            piece = 0
            for j in range(rows):
                while piece < top and reach[piece + 1] < j:
                    piece += 1
                nearest_row[i, j, k] = hull[piece] if top >= 0 else _NOWHERE


@compiled(numba.void(numba.int32[:, ::1], numba.float64[::1], _WORD_GRID, _WORD_GRID, numba.float64[::1]))
def search_planes(points: Any, steps: Any, along_row: Any, nearest_row: Any, distances: Any) -> None:
    """The distance from each point to the nearest target, from the results of `transform_planes`; nearest planes first.

    Args:
        points: ``(N, 3)`` cells of the grid.
        steps: ``(3,)`` mm along each axis.
        along_row: ``(I, J, K)``.
        nearest_row: ``(I, J, K)``.
        distances: ``(N,)`` result in mm.
    """
    planes = along_row.shape[0]
    for n in range(points.shape[0]):
        i, j, k = points[n, 0], points[n, 1], points[n, 2]
        best = np.inf
        for step in range(max(i + 1, planes - i)):
            squared = (step * steps[0]) ** 2
            if squared >= best:
                break
            for plane in (i - step, i + step):
                if 0 <= plane < planes and nearest_row[plane, j, k] != _NOWHERE:
                    row = np.int64(nearest_row[plane, j, k])
                    across = ((row - j) * steps[1]) ** 2 + (along_row[plane, row, k] * steps[2]) ** 2
                    best = min(best, squared + across)
        distances[n] = np.sqrt(best)
