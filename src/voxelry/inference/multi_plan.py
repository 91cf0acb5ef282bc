"""Averages ensembles of different plans: the mean of their probabilities on the scan's own grid, slab by slab.

Models of different plans (2D slices and 3D patches, other spacings) can only meet on the scan's own voxels, where nnU-Net
ensembles its configurations too (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z). The ensembles stream along one axis of the
scan and in one direction, each through its own ring buffer; the ensemble that is furthest behind runs until its next slices are
complete. So memory holds the ring buffers, which each ensemble has anyway, and one slab of probabilities; there is never a volume
of them, on disk or in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from voxelry.errors import ModelError
from voxelry.inference.blending_kernels import CLASSES, LAYER, REGIONS
from voxelry.inference.engine import SliceSink
from voxelry.inference.multi_plan_kernels import decide_mean
from voxelry.inference.plan_ensemble import ScanTask
from voxelry.inference.ring_buffer import RingBuffer, least_certain, levels_of, run_and_count
from voxelry.inference.slice_writer import NewSlices, SliceCallback, SliceWriter
from voxelry.networks.classes import class_spans, layer_sizes

SUMMED = 64 << 20
"""Bytes of probabilities summed at a time, or a single slice of all classes where that is more."""


def slab_value_bytes(device: torch.device) -> int:
    """Bytes of a voxel and class in the slab: the sum, and on a GPU the copy that is added to it."""
    return 4 if device.type == "cpu" else 8


def align_tasks(tasks: Sequence[ScanTask]) -> list[ScanTask]:
    """Tasks of several ensembles on one scan, streaming along its axis with the smallest ring buffers, in one direction.

    Raises:
        ModelError: there is none, since the ensembles bring scans to opposite orientations.
    """
    if len(tasks) == 1:
        return list(tasks)
    choices = []
    for axis in range(tasks[0].volume.geometry.ndim):
        moved = [task.along(task.preparation.reorder.order.index(axis)) for task in tasks]
        if len({task.streaming_axes()[0] for task in moved}) == 1:
            choices.append(moved)
    if not choices:
        codes = ", ".join(str(task.ensemble.plan.orientation) for task in tasks)
        raise ModelError(
            f"members bring scans to opposite orientations ({codes})",
            remedy="Average models planned with one orientation.",
        )
    return min(choices, key=lambda moved: sum(task.grid.ring_plane_voxels for task in moved))


class ProbabilitySink:
    """Finished slices of one ensemble's ring buffer, to be fetched as probabilities; `SliceWriter` is its counterpart for labels.

    Args:
        ring: where sums lie.
        task: task of the ensemble.
        share: share of this ensemble in the mean.
    """

    def __init__(self, ring: RingBuffer, task: ScanTask, share: float) -> None:
        self.ring, self.interp, self.share = ring, task.interpolation(), share
        self.finished, self.ready = 0, 0

    def advance(self, stop: int) -> None:
        """Slices below `stop` are finished; new slices between them can be fetched until the next sheet of patches runs."""
        self.ring.finish(self.finished, stop)
        self.finished = stop
        self.ready = int(np.searchsorted(self.interp[0].above, stop))

    def add(self, first: int, last: int, sums: NDArray[np.float32]) -> None:
        """Add the share of new slices `first` to `last` to ``(K, last - first, Y', X')``."""
        self.ring.add_probabilities(self.interp, first, last, self.share, sums)

    def add_distance(self, first: int, last: int, sums: NDArray[np.float32]) -> None:
        """Add the share of the distance to ``(last - first, Y', X')``."""
        self.ring.add_distance(self.interp, first, last, self.share, sums)


class SingleOutput:
    """Labels of one ensemble, straight from its ring buffer.

    Args:
        task: task of the ensemble.
        ring: where sums lie.
        slab: new slices at a time.
        write: where labels, in the task's streaming order, go.
        confidence: ``probability`` or ``entropy`` for a map beside the labels; empty for none.
        head: whether the channels of an instance head are wanted too.

    Attributes:
        sinks: where the task's finished slices go.
    """

    def __init__(
        self, task: ScanTask, ring: RingBuffer, slab: int, write: SliceCallback, confidence: str, head: bool = False
    ) -> None:
        self.sinks: Sequence[SliceSink] = [SliceWriter(ring, task.interpolation(), slab, write, confidence, head)]
        self._ring = ring

    @property
    def probability_sum(self) -> NDArray[np.float64]:
        """As of `EnsembleOutput`."""
        return self._ring.probability_sum

    @property
    def voxel_count(self) -> NDArray[np.int64]:
        """As of `EnsembleOutput`."""
        return self._ring.voxel_count

    def run(self, steps: Sequence[Iterator[int]]) -> Iterator[int]:
        """Run the task; yields the number of patches done."""
        yield from steps[0]


class EnsembleOutput:
    """Labels of several ensembles, by the mean of their probabilities.

    Args:
        tasks: aligned; their streaming axes may differ across slices.
        rings: one a task.
        slab: new slices at a time, at most.
        write: where labels, in the first task's streaming order, go.
        confidence: ``probability`` or ``entropy`` for a map beside the labels; empty for none.
        head: whether the channels of their instance heads are wanted too.

    Attributes:
        sinks: where each task's finished slices go.
        probability_sum: ``(K,)`` float64, summed probabilities of the voxels that each class won; background is left out.
        voxel_count: ``(K,)`` int64, number of those voxels.
    """

    def __init__(
        self,
        tasks: Sequence[ScanTask],
        rings: Sequence[RingBuffer],
        slab: int,
        write: SliceCallback,
        confidence: str,
        head: bool = False,
    ) -> None:
        self._sinks = [ProbabilitySink(ring, task, 1 / len(tasks)) for ring, task in zip(rings, tasks, strict=True)]
        self.sinks: Sequence[SliceSink] = self._sinks
        self._turns = [_reorientation(tasks[0].streaming_axes(), task.streaming_axes()) for task in tasks]
        along, *plane = (len(axis) for axis in self._sinks[0].interp)
        classes, channels = tasks[0].ensemble.classes, int(head)
        self._size, self._plane = along, tuple(plane)
        self._slab = max(1, min(slab, SUMMED // (4 * (classes + channels) * math.prod(plane))))
        self._sums = np.empty((classes, self._slab, *plane), np.float32).reshape(-1)
        self._distances = np.empty((channels, self._slab, *plane), np.float32).reshape(-1)
        self._write, self._confidence = write, confidence
        layers = layer_sizes(tasks[0].ensemble.labels)
        self._spans = class_spans(classes, layers)
        self._rule = LAYER if layers else REGIONS if tasks[0].ensemble.plan.regions else CLASSES
        self.probability_sum, self.voxel_count = np.zeros(classes), np.zeros(classes, np.int64)

    def run(self, steps: Sequence[Iterator[int]]) -> Iterator[int]:
        """Run the tasks in step.

        Args:
            steps: one a task (`RunningTask.steps`).

        Yields:
            The number of patches done.
        """
        done, first = [0] * len(steps), 0
        while first < self._size:
            for number, (sink, running) in enumerate(zip(self._sinks, steps, strict=True)):
                while sink.ready <= first:  # all earlier slices are fetched, so its ring buffer may go on
                    done[number] = next(running)
                    yield sum(done)
            last = min(first + self._slab, *(sink.ready for sink in self._sinks))
            self._decide(first, last)
            first = last

    def _decide(self, first: int, last: int) -> None:
        """New slices `first` to `last` of all ensembles become labels."""
        count = len(self.probability_sum)
        shape = (count, last - first, *self._plane)
        sums = self._sums[: math.prod(shape)].reshape(shape)
        sums[:] = 0
        for sink, (order, flips) in zip(self._sinks, self._turns, strict=True):
            sink.add(first, last, sums.transpose(order)[(slice(None), slice(None), *flips)])
        head = self._mean_distance(first, last) if self._distances.size else None
        flat, layers = sums.reshape(count, -1), len(self._spans)
        labels = np.empty((layers, *shape[1:]), np.uint16)
        confidence = np.empty((layers, *(shape[1:] if self._confidence else (0, 0, 0))), np.uint8)
        for span, of_layer, certain in zip(self._spans, labels, confidence, strict=True):
            work = partial(self._decide_layer, flat[span], of_layer.reshape(-1), certain.reshape(-1))
            run_and_count(work, flat.shape[1], self.probability_sum[span], self.voxel_count[span])
            of_layer[of_layer > 0] += span.start
        entropy = self._confidence == "entropy"
        self._write(NewSlices(first, labels, least_certain(confidence, entropy) if self._confidence else None, head))

    def _decide_layer(
        self,
        sums: NDArray[np.float32],
        labels: NDArray[np.uint16],
        confidence: NDArray[np.uint8],
        low: int,
        high: int,
        total: NDArray[np.float64],
        won: NDArray[np.int64],
    ) -> None:
        """Voxels `low` to `high`, of the classes of one layer, counted within it."""
        decide_mean(sums, low, high, self._rule, self._confidence == "entropy", labels, confidence, total, won)

    def _mean_distance(self, first: int, last: int) -> NDArray[np.uint8]:
        """Levels of the distance of new slices, the mean of all ensembles."""
        shape = (last - first, *self._plane)
        sums = self._distances[: math.prod(shape)].reshape(shape)
        sums[:] = 0
        for sink, (order, flips) in zip(self._sinks, self._turns, strict=True):
            sink.add_distance(first, last, sums[None].transpose(order)[(0, slice(None), *flips)])
        return levels_of(sums)


def _reorientation(
    base: Sequence[tuple[int, bool]], other: Sequence[tuple[int, bool]]
) -> tuple[tuple[int, ...], tuple[slice, slice]]:
    """From ``(K, S, Y, X)`` in one task's streaming order to another's: the axes' order, and slices that reverse Y and X."""
    if len(base) < 3:
        return (0, 1, 2, 3), (slice(None), slice(None))  # pictures are never turned
    axes = [[axis for axis, _ in base].index(axis) for axis, _ in other[1:]]
    flips = [base[axis][1] != flip for axis, (_, flip) in zip(axes, other[1:], strict=True)]
    first, second = (slice(None, None, -1 if flip else 1) for flip in flips)
    return (0, 1, 1 + axes[0], 1 + axes[1]), (first, second)
