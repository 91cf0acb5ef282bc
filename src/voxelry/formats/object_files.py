"""Objects drawn one by one, as masks of their boxes: painted into one LabelMap, where they overlap the smaller one last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxelry.base.listing import counted, shown
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source
from voxelry.formats.label_layers import SegmentBox

_NAMED = 3


@dataclass(frozen=True, eq=False)
class DrawnObject:
    """One object: its label, its name in messages, and the boxes of its voxels; an object without boxes is empty.

    Attributes:
        label: of the table.
        name: its file, or its id in a file.
        boxes: where it is; they may overlap.
    """

    label: Label
    name: str
    boxes: tuple[SegmentBox, ...]

    @property
    def size(self) -> int:
        """Its voxels, those in several boxes counted as often."""
        return sum(int(np.count_nonzero(box.inside)) for box in self.boxes)


def painted(
    objects: Sequence[DrawnObject], geometry: Geometry, table: LabelTable, source: Source, where: str
) -> tuple[LabelMap, list[str]]:
    """The map of some objects; the id of each thing is its number in the list, from 1.

    Where objects of one layer overlap, the smaller one keeps the voxels, so that what lies within another survives.

    Args:
        objects: in any order; labels of stuff get no id.
        geometry: the grid.
        table: their labels.
        source: their origin.
        where: their file or folder, for messages.

    Returns:
        The labels, and what was lost or is empty, in sentences.
    """
    highest = max([label.value for label in table.labels] + [table.ignore or 0])
    layers = np.zeros((table.layers, *geometry.shape), np.uint8 if highest < 256 else np.uint16)
    instances = np.zeros(layers.shape, np.uint32)
    sizes = [drawn.size for drawn in objects]
    overlap = 0
    for place in sorted(range(len(objects)), key=lambda place: (-sizes[place], place)):
        drawn = objects[place]
        layer, ids = layers[drawn.label.layer], instances[drawn.label.layer]
        id = place + 1 if drawn.label.kind == "thing" else 0
        for box in drawn.boxes:
            other = (layer[box.box] != 0) & ((layer[box.box] != drawn.label.value) | (ids[box.box] != id)) & box.inside
            overlap += int(np.count_nonzero(other))
            layer[box.box][box.inside] = drawn.label.value
            ids[box.box][box.inside] = id
    remarks = [f"{where}: objects overlap in {overlap} voxels, which the smaller object keeps"] if overlap else []
    remarks += _vanished(objects, sizes, instances, where)
    return LabelMap(layers, geometry, table, source, instances), remarks


def _vanished(objects: Sequence[DrawnObject], sizes: Sequence[int], instances: np.ndarray, where: str) -> list[str]:
    """Sentences about objects without a voxel: empty ones, and those that smaller ones cover."""
    left = np.unique(instances)
    empty = [drawn.name for drawn, size in zip(objects, sizes, strict=True) if not size]
    covered = [
        drawn.name
        for id, (drawn, size) in enumerate(zip(objects, sizes, strict=True), start=1)
        if size and drawn.label.kind == "thing" and id not in left
    ]
    return [
        f"{where}: {counted(len(names), f'object {what}', f'objects {what}')}: {shown(names, _NAMED)}"
        for names, what in ((empty, "without a voxel"), (covered, "covered by others, so without a voxel left"))
        if names
    ]
