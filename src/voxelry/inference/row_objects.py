"""The objects of a row of labels in a prediction: instances where there are any, else connected parts of all labels together.

A body painted in two labels is one object, since its labels are looked at together; bodies that touch are parted where their
volume shows that they are several (`object_parting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from voxelry.core.geometry import Geometry
from voxelry.core.label_sequence import LabelSequence, row_position
from voxelry.core.labels import Label, LabelTable
from voxelry.core.segment_info import SegmentInfo
from voxelry.core.volume import LabelMap
from voxelry.inference.object_parting import count_votes, part_objects
from voxelry.inference.sequence_costs import OrderedObject
from voxelry.metrics.segments import segments_info

_OBJECTS = LabelTable(labels=(Label(value=1, name="object", kind="thing"),))

Ids = NDArray[np.uint32]
Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class RowObjects:
    """The objects of one row.

    Attributes:
        box: the part of the map that holds them.
        ids: numbers of the objects within the box, from 1.
        segments: every object within the box, in the order of the numbers.
        votes: ``(objects, labels)`` voxels of each object and label.
        geometry: the map's grid.
        instances: the id that each object has in the map; empty where the map has no ids.
    """

    box: Box
    ids: Ids
    segments: tuple[SegmentInfo, ...]
    votes: NDArray[np.int64]
    geometry: Geometry
    instances: tuple[int, ...] = ()

    def ordered(self, sequence: LabelSequence, scores: Mapping[int, Mapping[str, float]]) -> list[OrderedObject]:
        """The objects as naming looks at them: with the given scores of an instance, else its voxels of each label."""
        rows = list(self.votes.astype(np.float64))
        for number, id in enumerate(self.instances):
            if id in scores:
                rows[number] = np.array([scores[id].get(name, 0.0) for name in sequence.labels])
        return [self._ordered(segment, row) for segment, row in zip(self.segments, rows, strict=True)]

    def _ordered(self, segment: SegmentInfo, scores: NDArray[np.float64]) -> OrderedObject:
        start, shape = [side.start for side in self.box], self.geometry.shape
        index = [mean + first for mean, first in zip(segment.centroid, start, strict=True)]
        low, high = np.add(segment.box[: len(shape)], start), np.add(segment.box[len(shape) :], start)
        is_cut = bool((((low == 0) | (high == shape)) & (np.array(shape) > 1)).any())
        size = self.geometry.voxel_volume or 1.0
        return OrderedObject(scores, row_position(self.geometry, index), segment.voxels * size, is_cut)


def find_row(labels: LabelMap, sequence: LabelSequence) -> RowObjects | None:
    """Find the objects of a row.

    Args:
        labels: a prediction; the row's labels lie on one layer.
        sequence: the row.

    Returns:
        The objects, None where the map has no voxel of the row.

    Raises:
        LabelError: the map's table lacks a label of the row.
    """
    rows = [labels.table[name] for name in sequence.labels]
    layer = labels.layers[rows[0].layer]
    lookup = np.zeros(int(layer.max(initial=0)) + 1, dtype=np.uint16)
    for number, row in enumerate(rows, start=1):
        if row.value < len(lookup):
            lookup[row.value] = number
    inside = find_objects((lookup > 0).astype(np.uint8)[layer])
    if not inside:
        return None
    box: Box = inside[0]
    classes = lookup[layer[box]]
    ids, instances = None, tuple[int, ...]()
    if labels.instances is not None:
        ids, instances = _renumbered(np.where(classes > 0, labels.instances[rows[0].layer][box], 0).astype(np.uint32))
    if ids is None or not instances:
        ids, instances = part_objects(classes, sequence, labels.geometry), ()
    grid = labels.geometry.cropped([side.start for side in box], ids.shape)
    objects = LabelMap((ids > 0).astype(np.uint8)[None], grid, _OBJECTS, instances=ids[None])
    segments = tuple(segments_info(objects))
    votes = count_votes(ids, classes, len(segments), len(rows))
    return RowObjects(box, ids, segments, votes, labels.geometry, instances)


def _renumbered(ids: Ids) -> tuple[Ids, tuple[int, ...]]:
    """Ids without gaps, and what they were."""
    there = np.flatnonzero(np.bincount(ids.ravel())[1:]) + 1
    lookup = np.zeros(int(ids.max(initial=0)) + 1, dtype=np.uint32)
    lookup[there] = np.arange(1, len(there) + 1)
    return lookup[ids], tuple(there.tolist())


def instance_votes(labels: LabelMap, sequences: Sequence[LabelSequence]) -> dict[int, dict[str, float]]:
    """The voxels of each label of a row that each instance has.

    Args:
        labels: with instances.
        sequences: the rows.

    Returns:
        id of an instance -> label -> voxels; none for instances without a voxel of a row.
    """
    votes: dict[int, dict[str, float]] = {}
    for sequence in sequences:
        row = find_row(labels, sequence)
        if row is None or not row.instances:
            continue
        for id, counts in zip(row.instances, row.votes.tolist(), strict=True):
            votes.setdefault(id, {}).update(zip(sequence.labels, counts, strict=True))
    return votes
