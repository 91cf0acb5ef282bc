"""Compiled loops of the instance decoder: runs of foreground voxels, joined across rows and slices by union-find.

Arrays are ``(S, Y, X)`` with X closest in memory, seen as rows: row ``z * Y + y``. A run is a stretch of one row: `starts` is its
first voxel, `stops` the voxel to stop before. Cells are those of `smoothing_kernels`; voxels outside of them are background.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, inlined, readonly
from voxelry.inference.smoothing_kernels import CELL, MARK_BIT
from voxelry.inference.watershed_kernels import LABEL_SHIFT, LEVELS, PEAK_BIT

PEAK_RUN = 2
"""Value of a run of a peak's voxels; 1 of other foreground. Where there are no peaks, a run's value is its class."""

_u, _i, _n, _b, _h, _place = numba.uint32, numba.int64, numba.int32, numba.boolean, numba.uint16, np.uint64
_CLASSES = (numba.uint8, numba.uint16)
_RUNS = (readonly(_n), readonly(_n), readonly(_n))


@inlined
def _value(code: Any, peaks: bool) -> Any:
    """Value of a run of voxels of this code; 0 of background."""
    if peaks and code > 0:
        return np.uint32(PEAK_RUN) if code & PEAK_BIT else np.uint32(1)
    return np.uint32(code)


@compiled(*(numba.void(readonly(c, 2), _u[:, ::1], readonly(_b, 2), readonly(_b), _b, _i, _i) for c in _CLASSES))
def encode(classes: Any, voxels: Any, cells: Any, things: Any, peaks: bool, first: int, last: int) -> None:
    """Bring rows to the codes of `watershed_kernels` (or to their class).

    Args:
        classes: ``(rows, X)`` class indices.
        voxels: ``(rows, X)`` uint32, levels, some with `MARK_BIT`, which stays; written.
        cells: ``(rows, groups)`` those that hold things.
        things: ``(K,)`` bool, classes whose objects are told apart.
        peaks: whether levels are wanted; else classes.
        first: the first row to work on.
        last: the row to stop before.
    """
    width = classes.shape[1]
    for row in range(first, last):
        for group in range(cells.shape[1]):
            low, high = group * CELL, min((group + 1) * CELL, width)
            if not cells[row, group]:
                voxels[row, low:high] = 0
                continue
            for n in range(low, high):
                number, voxel = classes[row, _place(n)], voxels[row, _place(n)]
                mark, level = voxel & np.uint32(MARK_BIT), voxel & ~np.uint32(MARK_BIT)
                code = mark | max(level, np.uint32(1)) if peaks else np.uint32(number)
                voxels[row, _place(n)] = code if things[number] else np.uint32(0)


@compiled(numba.void(readonly(_u, 2), readonly(_b, 2), _b, _i, _i, _i[::1]))
def count_runs(voxels: Any, cells: Any, peaks: bool, first: int, last: int, counts: Any) -> None:
    """Count the runs of rows `first` to `last`; `cells` and `peaks` as in `find_runs`."""
    width = voxels.shape[1]
    for row in range(first, last):
        before, count = np.uint32(0), 0
        for group in range(cells.shape[1]):
            if not cells[row, group]:
                before = np.uint32(0)
                continue
            for n in range(group * CELL, min((group + 1) * CELL, width)):
                value = _value(voxels[row, _place(n)], peaks)
                count += value != before and value > 0
                before = value
        counts[row] = count


@compiled(numba.void(readonly(_u, 2), readonly(_b, 2), _b, readonly(_i), _i, _i, _i, _n[::1], _n[::1], _n[::1], _h[::1]))
def find_runs(
    voxels: Any, cells: Any, peaks: bool, offsets: Any, begin: int, first: int, last: int, rows: Any, starts: Any, stops: Any,
    values: Any,
) -> None:  # fmt: skip
    """Write down the runs of rows `first` to `last`.

    Args:
        voxels: ``(rows, X)`` uint32 codes.
        cells: ``(rows, groups)`` those that hold things.
        peaks: whether peaks are runs of their own.
        offsets: ``(rows + 1,)`` number of each row's first run.
        begin: number of the first row in the whole array.
        first: the first row to work on.
        last: the row to stop before.
        rows: ``(R,)`` written.
        starts: ``(R,)`` written.
        stops: ``(R,)`` written.
        values: ``(R,)`` uint16, written.
    """
    width = voxels.shape[1]
    for row in range(first, last):
        before, run = np.uint32(0), offsets[row] - 1
        for group in range(cells.shape[1]):
            low = group * CELL
            if not cells[row, group]:
                if before > 0:
                    stops[run], before = low, np.uint32(0)
                continue
            for n in range(low, min(low + CELL, width)):
                value = _value(voxels[row, _place(n)], peaks)
                if value == before:
                    continue
                if before > 0:
                    stops[run] = n
                if value > 0:
                    run += 1
                    rows[run], starts[run], values[run] = begin + row, n, value
                before = value
        if before > 0:
            stops[run] = width


@inlined
def _root(parents: Any, run: Any) -> Any:
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@inlined
def _unite(parents: Any, run: Any, other: Any) -> None:
    a, b = _root(parents, run), _root(parents, other)
    if a < b:
        parents[b] = a
    elif b < a:
        parents[a] = b


@inlined
def _meet(values: Any, run: Any, other: Any, peaks: bool, objects: Any, seeds: Any) -> None:
    """Join two runs that touch, where they are of one object, or of one peak."""
    if peaks or values[run] == values[other]:
        _unite(objects, run, other)
    if peaks and values[run] == PEAK_RUN and values[other] == PEAK_RUN:
        _unite(seeds, run, other)


@compiled(numba.void(readonly(_i), _i, _i, *_RUNS[1:], readonly(_h), _b, _n[::1], _n[::1]))
def join(
    offsets: Any, height: int, first: int, starts: Any, stops: Any, values: Any, peaks: bool, objects: Any, seeds: Any
) -> None:
    """Join the runs of new slices with those that they touch, through faces, edges and corners.

    Args:
        offsets: ``(rows + 1,)`` number of each row's first run, of the slice before and of the new ones.
        height: rows of a slice.
        first: the first row that is new.
        starts: ``(R,)`` runs.
        stops: ``(R,)`` runs.
        values: ``(R,)`` their values.
        peaks: whether all foreground belongs together, and peaks beside; else runs of one value.
        objects: ``(R,)`` int32, each run's parent within its object; changed.
        seeds: ``(R,)`` int32, each run's parent within its peak; changed.
    """
    for row in range(first, len(offsets) - 1):
        for run in range(offsets[row] + 1, offsets[row + 1]):
            if stops[run - 1] == starts[run]:
                _meet(values, run, run - 1, peaks, objects, seeds)
        y = row % height
        for place in range(4):
            if (place < 2 and y == 0) or (place == 3 and y == height - 1):
                continue
            other_row = row - 1 if place == 0 else row - height + place - 2
            if other_row < 0:
                continue
            other, end = offsets[other_row], offsets[other_row + 1]
            for run in range(offsets[row], offsets[row + 1]):
                while other < end and stops[other] < starts[run]:
                    other += 1
                touching = other
                while touching < end and starts[touching] <= stops[run]:
                    _meet(values, run, touching, peaks, objects, seeds)
                    touching += 1


@compiled(numba.void(_n[::1]))
def flatten(parents: Any) -> None:
    """Make every run's parent its root, the first run of its set."""
    for run in range(len(parents)):
        parents[run] = parents[parents[run]]


@compiled(numba.void(_u[:, ::1], *_RUNS, readonly(_u), _i, _i))
def paint(voxels: Any, rows: Any, starts: Any, stops: Any, labels: Any, first: int, last: int) -> None:
    """Give the voxels of runs `first` to `last` the label of each run; runs of label 0 stay."""
    for run in range(first, last):
        if labels[run] == 0:
            continue
        row = voxels[rows[run]]
        for n in range(starts[run], stops[run]):
            row[n] = labels[run] << LABEL_SHIFT | row[n] & (LEVELS - 1)


@compiled(*(numba.void(readonly(_u, 2), readonly(c, 2), *_RUNS, readonly(_i), _i, readonly(_i), _i, readonly(_u), _i[::1],
                       _i[::1], _u[:, ::1]) for c in _CLASSES))  # fmt: skip
def survey(
    voxels: Any, classes: Any, rows: Any, starts: Any, stops: Any, strides: Any, height: int, columns: Any, low: int,
    merged: Any, sizes: Any, places: Any, votes: Any,
) -> None:  # fmt: skip
    """Voxels, first voxel and classes of each label.

    Args:
        voxels: ``(rows, X)`` labelled voxels.
        classes: ``(rows, X)`` class indices.
        rows: ``(R,)`` runs.
        starts: ``(R,)`` runs.
        stops: ``(R,)`` runs.
        strides: ``(3,)`` steps along S, Y and X in the scan's own order.
        height: rows of a slice.
        columns: ``(K,)`` column of `votes` of each class.
        low: label of the first row of `votes`.
        merged: ``(L,)`` uint32, the label that counts in place of each.
        sizes: ``(L,)`` int64, raised by the voxels of each label.
        places: ``(L,)`` int64, lowered to the first voxel of each label in the scan's own order.
        votes: ``(V, columns)`` uint32, raised by the voxels of each class of labels from `low` on; others are left out.
    """
    for run in range(len(rows)):
        row, stop, n = np.int64(rows[run]), stops[run], starts[run]
        place = row // height * strides[0] + row % height * strides[1]
        while n < stop:
            grown, kind, start = voxels[row, n] >> LABEL_SHIFT, classes[row, n], n
            while n < stop and voxels[row, n] >> LABEL_SHIFT == grown and classes[row, n] == kind:
                n += 1
            label = np.int64(merged[grown])
            sizes[label] += n - start
            places[label] = min(places[label], place + start * strides[2])
            if 0 <= label - low < len(votes):
                votes[label - low, columns[kind]] += n - start


@compiled(*(numba.void(_u[:, ::1], c[:, ::1], *_RUNS, readonly(_u), readonly(c), _i, _i) for c in _CLASSES))
def settle(voxels: Any, classes: Any, rows: Any, starts: Any, stops: Any, ids: Any, owners: Any, first: int, last: int) -> None:
    """Turn the labels of runs `first` to `last` into ids, and their classes into those of their objects.

    Args:
        voxels: ``(rows, X)`` labelled voxels; written.
        classes: ``(rows, X)`` class indices; written.
        rows: ``(R,)`` runs.
        starts: ``(R,)`` runs.
        stops: ``(R,)`` runs.
        ids: ``(L,)`` uint32 id of each label, 0 for none.
        owners: ``(L,)`` class of each label.
        first: the first run to work on.
        last: the run to stop before.
    """
    for run in range(first, last):
        row = rows[run]
        for n in range(starts[run], stops[run]):
            label = voxels[row, n] >> LABEL_SHIFT
            voxels[row, n] = ids[label]
            classes[row, n] = owners[label]


@compiled(numba.void(_u[:, ::1], readonly(_b, 2), readonly(_u), _i, _i))
def renumber(voxels: Any, cells: Any, numbers: Any, first: int, last: int) -> None:
    """Replace the ids of rows `first` to `last` by the numbers that `numbers` gives them, 0 by 0; `cells` as in `find_runs`."""
    width = voxels.shape[1]
    for row in range(first, last):
        for group in range(cells.shape[1]):
            if cells[row, group]:
                for n in range(group * CELL, min((group + 1) * CELL, width)):
                    voxels[row, _place(n)] = numbers[voxels[row, _place(n)]]
