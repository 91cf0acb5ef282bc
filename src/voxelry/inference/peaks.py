"""Seeds of objects: the peaks of the distance, and which of them persist, of foreground whose last slab has passed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxelry.base.threads import run_slabs
from voxelry.inference.foreground_runs import ForegroundRuns
from voxelry.inference.instance_kernels import PEAK_RUN
from voxelry.inference.seed_kernels import find_saddles, find_shoulders, merge_peaks, unmark
from voxelry.inference.watershed_kernels import LEVELS

_PAIRS = 1 << 10
"""Pairs of labels that a hash table has room for at first, twice over."""

Voxels = NDArray[np.uint32]
Runs = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


def true_peaks(voxels: Voxels, height: int, runs: ForegroundRuns) -> NDArray[np.bool_]:
    """``(R,)``: which runs are of a peak; marks of plateaus that go on to higher ground are taken away.

    Args:
        voxels: ``(rows, X)`` marked voxels; written.
        height: rows of a slice.
        runs: whole objects.
    """
    peak = runs.values == PEAK_RUN
    rows, starts, stops = runs.rows[peak], runs.starts[peak], runs.stops[peak]
    shoulders = np.zeros(len(rows), bool)
    run_slabs(lambda low, high: find_shoulders(voxels, height, rows, starts, stops, low, high, shoulders), len(rows))
    is_shoulder = np.zeros(len(runs), bool)
    is_shoulder[runs.seeds[peak][shoulders]] = True
    wrong = peak & is_shoulder[runs.seeds]
    unmark(voxels, runs.rows[wrong], runs.starts[wrong], runs.stops[wrong])
    result: NDArray[np.bool_] = peak & ~wrong
    return result


def merged_labels(voxels: Voxels, height: int, runs: Runs, peaks: NDArray[np.uint8], persistence: int) -> NDArray[np.uint32]:
    """``(L,)``: the label of each label's object, where peaks that do not persist have joined others.

    Args:
        voxels: ``(rows, X)`` voxels, all of which have labels.
        height: rows of a slice.
        runs: rows, starts and stops of all objects of several labels.
        peaks: ``(L,)`` level of each label's peak.
        persistence: levels by which a peak must stand above its saddle.
    """
    tables: list[tuple[NDArray[np.int64], NDArray[np.uint8]]] = []

    def work(low: int, high: int) -> None:
        size, count = _PAIRS, -1
        while count < 0:
            size *= 2
            pairs, saddles = np.zeros(size, np.int64), np.zeros(size, np.uint8)
            count = find_saddles(voxels, height, *runs, low, high, pairs, saddles)
        tables.append((pairs[pairs > 0], saddles[pairs > 0]))

    run_slabs(work, len(runs[0]))
    pairs, saddles = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    order = np.lexsort((pairs, LEVELS - saddles.astype(np.int16)))
    merged = np.empty(len(peaks), np.uint32)
    merge_peaks(pairs[order], saddles[order], peaks, persistence, merged)
    return merged
