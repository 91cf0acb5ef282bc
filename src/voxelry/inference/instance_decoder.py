"""Instance decoder: from classes, core probability and distance on a scan's own grid to an id for every object.

Seeds are the connected cores, which grow by watershed along the distance through the foreground they touch; foreground without a
core is one object; without an instance head every component of a class is one. Slices come slab by slab: their runs of foreground
are joined with those before by union-find, and an object is decoded once the last slab of all foreground that it touches has
passed. Ids take the place of the head's channels in one array, so that beside the result memory holds the runs of unfinished
objects and the fronts of growing ones. The objects depend on the voxels alone: not on the slabs, the axis or the order of memory.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.threads import THREADS, run_slabs
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import LabelTable
from voxelry.errors import ModelError, nearest
from voxelry.inference.instance_kernels import (
    CORE_RUN,
    encode,
    find_runs,
    flatten,
    join,
    paint,
    renumber,
    settle,
    survey,
)
from voxelry.inference.watershed_kernels import BLOCK, LISTS, MOST_LABELS, grow

SLAB_VOXELS = 4 << 20
"""Voxels looked at a time, or those of one slice where they are more."""

DECODING_BYTES = 4
"""Of a voxel while objects are decoded: runs, and the queue of growing ones."""

_VOTES = 4 << 20
"""Numbers of a table of votes, or those of one object."""

_ROUNDING = 1e-6  # an object of exactly the smallest volume stays, whatever the affine's last digits

Classes = NDArray[np.uint8] | NDArray[np.uint16]
Ids = NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs of foreground voxels, in the order of their rows (`instance_kernels`).

    Attributes:
        rows: ``(R,)`` int32.
        starts: ``(R,)`` int32, the first voxel of each.
        stops: ``(R,)`` int32, the voxel to stop before.
        values: ``(R,)`` uint16.
        objects: ``(R,)`` int32, the first run of the foreground that each belongs to.
        seeds: ``(R,)`` int32, the first run of the core that each belongs to.
    """

    rows: NDArray[np.int32]
    starts: NDArray[np.int32]
    stops: NDArray[np.int32]
    values: NDArray[np.uint16]
    objects: NDArray[np.int32]
    seeds: NDArray[np.int32]

    @classmethod
    def empty(cls, count: int = 0) -> _Runs:
        """Runs to be written; each is its own object and seed."""
        rows, starts, stops = (np.empty(count, np.int32) for _ in range(3))
        return cls(rows, starts, stops, np.empty(count, np.uint16), *(np.arange(count, dtype=np.int32) for _ in range(2)))

    def __len__(self) -> int:
        return len(self.rows)

    def with_new(self, new: _Runs) -> _Runs:
        """These, and new ones behind them."""
        shift = np.int32(len(self))
        return _Runs(
            np.concatenate([self.rows, new.rows]),
            np.concatenate([self.starts, new.starts]),
            np.concatenate([self.stops, new.stops]),
            np.concatenate([self.values, new.values]),
            np.concatenate([self.objects, new.objects + shift]),
            np.concatenate([self.seeds, new.seeds + shift]),
        )

    def of(self, mask: NDArray[np.bool_]) -> _Runs:
        """Those of some whole objects."""
        number = np.cumsum(mask, dtype=np.int32) - np.int32(1)
        objects, seeds = number[self.objects[mask]], number[self.seeds[mask]]
        return _Runs(self.rows[mask], self.starts[mask], self.stops[mask], self.values[mask], objects, seeds)


class InstanceDecoder:
    """Decodes one scan.

    Args:
        classes: ``(*spatial)`` class indices, in one piece of memory; an object's voxels get its class, those dropped 0.
        ids: ``(*spatial)`` uint32 in the same order of memory, packed core probability and distance (`head_kernels`); becomes
            ids, 0 where there is no object, else 1..n by the objects' first voxels in the scan's own order of axes.
        things: class indices whose objects are told apart.
        core_threshold: the smallest probability of a core's voxel; None where there is no head.
        smallest: the fewest voxels of an object; smaller ones are dropped.

    Attributes:
        dropped: number of objects that were too small.
    """

    def __init__(
        self, classes: Classes, ids: Ids, things: list[int], core_threshold: float | None = None, smallest: float = 0.0
    ) -> None:
        self._cores, self._smallest = core_threshold is not None, smallest * (1 - _ROUNDING)
        self._core = -1 if core_threshold is None else math.ceil(core_threshold * 255 * (1 - _ROUNDING))
        shape, self._strides = _slices_first(classes)
        self._shape, self._row_shape = shape, (shape[0] * shape[1], shape[2])
        self._flat = ids.reshape(-1, order="A")
        self._ids, self._classes = self._flat.reshape(self._row_shape), classes.reshape(-1, order="A").reshape(self._row_shape)
        count = max([int(np.iinfo(classes.dtype).max) + 1 if classes.dtype == np.uint8 else 0, *(c + 1 for c in things)])
        self._things = np.zeros(max(count, int(classes.max(initial=0)) + 1), bool)
        self._things[things] = True
        self._columns = np.cumsum(self._things) * self._things - self._things
        self._owners = np.flatnonzero(self._things).astype(classes.dtype)
        steps = np.array(list(itertools.product(*[(-1, 0, 1) if size > 1 else (0,) for size in shape])))
        self._shifts = steps[steps.any(axis=1)] if len(steps) > 1 else steps
        self._open = _Runs.empty()
        self._last_offsets = np.zeros(0, np.int64)
        self._passed = 0
        self._places: list[NDArray[np.int64]] = []
        self._next = 1
        self.dropped = 0

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
        step = slab or max(1, SLAB_VOXELS // max(1, self._shape[1] * self._shape[2]))
        for stop in range(step, self.size + step, step):
            self.advance(min(stop, self.size))
        return self.finish()

    def advance(self, stop: int) -> None:
        """Slices below `stop` have come: join their foreground with that before, and decode what is complete."""
        height, first = self._shape[1], self._passed
        rows = slice(first * height, stop * height)
        new, offsets = self._find(rows)
        carried = len(self._last_offsets) - 1 if first else 0
        before = len(self._open)
        runs = self._open.with_new(new)
        if carried:
            offsets = np.concatenate([self._last_offsets[:-1], offsets + before])
        join(offsets, height, carried, runs.starts, runs.stops, runs.values, self._cores, runs.objects, runs.seeds)
        flatten(runs.objects)
        flatten(runs.seeds)
        unfinished = np.zeros(len(runs), bool)
        last = offsets[len(offsets) - 1 - height :]
        if stop < self.size:
            unfinished[runs.objects[last[0] :]] = True
            unfinished = unfinished[runs.objects]
        self._passed = stop
        self._decode(runs.of(~unfinished))
        self._open = runs.of(unfinished)
        self._last_offsets = last - last[0] + len(self._open) - (last[-1] - last[0])

    def finish(self) -> int:
        """Number the objects by their first voxels; how many there are."""
        places = np.concatenate([np.zeros(0, np.int64), *self._places])
        numbers = np.zeros(len(places) + 1, np.uint32)
        numbers[1 + np.argsort(places)] = np.arange(1, len(places) + 1)
        if not np.array_equal(numbers, np.arange(len(numbers))):
            run_slabs(lambda low, high: renumber(self._flat, numbers, low, high), self._flat.size)
        return len(places)

    def _find(self, rows: slice) -> tuple[_Runs, NDArray[np.int64]]:
        """The runs of rows, whose voxels become codes; and the number of each row's first run."""
        ids, classes = self._ids[rows], self._classes[rows]
        counts = np.zeros(len(ids), np.int64)
        run_slabs(lambda low, high: encode(classes, ids, self._things, self._core, low, high, counts), len(ids))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        new, begin = _Runs.empty(int(offsets[-1])), rows.start
        run_slabs(
            lambda low, high: find_runs(ids, self._cores, offsets, begin, low, high, new.rows, new.starts, new.stops, new.values),
            len(ids),
        )
        return new, offsets

    def _decode(self, runs: _Runs) -> None:
        """Give complete foreground its ids."""
        if not len(runs):
            return
        labels, count = self._labelled(runs)
        if count > MOST_LABELS:
            raise ModelError(
                f"{count} objects in one piece: the cores that the network found are noise",
                remedy="Train the model longer, or raise instances.core_threshold in its plan.",
            )
        paint_runs = (runs.rows, runs.starts, runs.stops)
        run_slabs(lambda low, high: paint(self._ids, *paint_runs, labels, low, high), len(runs))
        if self._cores:
            self._grow(runs)
        sizes, places, owners = self._survey(runs, count)
        kept = sizes >= self._smallest
        kept[0] = False
        self.dropped += count - int(kept.sum())
        ids = (np.cumsum(kept) + (self._next - 1)).astype(np.uint32) * kept.astype(np.uint32)
        self._next += int(kept.sum())
        self._places.append(places[kept])
        owners = owners * kept.astype(owners.dtype)
        run_slabs(lambda low, high: settle(self._ids, self._classes, *paint_runs, ids, owners, low, high), len(runs))

    def _labelled(self, runs: _Runs) -> tuple[NDArray[np.uint32], int]:
        """A label for each run of a core, ordered by the cores' first voxels, and of foreground without any; else 0."""
        whole = np.zeros(len(runs), bool)
        if self._cores:
            whole[runs.objects[runs.values == CORE_RUN]] = True
            whole = ~whole[runs.objects]
            sets = np.where(whole, runs.objects, runs.seeds)
            marked = whole | (runs.values == CORE_RUN)
        else:
            sets, marked = runs.objects, np.ones(len(runs), bool)
        height, (along, down, across) = self._shape[1], self._strides
        places = runs.rows.astype(np.int64) // height * along + runs.rows % height * down + runs.starts * across
        firsts = np.full(len(runs), np.iinfo(np.int64).max)
        np.minimum.at(firsts, sets[marked], places[marked])
        roots = np.unique(sets[marked])
        labels = np.zeros(len(runs), np.uint32)
        labels[roots[np.argsort(firsts[roots])]] = np.arange(1, len(roots) + 1)
        return np.where(marked, labels[sets], np.uint32(0)), len(roots)

    def _grow(self, runs: _Runs) -> None:
        """Grow the cores of complete foreground, in as many groups as there are threads."""
        order = np.argsort(runs.objects, kind="stable")
        sizes = np.cumsum((runs.stops - runs.starts)[order], dtype=np.int64)
        edges = np.flatnonzero(np.diff(runs.objects[order], prepend=-1))
        starts = sizes[edges] - (runs.stops - runs.starts)[order][edges]
        groups = np.unique(np.searchsorted(starts, np.linspace(0, sizes[-1], THREADS + 1)[:-1]))
        bounds = [*(int(edges[min(group, len(edges) - 1)]) for group in groups), len(runs)]
        kind = np.int32 if self._flat.size < 2**31 else np.int64

        def work(low: int, high: int) -> None:
            for group in range(low, high):
                chosen = order[bounds[group] : bounds[group + 1]]
                voxels = int((runs.stops[chosen] - runs.starts[chosen]).sum(dtype=np.int64))
                seeds = chosen[runs.values[chosen] == CORE_RUN]
                blocks = voxels // BLOCK + LISTS + 1
                pool, links = np.empty(blocks * BLOCK, kind), np.empty(blocks, np.int32)
                cores = (runs.rows[seeds], runs.starts[seeds], runs.stops[seeds])
                grow(self._flat, *self._shape, self._shifts, *cores, 0, len(seeds), pool, links)

        run_slabs(work, len(bounds) - 1)

    def _survey(self, runs: _Runs, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Classes]:
        """Of labels 0..count: voxels, first voxel, and the class of most voxels (of equally many the first)."""
        places = np.full(count + 1, np.iinfo(np.int64).max)
        owners = np.zeros(count + 1, self._owners.dtype)
        step = max(1, _VOTES // len(self._owners))
        for low in range(0, count + 1, step):
            sizes = np.zeros(count + 1, np.int64)
            votes = np.zeros((min(step, count + 1 - low), len(self._owners)), np.uint32)
            survey(
                self._ids, self._classes, runs.rows, runs.starts, runs.stops, self._strides, self._shape[1], self._columns, low,
                sizes, places, votes,
            )  # fmt: skip
            owners[low : low + len(votes)] = self._owners[votes.argmax(1)]
        return sizes, places, owners


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


def decode_instances(
    stored: Classes, head: Ids | None, table: LabelTable, plan: InstancePlan, voxel_volume: float | None
) -> tuple[Ids, tuple[str, ...]]:
    """The objects of a prediction.

    Args:
        stored: ``(*spatial)`` stored values, in one piece of memory; an object's voxels get its label, those of objects that are
            too small 0.
        head: ``(*spatial)`` uint32, packed core probability and distance (`head_kernels`), in the same order of memory; becomes
            the ids. None where there is no head.
        table: the labels.
        plan: how objects are told apart.
        voxel_volume: mm^3 of a voxel, mm^2 of a pixel; None where it is unknown.

    Returns:
        ``(*spatial)`` ids, and what is to be said about them.

    Raises:
        ModelError: the plan names a label that the table does not know, or the cores are noise.
    """
    unknown = [name for name in plan.labels if name not in table.names]
    if unknown:
        raise ModelError(
            f"the instances of the plan name '{unknown[0]}', which is no label", remedy=nearest(unknown[0], table.names)
        )
    ids = np.zeros_like(stored, dtype=np.uint32) if head is None else head
    things = [table[name].value for name in plan.labels]
    threshold = plan.core_threshold if plan.head_channels else None
    decoder = InstanceDecoder(stored, ids, things, threshold, plan.smallest / (voxel_volume or 1.0))
    decoder.run()
    if not decoder.dropped:
        return ids, ()
    unit = "pixels" if voxel_volume is None else f"mm^{ids.ndim}"
    return ids, (f"{decoder.dropped} objects smaller than {plan.smallest:g} {unit} dropped",)


def decode_layers(
    layers: Classes, head: Ids | None, table: LabelTable, plan: InstancePlan, voxel_volume: float | None
) -> tuple[Ids, tuple[str, ...]]:
    """The objects of a prediction, layer by layer, with ids that are unique over all layers.

    Args:
        layers: ``(L, *spatial)`` stored values, each layer as in `decode_instances`.
        head: as in `decode_instances`; objects of one layer alone can have it.
        table: the labels.
        plan: how objects are told apart.
        voxel_volume: as in `decode_instances`.

    Returns:
        ``(L, *spatial)`` ids, and what is to be said about them.

    Raises:
        ModelError: as `decode_instances`, or objects on several layers of one head.
    """
    named = {label.name: label.layer for label in table.labels}
    if len(layers) == 1:
        ids, remarks = decode_instances(layers[0], head, table, plan, voxel_volume)
        return ids[None], remarks
    of_layer = [tuple(name for name in plan.labels if named.get(name, 0) == number) for number in range(len(layers))]
    if head is not None and len([names for names in of_layer if names]) > 1:
        raise ModelError(
            f"objects on several layers ({', '.join(plan.labels)}), which one instance head cannot tell apart",
            remedy="Use the decoder 'components', or put things on one layer.",
        )
    joined, sentences, count = np.zeros_like(layers, dtype=np.uint32), list[str](), 0
    for layer, goal, names in zip(layers, joined, of_layer, strict=True):
        if names:
            ids, remarks = decode_instances(layer, head, table, plan.model_copy(update={"labels": names}), voxel_volume)
            goal[:] = np.where(ids > 0, ids + np.uint32(count), np.uint32(0))
            count, sentences = max(count, int(goal.max())), [*sentences, *remarks]
    return joined, tuple(sentences)
