"""Instance decoder: from classes and distance on a scan's own grid to an id for every object.

The distance is smoothed; all its peaks grow by watershed through the foreground they touch; then peaks that hardly stand above
their saddles join what they touch there. Without an instance head every component of a class is an object. Slices come slab by
slab: their runs of foreground are joined with those before by union-find, and an object is decoded once the last slab of all
foreground that it touches has passed. Ids take the place of the distance in one array, so that beside the result memory holds the
runs of unfinished objects and the fronts of growing ones. The objects depend on the voxels alone: not on the slabs, the axis or
the order of memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.threads import THREADS, run_slabs
from voxelry.errors import ModelError
from voxelry.inference.foreground_runs import ForegroundRuns
from voxelry.inference.head_kernels import DISTANCE_UNIT, DISTANCE_ZERO
from voxelry.inference.instance_kernels import (
    count_runs,
    encode,
    find_runs,
    flatten,
    join,
    paint,
    renumber,
    settle,
    survey,
)
from voxelry.inference.peaks import merged_labels, true_peaks
from voxelry.inference.seed_kernels import mark_high, mark_peaks, take_marks
from voxelry.inference.smoothing_kernels import CELL, mark_cells, smooth, taps
from voxelry.inference.watershed_kernels import BLOCK, LEVELS, MOST_LABELS, Box, Queue, fill_box, grow

SLAB_VOXELS = 4 << 20
"""Voxels looked at a time, or those of one slice where they are more."""

DECODING_BYTES = 8
"""Of a voxel while objects are decoded: runs, the box and the queue of growing ones. Fields of noise, whose runs are two or three
voxels long, take up to four times as many."""

BRICK, FLAT_BRICK = (8, 8, 8), (16, 1, 32)
"""Voxels that lie together in the box of growing objects, of volumes and of pictures."""

_VOTES = 4 << 20
"""Numbers of a table of votes, or those of one object."""

_ROUNDING = 1e-6  # an object of exactly the smallest volume stays, whatever the affine's last digits

Classes = NDArray[np.uint8] | NDArray[np.uint16]
Ids = NDArray[np.uint32]


class InstanceDecoder:
    """Decodes one scan.

    Args:
        classes: ``(*spatial)`` class indices, in one piece of memory; an object's voxels get its class, those dropped 0.
        ids: ``(*spatial)`` uint32 in the same order of memory, quantised distance (`head_kernels`); becomes
            ids, 0 where there is no object, else 1..n by the objects' first voxels in the scan's own order of axes.
        things: class indices whose objects are told apart.
        persistence: how far a peak of the distance must stand above its saddle to be an object; None where there is no head.
        smoothing: standard deviation of the Gaussian that smooths distances, in voxels along each axis.
        smallest: the fewest voxels of an object; smaller ones are dropped.
        min_peak: the least highest distance, before smoothing, of foreground that holds objects; other foreground is dropped;
            None drops none.

    Attributes:
        dropped: number of objects that were too small.
        faint: number of pieces of foreground whose distance stays below `min_peak`.
    """

    def __init__(
        self,
        classes: Classes,
        ids: Ids,
        things: list[int],
        persistence: float | None = None,
        smallest: float = 0.0,
        smoothing: Sequence[float] = (),
        min_peak: float | None = None,
    ) -> None:
        self._peaks, self._smallest = persistence is not None, smallest * (1 - _ROUNDING)
        self._persistence = math.ceil((persistence or 0) * DISTANCE_UNIT * (1 - _ROUNDING))
        self._least = (
            None if min_peak is None or not self._peaks else DISTANCE_ZERO + math.ceil(min_peak * DISTANCE_UNIT - _ROUNDING)
        )
        self._head, self._kernels = ids, [taps(deviation) for deviation in smoothing]
        shape, self._strides = _slices_first(classes)
        self._shape, self._row_shape = shape, (shape[0] * shape[1], shape[2])
        self._flat = ids.reshape(-1, order="A")
        self._ids, self._classes = self._flat.reshape(self._row_shape), classes.reshape(-1, order="A").reshape(self._row_shape)
        count = max([int(np.iinfo(classes.dtype).max) + 1 if classes.dtype == np.uint8 else 0, *(c + 1 for c in things)])
        self._things = np.zeros(max(count, int(classes.max(initial=0)) + 1), bool)
        self._things[things] = True
        self._cells = np.zeros((len(self._ids), -(-shape[2] // CELL)), np.bool_)
        self._columns = np.cumsum(self._things) * self._things - self._things
        self._owners = np.flatnonzero(self._things).astype(classes.dtype)
        self._open = ForegroundRuns.empty()
        self._last_offsets = np.zeros(0, np.int64)
        self._passed = 0
        self._places: list[NDArray[np.int64]] = []
        self._next = 1
        self.dropped = self.faint = 0

    @property
    def size(self) -> int:
        """Slices along the axis that is farthest in memory."""
        return self._shape[0]

    def run(self, slab: int | None = None) -> int:
        """Decode the whole scan.

        Args:
            slab: slices at a time.

        Returns:
            The number of objects.
        """
        self._encode()
        step = slab or max(1, SLAB_VOXELS // max(1, self._shape[1] * self._shape[2]))
        for stop in range(step, self.size + step, step):
            self._advance(min(stop, self.size))
        return self._finish()

    def _encode(self) -> None:
        """Smooth the distances, and bring all voxels to their codes."""
        ids, classes, cells, things = self._ids, self._classes, self._cells, self._things
        run_slabs(lambda low, high: mark_cells(classes, things, low, high, cells), len(ids))
        if (least := self._least) is not None:
            run_slabs(lambda low, high: mark_high(self._flat, least, low, high), self._flat.size)
        if self._peaks:
            smooth(self._head, self._kernels, cells)
        run_slabs(lambda low, high: encode(classes, ids, cells, things, self._peaks, low, high), len(ids))

    def _advance(self, stop: int) -> None:
        """Slices below `stop` have come: join their foreground with that before, and decode what is complete."""
        height, first = self._shape[1], self._passed
        rows = slice(first * height, stop * height)
        new, offsets = self._find(rows)
        carried, before = len(self._last_offsets) - 1 if first else 0, len(self._open)
        runs, self._open = self._open.with_new(new), ForegroundRuns.empty()
        if carried:
            offsets = np.concatenate([self._last_offsets[:-1], offsets + before])
        join(offsets, height, carried, runs.starts, runs.stops, runs.values, self._peaks, runs.objects, runs.seeds)
        flatten(runs.objects)
        flatten(runs.seeds)
        last = offsets[len(offsets) - 1 - height :]
        self._passed = stop
        if stop == self.size:
            self._decode(runs)
            return
        unfinished = np.zeros(len(runs), bool)
        unfinished[runs.objects[last[0] :]] = True
        unfinished = unfinished[runs.objects]
        if not unfinished.all():
            self._decode(runs.of(~unfinished))
            runs = runs.of(unfinished)
        self._open, self._last_offsets = runs, last - last[-1] + len(runs)

    def _finish(self) -> int:
        """Number the objects by their first voxels; how many there are."""
        places = np.concatenate([np.zeros(0, np.int64), *self._places])
        numbers = np.zeros(len(places) + 1, np.uint32)
        numbers[1 + np.argsort(places)] = np.arange(1, len(places) + 1)
        if not np.array_equal(numbers, np.arange(len(numbers))):
            run_slabs(lambda low, high: renumber(self._ids, self._cells, numbers, low, high), len(self._ids))
        return len(places)

    def _find(self, rows: slice) -> tuple[ForegroundRuns, NDArray[np.int64]]:
        """The runs of rows, in which peaks are marked; and the number of each row's first run."""
        ids, cells, first = self._ids[rows], self._cells[rows], rows.start
        if self._peaks:
            run_slabs(lambda low, high: mark_peaks(self._ids, self._cells, self._shape[1], first + low, first + high), len(ids))
        counts = np.zeros(len(ids), np.int64)
        run_slabs(lambda low, high: count_runs(ids, cells, self._peaks, low, high, counts), len(ids))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        new = ForegroundRuns.empty(int(offsets[-1]))
        runs = (new.rows, new.starts, new.stops, new.values)
        run_slabs(lambda low, high: find_runs(ids, cells, self._peaks, offsets, first, low, high, *runs), len(ids))
        if self._least is not None:
            place = (new.rows, new.starts, new.stops)
            run_slabs(lambda low, high: take_marks(self._ids, *place, low, high, new.marked), len(new))
        return new, offsets

    def _decode(self, runs: ForegroundRuns) -> None:
        """Give complete foreground its ids."""
        if self._least is not None:
            runs = self._without_faint(runs)
        if not len(runs):
            return
        peak = true_peaks(self._ids, self._shape[1], runs) if self._peaks else None
        labels, count = _components(runs) if peak is None else self._labelled(runs, peak)
        if count > MOST_LABELS:
            raise ModelError(
                f"{count} peaks in one piece: the distances that the network found are noise",
                remedy="Train the model longer, or raise instances.smoothing in its plan.",
            )
        paint_runs = (runs.rows, runs.starts, runs.stops)
        run_slabs(lambda low, high: paint(self._ids, *paint_runs, labels, low, high), len(runs))
        merged = np.arange(count + 1, dtype=np.uint32)
        if peak is not None:
            several = np.zeros(len(runs), bool)
            several[runs.objects[labels == 0]] = True
            chosen = np.flatnonzero(several[runs.objects])
            if len(chosen):
                self._grow(runs, labels, chosen)
                merged = self._merged(runs, labels, chosen, count)
        sizes, places, owners = self._survey(runs, merged)
        kept = sizes >= max(1, self._smallest)
        kept[0] = False
        self.dropped += int((sizes[1:] > 0).sum()) - int(kept.sum())
        ids = (np.cumsum(kept) + (self._next - 1)).astype(np.uint32) * kept.astype(np.uint32)
        self._next += int(kept.sum())
        self._places.append(places[kept])
        ids, owners = ids[merged], (owners * kept.astype(owners.dtype))[merged]
        run_slabs(lambda low, high: settle(self._ids, self._classes, *paint_runs, ids, owners, low, high), len(runs))

    def _without_faint(self, runs: ForegroundRuns) -> ForegroundRuns:
        """The runs of foreground that stood high somewhere; the rest becomes background."""
        high = np.zeros(len(runs), bool)
        high[runs.objects[runs.marked]] = True
        if high[runs.objects].all():
            return runs
        faint = runs.of(~high[runs.objects])
        self.faint += len(np.unique(faint.objects))
        blank = np.zeros(2, np.uint32), np.zeros(2, self._owners.dtype)
        place = (faint.rows, faint.starts, faint.stops)
        run_slabs(lambda low, high: settle(self._ids, self._classes, *place, *blank, low, high), len(faint))
        return runs.of(high[runs.objects])

    def _labelled(self, runs: ForegroundRuns, peak: NDArray[np.bool_]) -> tuple[NDArray[np.uint32], int]:
        """A label for runs of peaks, in the order of the peaks' first voxels, and of foreground of one peak; else 0."""
        roots, numbers = np.unique(runs.seeds[peak], return_inverse=True)
        firsts = np.full(len(roots), np.iinfo(np.int64).max)
        np.minimum.at(firsts, numbers, self._places_of(runs, peak))
        ranks = np.empty(len(roots), np.uint32)
        ranks[np.argsort(firsts)] = np.arange(1, len(roots) + 1)
        owners = runs.objects[roots]
        counts = np.bincount(owners, minlength=len(runs))
        whole = np.zeros(len(runs), np.uint32)
        single = counts[owners] == 1
        whole[owners[single]] = ranks[single]
        labels = whole[runs.objects]
        labels[peak] = ranks[numbers]
        return labels, len(roots)

    def _places_of(self, runs: ForegroundRuns, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """First voxels of some runs, in the scan's own order."""
        height, (along, down, across) = self._shape[1], self._strides
        rows = runs.rows[mask].astype(np.int64)
        places: NDArray[np.int64] = rows // height * along + rows % height * down + runs.starts[mask] * across
        return places

    def _grow(self, runs: ForegroundRuns, labels: NDArray[np.uint32], chosen: NDArray[np.int64]) -> None:
        """Grow the peaks of foreground that has several, in as many groups as there are threads."""
        chosen = chosen[np.argsort(runs.objects[chosen], kind="stable")]
        rows, starts, stops, objects = (array[chosen] for array in (runs.rows, runs.starts, runs.stops, runs.objects))
        labels = labels[chosen]
        box, size = _box(rows, starts, stops, self._shape)
        levels = np.zeros(size, np.uint8)
        run_slabs(lambda low, high: fill_box(self._flat, levels, box, rows, starts, stops, low, high), len(rows))
        edges = np.append(np.flatnonzero(np.diff(objects, prepend=-1)), len(rows))
        voxels = np.concatenate([[0], np.cumsum(stops - starts, dtype=np.int64)])
        bounds = np.unique(edges[np.searchsorted(voxels[edges], np.linspace(0, voxels[-1], THREADS + 1))])

        def work(low: int, high: int) -> None:
            for group in range(low, high):
                first, last = bounds[group : group + 2]
                peaks = first + np.flatnonzero(labels[first:last])
                peaks = peaks[np.argsort(labels[peaks], kind="stable")]  # what grows together lies together
                count = int(voxels[last] - voxels[first])
                front, grown = np.empty(count, np.int64), np.empty(count, np.int64)
                grow(self._flat, levels, box, rows[peaks], starts[peaks], stops[peaks], _queue(count), front, grown)

        run_slabs(work, len(bounds) - 1)

    def _merged(
        self, runs: ForegroundRuns, labels: NDArray[np.uint32], chosen: NDArray[np.int64], count: int
    ) -> NDArray[np.uint32]:
        """The label that each of 0..count keeps, where peaks of chosen runs that do not persist have joined others."""
        peaks, seeds = np.zeros(count + 1, np.uint8), chosen[labels[chosen] > 0]
        peaks[labels[seeds]] = self._ids[runs.rows[seeds], runs.starts[seeds]] % LEVELS
        grown = (runs.rows[chosen], runs.starts[chosen], runs.stops[chosen])
        return merged_labels(self._ids, self._shape[1], grown, peaks, self._persistence)

    def _survey(self, runs: ForegroundRuns, merged: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64], Classes]:
        """Of every label: voxels of its object, the first of them, and the class of most (of equally many the first)."""
        count = len(merged) - 1
        places = np.full(count + 1, np.iinfo(np.int64).max)
        owners = np.zeros(count + 1, self._owners.dtype)
        step = max(1, _VOTES // len(self._owners))
        for low in range(0, count + 1, step):
            sizes = np.zeros(count + 1, np.int64)
            votes = np.zeros((min(step, count + 1 - low), len(self._owners)), np.uint32)
            survey(
                self._ids, self._classes, runs.rows, runs.starts, runs.stops, self._strides, self._shape[1], self._columns, low,
                merged, sizes, places, votes,
            )  # fmt: skip
            owners[low : low + len(votes)] = self._owners[votes.argmax(1)]
        return sizes, places, owners


def _components(runs: ForegroundRuns) -> tuple[NDArray[np.uint32], int]:
    """A label for each piece of foreground."""
    roots, numbers = np.unique(runs.objects, return_inverse=True)
    return (numbers + 1).astype(np.uint32), len(roots)


def _box(
    rows: NDArray[np.int32], starts: NDArray[np.int32], stops: NDArray[np.int32], shape: tuple[int, int, int]
) -> tuple[Box, int]:
    """The box around runs, in bricks, and the bytes it takes; a rim of one voxel but along an axis of one row."""
    slices, lines = rows // shape[1], rows % shape[1]
    low = [int(slices.min()) - 1, int(lines.min()) - 1, int(starts.min()) - 1]
    high = [int(slices.max()) + 2, int(lines.max()) + 2, int(stops.max()) + 1]
    if shape[1] == 1:
        low[1], high[1] = 0, 1
    sizes = [last - first for first, last in zip(low, high, strict=True)]
    brick = FLAT_BRICK if shape[1] == 1 else BRICK
    counts = [-(-size // edge) for size, edge in zip(sizes, brick, strict=True)]
    steps = []
    for axis, (size, edge) in enumerate(zip(sizes, brick, strict=True)):
        numbers, across = np.arange(size), math.prod(brick) * math.prod(counts[axis + 1 :])
        steps.append(numbers // edge * across + numbers % edge * math.prod(brick[axis + 1 :]))
    bits = [size.bit_length() for size in sizes]
    packing = (bits[2], bits[2] + bits[1], sum(bits))
    return Box(steps[0], steps[1], steps[2], low[0], low[1], low[2], shape[1], shape[2], *packing), math.prod(counts) * math.prod(
        brick
    )


def _queue(count: int) -> Queue:
    """An empty queue of up to `count` voxels; memory that is never written is never taken."""
    blocks = count // BLOCK + LEVELS + 1
    tops, fills, free = np.full(LEVELS, -1, np.int64), np.full(LEVELS, BLOCK, np.int64), np.array([-1, 0], np.int64)
    return Queue(np.empty(blocks * BLOCK, np.int64), np.empty(blocks, np.int32), tops, fills, free)


def _slices_first(array: NDArray[Any]) -> tuple[tuple[int, int, int], NDArray[np.int64]]:
    """``(S, Y, X)`` of an array with X closest in memory, and the steps along them in the array's own order of axes.

    The rows of a picture are slices of a single row.
    """
    strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
    shape = list(array.shape)
    if not array.flags.c_contiguous:
        assert array.flags.f_contiguous, "labels in one piece of memory"
        shape, strides = shape[::-1], strides[::-1]
    if len(shape) == 2:
        shape, strides = [shape[0], 1, shape[1]], [strides[0], 0, strides[1]]
    return (shape[0], shape[1], shape[2]), np.array(strides, np.int64)
