"""Objects in several parts that do not touch: found, split on request, and said where they are far apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from voxelry.base.listing import counted, shown
from voxelry.core.geometry import Geometry
from voxelry.core.instance_form import Parts
from voxelry.core.volume import LabelMap
from voxelry.formats.object_ids import unused_ids
from voxelry.metrics.instances import ObjectMap, connected_objects
from voxelry.metrics.object_sizes import ball_diameters

_NAMED = 3


def with_parts(labels: LabelMap, parts: Parts, where: str) -> tuple[LabelMap, list[str]]:
    """Labels whose objects in several parts are kept or split.

    Args:
        labels: with instance ids.
        parts: ``keep``, or ``split``: the largest part keeps the id, the others get unused ones.
        where: the file, for messages.

    Returns:
        The labels, and a sentence about the objects that were split, or, of those kept, about the ones of which a part is
        farther from the largest than the object's diameter.
    """
    assert labels.instances is not None
    components = [connected_objects(layer) for layer in labels.instances]
    torn = [_torn(objects) for objects in components]
    if not any(len(places) for places in torn):
        return labels, []
    if parts == "split":
        return _split(labels, components, where)
    apart = [each for objects, ids in zip(components, torn, strict=True) for each in _far_apart(objects, ids, labels.geometry)]
    if not apart:
        return labels, []
    unit = "pixels" if labels.geometry.spacing is None else "mm"
    examples = [f"id {each.id}: {each.gap:.3g} {unit} from its largest part" for each in apart]
    message = (
        f"{where}: {counted(len(apart), 'object lies', 'objects lie')} in parts farther apart than the diameter "
        f"({shown(examples, _NAMED)}); kept as one object each (`parts: split` makes each part an object)"
    )
    return labels, [message]


@dataclass(frozen=True)
class _Apart:
    id: int
    gap: float


def _torn(objects: ObjectMap) -> NDArray[np.int64]:
    """The ids that stand in several components."""
    ids, counts = np.unique(objects.classes, return_counts=True)
    torn: NDArray[np.int64] = ids[counts > 1]
    return torn


def _split(labels: LabelMap, components: list[ObjectMap], where: str) -> tuple[LabelMap, list[str]]:
    """Each part an object of its own."""
    assert labels.instances is not None
    known = np.unique(np.concatenate([[0], *(objects.classes for objects in components)]))
    extra = sum(len(objects) - len(np.unique(objects.classes)) for objects in components)
    fresh = iter(unused_ids(known, extra))
    layers = []
    for objects in components:
        ids = np.zeros(len(objects) + 1, np.uint32)
        sizes = np.bincount(objects.ids.ravel(), minlength=len(objects) + 1)[1:]
        ids[1:] = objects.classes
        order = np.lexsort((-sizes, objects.classes))
        again = order[1:][np.diff(objects.classes[order]) == 0]
        for place in again:
            ids[1 + place] = next(fresh)
        layers.append(ids[objects.ids])
    torn = sum(len(_torn(objects)) for objects in components)
    message = f"{where}: {counted(torn, 'object', 'objects')} in several parts became {torn + extra}, one of each part"
    return replace(labels, instances=np.stack(layers)), [message]


def _far_apart(objects: ObjectMap, ids: NDArray[np.int64], geometry: Geometry) -> list[_Apart]:
    """Objects of which a part is farther from the largest part than the object's diameter, by the boxes of the parts."""
    if not len(ids):
        return []
    boxes = find_objects(objects.ids)
    sizes = np.bincount(objects.ids.ravel(), minlength=len(objects) + 1)[1:]
    spacing = np.array(geometry.spacing or (1.0,) * geometry.ndim)
    order = np.argsort(objects.classes, kind="stable")
    starts = np.searchsorted(objects.classes[order], ids)
    ends = np.searchsorted(objects.classes[order], ids, side="right")
    result = []
    for id, start, end in zip(ids.tolist(), starts, ends, strict=True):
        places = order[start:end]
        edges = np.array([[(side.start, side.stop) for side in boxes[place]] for place in places], np.float64)
        gap = _widest_gap(edges, int(sizes[places].argmax()), spacing)
        if gap > ball_diameters(sizes[places].sum() * (geometry.voxel_volume or 1.0), geometry.ndim):
            result.append(_Apart(id, gap))
    return sorted(result, key=lambda each: -each.gap)


def _widest_gap(edges: NDArray[np.float64], largest: int, spacing: NDArray[np.float64]) -> float:
    """The largest distance of a box, of ``(boxes, axes, 2)`` begins and ends, to that of the largest part."""
    before, after = edges[largest, :, 0] - edges[..., 1], edges[..., 0] - edges[largest, :, 1]
    apart = np.maximum(before, after).clip(min=0) * spacing
    return float(np.sqrt((apart**2).sum(axis=-1)).max())
