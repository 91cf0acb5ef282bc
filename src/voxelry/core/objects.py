"""The objects of a label map, instances of things and other labels as a whole: label, id, box, number of voxels, centre."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.label_boxes import Box
from voxelry.core.labels import Label
from voxelry.core.object_kernels import CROSSING, MISPLACED, NO_SLOT, UNKNOWN, scan
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError

_VALUES = 2**16


@dataclass(frozen=True)
class ObjectBox:
    """One object, or a label as a whole.

    Attributes:
        label: its label.
        instance: its instance id; 0 for a label as a whole, and for the voxels of a thing that have no id.
        box: the smallest box that holds it, None for a label without a voxel.
        voxels: number of voxels.
        centre: mean of its voxels' indices along each spatial axis, None for a label without a voxel.
        by_id: the label's voxels are told apart by ids, of which `instance` is one.
    """

    label: Label
    instance: int
    box: Box | None
    voxels: int
    centre: tuple[float, ...] | None
    by_id: bool

    def mask(self, labels: LabelMap) -> NDArray[np.bool_]:
        """Its voxels within its box, which must not be None."""
        assert self.box is not None
        inside: NDArray[np.bool_] = labels.layers[self.label.layer][self.box] == self.label.value
        if self.by_id:
            assert labels.instances is not None
            inside &= labels.instances[self.label.layer][self.box] == self.instance
        return inside


def objects_of(labels: LabelMap, where: str | os.PathLike[str]) -> list[ObjectBox]:
    """The objects of a map in the order of the table, then of their ids, place in one pass.

    A label of kind ``thing`` on a map with instance ids is an object for each id, and one more for its voxels without an id where
    there are such. Any other label is one object, and so is a label without a voxel.

    Args:
        labels: on any number of layers.
        where: the file they come from or go to, for messages.

    Raises:
        LabelError: values that the table does not know; an id in several labels, or where no label is.
    """
    table = labels.table.labels
    extremes = {int(value) for layer in labels.layers for value in (layer.min(initial=0), layer.max(initial=0))}
    labels.table.check_values(extremes, str(where))
    ids = _ids_of(labels)
    by_id = np.array([labels.instances is not None and label.kind == "thing" for label in table], np.bool_)
    slots = _Slots.empty(len(table) + ids.size)
    for number in range(len(labels.layers)):
        fault = scan(*planes_of(labels, number), _lookup(labels, number), by_id, ids, *slots.arrays)
        if fault[0]:
            raise _error(labels, fault, where)
    return _listed(labels, ids, by_id, slots)


@dataclass(frozen=True, eq=False)
class _Slots:
    """What one pass collects of each label, and of each id after them; see `object_kernels.scan`."""

    owner: NDArray[np.int64]
    counts: NDArray[np.int64]
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    sums: NDArray[np.float64]

    @classmethod
    def empty(cls, count: int) -> _Slots:
        corners = np.full((count, 3), np.iinfo(np.int32).max, np.int32), np.full((count, 3), -1, np.int32)
        return cls(np.full(count, -1, np.int64), np.zeros(count, np.int64), *corners, np.zeros((count, 3)))

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        return self.owner, self.counts, self.first, self.last, self.sums


def _listed(labels: LabelMap, ids: NDArray[np.uint32], by_id: NDArray[np.bool_], slots: _Slots) -> list[ObjectBox]:
    """The objects of all slots, in order."""
    table, ndim = labels.table.labels, labels.geometry.ndim
    owned: list[list[int]] = [[] for _ in table]
    for index in np.flatnonzero(slots.counts[len(table) :]) + len(table):
        owned[slots.owner[index]].append(int(index))
    objects = []
    for number, label in enumerate(table):
        whole = [number] if slots.counts[number] or not owned[number] else []
        for slot in (*whole, *owned[number]):
            instance = int(ids[slot - len(table)]) if slot >= len(table) else 0
            voxels = int(slots.counts[slot])
            corners = zip(slots.first[slot].tolist(), slots.last[slot].tolist(), strict=True)
            box = tuple(slice(low, high + 1) for low, high in corners)
            centre = tuple(total / max(1, voxels) for total in slots.sums[slot].tolist())
            place = (box[-ndim:], centre[-ndim:]) if voxels else (None, None)
            objects.append(ObjectBox(label, instance, place[0], voxels, place[1], bool(by_id[number])))
    return objects


def _error(labels: LabelMap, fault: tuple[int, int, int, int], where: str | os.PathLike[str]) -> LabelError:
    """The error for a fault that the pass came upon."""
    kind, number, *owners = fault
    if kind == MISPLACED:
        return LabelError(f"{where}: instance {number} lies where no label is", remedy="Give its voxels a label, or no id.")
    if kind == CROSSING:
        names = " and ".join(f"'{labels.table.labels[owner].name}'" for owner in owners)
        return LabelError(f"{where}: instance {number} lies in the labels {names}", remedy="Give each object an id of its own.")
    labels.table.check_values([number], str(where))
    return LabelError(f"{where}: value {number} is of another layer", remedy="Correct the layers of the table.")


def _lookup(labels: LabelMap, layer: int) -> NDArray[np.int64]:
    """The slot of each value on a layer: the index of its label."""
    lookup = np.full(_VALUES, UNKNOWN, np.int64)
    lookup[0] = NO_SLOT
    if labels.table.ignore is not None:
        lookup[labels.table.ignore] = NO_SLOT
    lookup[[label.value for label in labels.table.labels if label.layer != layer]] = NO_SLOT
    for index, label in enumerate(labels.table.labels):
        if label.layer == layer:
            lookup[label.value] = index
    return lookup


def _ids_of(labels: LabelMap) -> NDArray[np.uint32]:
    """The distinct ids of a map, sorted, without 0."""
    if labels.instances is None or not labels.instances.size:
        return np.zeros(0, np.uint32)
    flat = [layer.ravel(order="K") for layer in labels.instances]
    starts = [np.unique(ids[np.append(True, ids[1:] != ids[:-1])]) for ids in flat]  # of runs, far fewer than voxels
    distinct: NDArray[np.uint32] = np.unique(np.concatenate(starts))
    return distinct[distinct > 0]


def planes_of(labels: LabelMap, layer: int) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """Stored values (uint8 or uint16) and instance ids of a layer on three axes; ids of one voxel where there are none."""
    stored = labels.layers[layer]
    values = three_axes(stored if stored.dtype in (np.uint8, np.uint16) else stored.astype(np.uint16))
    return values, np.zeros((1, 1, 1), np.uint32) if labels.instances is None else three_axes(labels.instances[layer])


def three_axes(array: NDArray[Any]) -> NDArray[Any]:
    """An array of up to three axes with axes of length 1 before them, up to three: runs along the last are long."""
    return array.reshape((*(1,) * (3 - array.ndim), *array.shape))
