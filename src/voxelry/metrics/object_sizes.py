"""Number, size and contacts of the objects of label maps, case by case and over a dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from voxelry.core.object_statistics import ObjectStatistics
from voxelry.core.volume import LabelMap
from voxelry.metrics.instances import connected_objects

Values = NDArray[np.float64]
_DIMENSIONS = 3
_PERCENTILES = (5, 50, 95)


@dataclass(frozen=True, eq=False)
class ObjectSizes:
    """The objects of one label of a case.

    Attributes:
        ids: ``(n,)`` their instance ids, ascending.
        diameters: ``(n,)`` of the ball (disc) of the same volume (area), in voxels of a grid of unknown spacing, else in mm.
        touching: ``(n,)`` whether it touches or overlaps another object.
        parts: ``(n,)`` number of parts that do not touch.
        is_in_mm: the unit of `diameters`.
    """

    ids: NDArray[np.int64]
    diameters: Values
    touching: NDArray[np.bool_]
    parts: NDArray[np.int64]
    is_in_mm: bool = True


def object_sizes(labels: LabelMap) -> dict[str, ObjectSizes]:
    """The objects of each thing of a map, by the label's name; empty where the map has no instance ids.

    Args:
        labels: an id belongs to one label.
    """
    if labels.instances is None:
        return {}
    touching = _touching(labels.instances)
    volume = labels.geometry.voxel_volume
    objects = [connected_objects(layer) for layer in labels.instances]
    result = {}
    for label in labels.table.labels:
        if label.kind != "thing" or label.layer >= len(labels.layers):
            continue
        layer, parts = labels.instances[label.layer], objects[label.layer]
        inside = (labels.layers[label.layer] == label.value) & (layer > 0)
        ids, counts = np.unique(layer[inside], return_counts=True)
        torn, numbers = np.unique(parts.classes, return_counts=True)
        result[label.name] = ObjectSizes(
            ids.astype(np.int64),
            ball_diameters(counts * (volume or 1.0), labels.geometry.ndim),
            np.isin(ids, touching),
            numbers[np.searchsorted(torn, ids)],
            volume is not None,
        )
    return result


def ball_diameters(volumes: Any, dimensions: int) -> Any:
    """The diameters of the balls of volumes (of the discs of areas, in two dimensions)."""
    return 2 * np.sqrt(volumes / math.pi) if dimensions < _DIMENSIONS else np.cbrt(6 * volumes / math.pi)


def summarise(cases: Sequence[Mapping[str, ObjectSizes]], label: str | None = None) -> ObjectStatistics:
    """The objects of some cases in numbers.

    Args:
        cases: what `object_sizes` gives of each.
        label: the name of a thing; None takes all things together.
    """
    chosen = [[sizes for name, sizes in case.items() if label in (None, name)] for case in cases]
    counts = [sum(len(sizes.ids) for sizes in case) for case in chosen] or [0]
    sized = [sizes for case in chosen for sizes in case if len(sizes.ids)]
    diameters = np.concatenate([sizes.diameters for sizes in sized]) if sized else np.zeros(0)
    low, median, high = np.percentile(diameters, _PERCENTILES).round(6).tolist() if len(diameters) else (0.0, 0.0, 0.0)
    return ObjectStatistics(
        total=sum(counts),
        per_case=(min(counts), float(np.median(counts)), max(counts)),
        diameter=(low, median, high) if len(diameters) else None,
        unit="mm" if all(sizes.is_in_mm for sizes in sized) else "pixels",
        touching=sum(int(sizes.touching.sum()) for sizes in sized),
        in_parts=sum(int((sizes.parts > 1).sum()) for sizes in sized),
    )


def _touching(instances: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The ids of which a voxel touches (26 neighbours, 8 in pictures) or overlaps another object."""
    pairs: set[tuple[int, int]] = set()
    for layer in instances:
        pairs |= cc3d.region_graph(layer.reshape(layer.shape + (1,) * (_DIMENSIONS - layer.ndim)), connectivity=26)
    touching = {id for pair in pairs for id in pair}
    for index, layer in enumerate(instances):
        for other in instances[index + 1 :]:
            both = (layer > 0) & (other > 0) & (layer != other)
            touching |= set(np.unique([layer[both], other[both]]).tolist())
    return np.array(sorted(touching), np.uint32)
