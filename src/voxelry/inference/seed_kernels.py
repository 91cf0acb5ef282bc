"""Compiled loops that choose the seeds of objects: peaks of the distance, and which of them stand high above their saddles.

Voxels are those of `watershed_kernels`, seen as rows. Foreground that touches belongs to one object of `foreground_runs`, so a
voxel's neighbours are all of the same object, and as far decoded as the voxel itself.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, inlined, jitable, readonly
from voxelry.inference.smoothing_kernels import CELL, MARK_BIT
from voxelry.inference.watershed_kernels import LABEL_SHIFT, LEVELS, PEAK_BIT

PAIR_SHIFT = 24
"""A pair of labels is ``lower << PAIR_SHIFT | higher``."""

_u, _i, _n, _byte, _place = numba.uint32, numba.int64, numba.int32, numba.uint8, np.uint64
_RUNS = (readonly(_n), readonly(_n), readonly(_n))
_MIX = np.uint64(0x9E3779B97F4A7C15)


@compiled(numba.void(_u[::1], _i, _i, _i))
def mark_high(voxels: Any, least: int, first: int, last: int) -> None:
    """Set `MARK_BIT` of the voxels `first` to `last` whose level is at least `least`."""
    for n in range(first, last):
        if voxels[n] >= least:
            voxels[n] |= np.uint32(MARK_BIT)


@compiled(numba.void(_u[:, ::1], *_RUNS, _i, _i, numba.boolean[::1]))
def take_marks(voxels: Any, rows: Any, starts: Any, stops: Any, first: int, last: int, marked: Any) -> None:
    """Take `MARK_BIT` from the voxels of runs `first` to `last`; which of the runs had one is written to `marked`."""
    mark = np.uint32(MARK_BIT)
    for run in range(first, last):
        bits = np.uint32(0)
        for n in range(starts[run], stops[run]):
            bits |= voxels[rows[run], n]
            voxels[rows[run], n] &= ~mark
        marked[run] = bits & mark > 0


@jitable
def _raise(highest: Any, row: Any, low: Any, high: Any) -> None:
    """Raise ``highest[n + 1]`` to the level of ``row[n]`` for `n` from `low` to `high`."""
    values, goal = row[low:high], highest[low + 1 : high + 1]
    for n in range(len(values)):
        goal[n] = max(goal[n], values[n] & np.uint32(LEVELS - 1))


@jitable
def _mark_highest(row: Any, highest: Any, low: Any, high: Any) -> None:
    """Set the peak's bit of voxels `low` to `high` that are as high as the three columns of `highest` around them."""
    values, left, middle, right = row[low:high], highest[low:high], highest[low + 1 : high + 1], highest[low + 2 : high + 2]
    for n in range(len(values)):
        code = values[n]
        if code > 0 and code & np.uint32(LEVELS - 1) >= max(left[n], middle[n], right[n]):
            values[n] = code | np.uint32(PEAK_BIT)


@compiled(numba.void(_u[:, ::1], readonly(numba.boolean, 2), _i, _i, _i))
def mark_peaks(voxels: Any, cells: Any, height: int, first: int, last: int) -> None:
    """Set the peak's bit of the voxels of rows `first` to `last` that are as high as all their neighbours.

    Args:
        voxels: ``(rows, X)`` uint32, levels without labels, also of the slice behind; written.
        cells: ``(rows, groups)`` those that hold things.
        height: rows of a slice.
        first: the first row to work on.
        last: the row to stop before.
    """
    width, groups = voxels.shape[1], cells.shape[1]
    highest = np.zeros(width + 2, np.uint32)
    for row in range(first, last):
        y, group = row % height, 0
        while group < groups:
            if not cells[row, group]:
                group += 1
                continue
            low = group * CELL
            while group < groups and cells[row, group]:
                group += 1
            high = min(group * CELL, width)
            highest[low : high + 2] = 0
            for across in range(-height, height + 1, height):
                for down in range(-1 if y > 0 else 0, 2 if y < height - 1 else 1):
                    if 0 <= row + across + down < len(voxels):
                        _raise(highest, voxels[row + across + down], max(low - 1, 0), min(high + 1, width))
            _mark_highest(voxels[row], highest, low, high)


@compiled(numba.void(readonly(_u, 2), _i, *_RUNS, _i, _i, numba.boolean[::1]))
def find_shoulders(voxels: Any, height: int, rows: Any, starts: Any, stops: Any, first: int, last: int, shoulders: Any) -> None:
    """Which runs of marked voxels touch a voxel of their level that is not marked: their plateau goes on to higher ground.

    Args:
        voxels: ``(rows, X)`` marked voxels.
        height: rows of a slice.
        rows: ``(R,)`` runs of marked voxels.
        starts: ``(R,)`` runs.
        stops: ``(R,)`` runs.
        first: the first run to work on.
        last: the run to stop before.
        shoulders: ``(R,)`` written.
    """
    width = voxels.shape[1]
    for run in range(first, last):
        row, is_shoulder = rows[run], False
        y = row % height
        for across in range(-height, height + 1, height):
            for down in range(-1 if y > 0 else 0, 2 if y < height - 1 else 1):
                if 0 <= row + across + down < len(voxels):
                    other = voxels[row + across + down]
                    for n in range(starts[run], stops[run]):
                        level = voxels[row, n] & np.uint32(LEVELS - 1)
                        for column in range(max(n - 1, 0), min(n + 2, width)):
                            is_shoulder |= other[column] == level
        shoulders[run] = is_shoulder


@compiled(numba.void(_u[:, ::1], *_RUNS))
def unmark(voxels: Any, rows: Any, starts: Any, stops: Any) -> None:
    """Take the peak's bit from the voxels of runs."""
    for run in range(len(rows)):
        for n in range(starts[run], stops[run]):
            voxels[rows[run], n] &= np.uint32(LEVELS - 1)


@compiled(_i(readonly(_u, 2), _i, *_RUNS, _i, _i, _i[::1], _byte[::1]))
def find_saddles(
    voxels: Any, height: int, rows: Any, starts: Any, stops: Any, first: int, last: int, pairs: Any, saddles: Any
) -> Any:
    """The highest saddle between any two labels that touch: of two voxels side by side the lower level.

    Args:
        voxels: ``(rows, X)`` labelled voxels.
        height: rows of a slice.
        rows: ``(R,)`` runs.
        starts: ``(R,)`` runs.
        stops: ``(R,)`` runs.
        first: the first run to work on.
        last: the run to stop before.
        pairs: ``(2^k,)`` int64, a hash table of pairs of labels, 0 where none is; written.
        saddles: ``(2^k,)`` uint8, the saddle of each; written.

    Returns:
        How many pairs there are, or -1 once the table is more than half full.
    """
    width, mask, count, latest, latest_slot = voxels.shape[1], len(pairs) - 1, 0, np.int64(0), np.int64(0)
    for run in range(first, last):
        row = rows[run]
        y = row % height
        for place in range(5):
            if (0 < place < 3 and y == 0) or (place == 4 and y == height - 1):
                continue
            other_row = row if place == 0 else row - 1 if place == 1 else row - height + place - 3
            if other_row < 0:
                continue
            for n in range(starts[run], stops[run]):
                code = voxels[row, _place(n)]
                label = np.int64(code >> np.uint32(LABEL_SHIFT))
                for column in range(max(n - 1, 0), min(n + 2, width) if place > 0 else n):
                    neighbour = voxels[other_row, _place(column)]
                    other = np.int64(neighbour >> np.uint32(LABEL_SHIFT))
                    if other == label or other == 0:
                        continue
                    saddle = np.uint8(min(code & np.uint32(LEVELS - 1), neighbour & np.uint32(LEVELS - 1)))
                    pair = min(label, other) << PAIR_SHIFT | max(label, other)
                    if pair != latest:
                        slot = np.int64((np.uint64(pair) * _MIX) >> np.uint64(20)) & mask
                        while pairs[slot] != pair and pairs[slot] != 0:
                            slot = (slot + 1) & mask
                        if pairs[slot] == 0:
                            count += 1
                            if 2 * count > len(pairs):
                                return -1
                            pairs[slot] = pair
                        latest, latest_slot = pair, slot
                    saddles[latest_slot] = max(saddles[latest_slot], saddle)
    return count


@inlined
def _root(parents: Any, label: Any) -> Any:
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label


@compiled(numba.void(readonly(_i), readonly(_byte), readonly(_byte), _i, _u[::1]))
def merge_peaks(pairs: Any, saddles: Any, peaks: Any, persistence: int, merged: Any) -> None:
    """Which labels are one object: the peaks that stand high enough above every saddle to a higher one keep their labels.

    A peak's persistence is its height above the highest saddle on any way to a higher peak (of equal ones to that of the lower
    label). What grew from a peak of less joins what it touches at its highest saddle, and so on.

    Args:
        pairs: ``(P,)`` int64 pairs of labels, of the highest saddle first.
        saddles: ``(P,)`` uint8.
        peaks: ``(L,)`` uint8, the level of each label's seed.
        persistence: levels by which a peak must stand above its saddle.
        merged: ``(L,)`` uint32, the label that each label's object keeps; written.
    """
    count = len(peaks)
    parents, persists = np.arange(count), np.ones(count, np.bool_)
    for n in range(len(pairs)):
        elder, other = _root(parents, pairs[n] >> PAIR_SHIFT), _root(parents, pairs[n] & ((1 << PAIR_SHIFT) - 1))
        if elder == other:
            continue
        if peaks[other] > peaks[elder] or (peaks[other] == peaks[elder] and other < elder):
            elder, other = other, elder
        parents[other] = elder
        persists[other] = np.int64(peaks[other]) - np.int64(saddles[n]) >= persistence
    for label in range(count):
        parents[label] = label
    for n in range(len(pairs)):
        elder, other = _root(parents, pairs[n] >> PAIR_SHIFT), _root(parents, pairs[n] & ((1 << PAIR_SHIFT) - 1))
        if elder == other or (persists[elder] and persists[other]):
            continue
        if persists[other] or (not persists[elder] and other < elder):
            elder, other = other, elder
        parents[other] = elder
    for label in range(count):
        merged[label] = _root(parents, label)
