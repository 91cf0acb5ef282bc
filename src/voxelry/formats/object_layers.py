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
    *,
    by_id: bool = True,
    drawn: bool = False,
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
        by_id: the file tells objects apart; False gives a map without ids.
        drawn: drawn by hand, so that labels may overlap on one layer of the table: objects go over regions, the smaller over the
            larger, and a remark counts the voxels.

    Raises:
        LabelError: labels overlap on one layer of the given table, unless they are drawn.
    """
    ordered = sorted(objects, key=lambda item: (_is_thing(item, labels), -item.size))
    crossed = 0
    if drawn and table is not None:
        stacked, crossed = _painted(ordered, geometry, labels, table, source)
    else:
        boxes: dict[int, list[SegmentBox]] = {}
        for item in objects:
            boxes.setdefault(item.number, []).extend(item.boxes)
        stacked = stack_segments(boxes, geometry, labels, table, source)
    if not by_id or not any(label.kind == "thing" for label in labels.values()):
        return _with_remarks(stacked, _overlaps(crossed, 0))
    layers = {label.name: label.layer for label in stacked.table.labels}
    ids = np.zeros(stacked.layers.shape, np.uint32)
    shared = 0
    for item in (item for item in ordered if _is_thing(item, labels)):
        label = labels[item.number]
        values, layer = stacked.layers[layers[label.name]], ids[layers[label.name]]
        own = [box.inside & (values[box.box] == label.value) for box in item.boxes]
        shared += sum(int(np.count_nonzero(layer[box.box][inside])) for box, inside in zip(item.boxes, own, strict=True))
        for box, inside in zip(item.boxes, own, strict=True):
            layer[box.box][inside] = item.id
    left = set(np.unique(ids).tolist())
    hidden = sorted(item.id for item in objects if _is_thing(item, labels) and item.size and item.id not in left)
    remarks = _overlaps(crossed, shared)
    if hidden:
        remarks.append(f"no voxel is left of {counted(len(hidden), 'object', 'objects')} ({shown([str(id) for id in hidden])})")
    return _with_remarks(replace(stacked, instances=ids), remarks)


def _is_thing(item: LabelledObject, labels: Mapping[int, Label]) -> bool:
    return bool(item.id) and labels[item.number].kind == "thing"


def _overlaps(crossed: int, shared: int) -> list[str]:
    remarks = []
    if crossed:
        remarks.append(
            f"{counted(crossed, 'voxel lies', 'voxels lie')} in several labels of one layer: objects have them before regions, "
            "the smaller before the larger (labels on layers of their own keep both)"
        )
    if shared:
        remarks.append(f"{counted(shared, 'voxel lies', 'voxels lie')} in several objects of one label: the smaller has them")
    return remarks


def _with_remarks(labels: LabelMap, remarks: Sequence[str]) -> LabelMap:
    return replace(labels, source=replace(labels.source, remarks=(*labels.source.remarks, *remarks)))


def _painted(
    ordered: Sequence[LabelledObject], geometry: Geometry, labels: Mapping[int, Label], table: LabelTable, source: Source
) -> tuple[LabelMap, int]:
    """The labels of objects, each over those before it, and the voxels at which it went over another label."""
    highest = max((label.value for label in labels.values()), default=0)
    layers = np.zeros((table.layers, *geometry.shape), np.uint8 if highest < 256 else np.uint16)
    crossed = 0
    for item in ordered:
        label = labels[item.number]
        layer = layers[label.layer]
        for box in item.boxes:
            before = layer[box.box][box.inside]
            crossed += int(np.count_nonzero((before != 0) & (before != label.value)))
            layer[box.box][box.inside] = label.value
    return LabelMap(layers, geometry, table, source), crossed
