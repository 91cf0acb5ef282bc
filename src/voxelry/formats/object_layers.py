"""Objects one by one, such as annotations of COCO, as a LabelMap with instance ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxelry.base.listing import counted, shown
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source
from voxelry.formats.label_layers import SegmentBox, stack_segments


@dataclass(frozen=True, eq=False)
class LabelledObject:
    """One object, or a region whose objects are not told apart.

    Attributes:
        number: the number of its label.
        id: its instance id, 0 for a region without.
        boxes: where it is; they may overlap.
    """

    number: int
    id: int
    boxes: Sequence[SegmentBox]

    @property
    def size(self) -> int:
        """The voxels of its boxes together."""
        return sum(int(np.count_nonzero(box.inside)) for box in self.boxes)


def stack_objects(
    objects: Sequence[LabelledObject],
    geometry: Geometry,
    labels: Mapping[int, Label],
    table: LabelTable | None,
    source: Source,
) -> LabelMap:
    """A map of objects with their ids, labels on as few layers as possible without overlap.

    Objects of labels of kind stuff are regions without ids; without any thing, the map has no ids at all. Where objects of
    one label overlap, the smaller one has the voxels, since a layer holds one id a voxel. A remark counts them.

    Args:
        objects: with ids that are unique.
        geometry: the grid.
        labels: number -> label, as for `stack_segments`.
        table: says the layer of each label; None lets overlaps decide.
        source: where the objects came from.

    Raises:
        LabelError: labels overlap on one layer of the given table.
    """
    boxes: dict[int, list[SegmentBox]] = {}
    for item in objects:
        boxes.setdefault(item.number, []).extend(item.boxes)
    stacked = stack_segments(boxes, geometry, labels, table, source)
    layers = {label.name: label.layer for label in stacked.table.labels}
    things = {number for number, label in labels.items() if label.kind == "thing"}
    if not things:
        return stacked
    ids = np.zeros(stacked.layers.shape, np.uint32)
    left: dict[int, int] = {}
    shared = 0
    for item in sorted((item for item in objects if item.id and item.number in things), key=lambda item: -item.size):
        layer = ids[layers[labels[item.number].name]]
        before = np.concatenate([layer[box.box][box.inside] for box in item.boxes] or [np.zeros(0, np.uint32)])
        others, counts = np.unique(before[before > 0], return_counts=True) if before.any() else ((), ())
        shared += int(sum(counts))
        left.update({other: left[other] - count for other, count in zip(map(int, others), map(int, counts), strict=True)})
        for box in item.boxes:
            layer[box.box][box.inside] = item.id
        left[item.id] = item.size
    remarks = list(source.remarks)
    if shared:
        remarks.append(f"{counted(shared, 'voxel lies', 'voxels lie')} in several objects of one label: the smaller has them")
    hidden = sorted(id for id, voxels in left.items() if voxels <= 0)
    if hidden:
        remarks.append(f"no voxel is left of {counted(len(hidden), 'object', 'objects')} ({shown([str(id) for id in hidden])})")
    return replace(stacked, instances=ids, source=replace(source, remarks=tuple(remarks)))
