"""Segments of a label map: every object and every label of kind stuff with score, size and place, and the map of their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.objects import ObjectBox, objects_of, planes_of, three_axes
from voxelry.core.segment_info import SegmentInfo
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GridMismatchError, LabelError, UsageError
from voxelry.metrics.segment_kernels import add_confidence

Scores = Mapping[Any, float | None]
"""Score by the id of a segment (int), or by the name of a label (str)."""

_NO_SCORES: Scores = MappingProxyType({})
_VALUES = 2**16
_MOST_ID = 2**32 - 1
_DENSE = 2**24
"""Ids up to this number are looked up in an array of all; larger ones are searched for."""


def segments_info(labels: LabelMap, confidence: Volume | None = None, scores: Scores = _NO_SCORES) -> list[SegmentInfo]:
    """Every segment of a map, with its score, size, box, centroid, and whether it touches the border.

    An object of a label of kind ``thing`` is a segment, by its instance id, where the map has instance ids; else, and of kind
    ``stuff``, all voxels of a label are one. Voxels of a thing without an id belong to no segment.

    Args:
        labels: on any number of layers.
        confidence: ``(1, *spatial)`` uint8 on the same grid: probability of the winner, 0..255 for 0..1.
        scores: score of a segment by its id, or of all segments of a label by its name. An id comes before `confidence`, a name
            after it.

    Returns:
        Segments in the order of their ids. Objects have their instance ids; labels get those after the largest instance id, in
        the order of the table.

    Raises:
        GridMismatchError: labels and confidence lie on different grids.
        LabelError: values that the table does not know; an instance id in two labels.
        UsageError: confidence of another type.

    Example:
        >>> import numpy as np
        >>> from voxelry import Geometry, Label, LabelMap, LabelTable
        >>> cells = np.zeros((6, 8), np.uint8)
        >>> cells[1:3, 1:3] = cells[1:3, 4:8] = 1
        >>> ids = np.where(cells > 0, np.where(np.arange(8) < 4, 1, 2), 0).astype(np.uint32)
        >>> table = LabelTable(labels=(Label(value=1, name="nucleus", kind="thing"),))
        >>> labels = LabelMap(cells[None], Geometry((6, 8)), table, instances=ids[None])
        >>> [(row.id, row.voxels, row.centroid, row.touches_border) for row in segments_info(labels)]
        [(1, 4, (1.5, 1.5), False), (2, 8, (1.5, 5.5), True)]
    """
    if confidence is not None and confidence.array.dtype != np.uint8:
        raise UsageError(f"confidence as {confidence.array.dtype}", remedy="Give uint8, 0..255 for 0..1, as Prediction.map.")
    if confidence is not None and not labels.geometry.same_grid(confidence.geometry):
        raise GridMismatchError(
            f"{labels.source.name}: labels ({labels.geometry.describe()}) and confidence ({confidence.geometry.describe()}) lie "
            "on different grids",
            remedy="Give the map of the same prediction.",
        )
    segments = _segments(labels)
    means = {} if confidence is None else _means(labels, segments, confidence)
    places: list[Any] = [None] * len(segments)
    if labels.geometry.affine is not None and segments:
        places = labels.geometry.world(np.array([item.centre for item in segments.values()], np.float64)).tolist()
    rows = []
    for (number, item), place in zip(segments.items(), places, strict=True):
        score = scores[number] if number in scores else means[number] if means else scores.get(item.label.name)
        rows.append(_row(labels, number, item, score, place))
    return rows


def panoptic_ids(labels: LabelMap) -> NDArray[np.uint32]:
    """The id of each voxel's segment, as `segments_info` numbers them.

    Args:
        labels: on any number of layers. With `LabelMap.layers` the result gives class and id of each voxel.

    Returns:
        ``(L, *spatial)`` uint32, 0 where there is no segment.

    Raises:
        LabelError: values that the table does not know; an instance id in two labels; no number left for a label.

    Example:
        >>> import numpy as np
        >>> from voxelry import segments_info
        >>> from voxelry.metrics import panoptic_ids
        >>> from voxelry.phantom import small_phantom
        >>> labels = small_phantom().labels
        >>> np.unique(panoptic_ids(labels)).tolist() == [0, *(row.id for row in segments_info(labels))]
        True
    """
    return _ids(labels, _segments(labels))


def ranks_of(ids: NDArray[np.uint32], numbers: Sequence[int]) -> NDArray[np.intp]:
    """The place of each id in a list, from 1; 0 for the id 0.

    Args:
        ids: of any shape, 0 or one of the list.
        numbers: distinct ids, ascending, from 1.
    """
    if not numbers or numbers[-1] > _DENSE:
        return np.asarray(np.searchsorted(np.array([0, *numbers], np.uint32), ids), dtype=np.intp)
    places = np.zeros(numbers[-1] + 1, np.intp)
    places[np.array(numbers)] = np.arange(1, len(numbers) + 1)
    return places[ids]


def _segments(labels: LabelMap) -> dict[int, ObjectBox]:
    """Id -> segment, in order.

    Raises:
        LabelError: instance ids leave no number for labels.
    """
    present = [item for item in objects_of(labels, labels.source.name) if item.voxels]
    things = {item.instance: item for item in present if item.by_id and item.instance}
    wholes = [item for item in present if not item.by_id]
    largest = max(things, default=0)
    if wholes and largest + len(wholes) > _MOST_ID:
        raise LabelError(
            f"{labels.source.name}: instance ids up to {largest} leave no number for labels", remedy="Number the objects from 1."
        )
    return dict(sorted(things.items())) | {largest + rank: item for rank, item in enumerate(wholes, start=1)}


def _row(labels: LabelMap, number: int, item: ObjectBox, score: float | None, place: list[float] | None) -> SegmentInfo:
    geometry, box, centre = labels.geometry, item.box, item.centre
    assert box is not None
    assert centre is not None
    size = None if geometry.voxel_volume is None else item.voxels * geometry.voxel_volume
    ends = [(side.start == 0 or side.stop == n) and n > 1 for side, n in zip(box, geometry.shape, strict=True)]
    return SegmentInfo(
        id=number,
        label=item.label,
        score=score,
        voxels=item.voxels,
        volume_mm3=size if geometry.ndim == 3 else None,
        area_mm2=size if geometry.ndim == 2 else None,
        box=(*(side.start for side in box), *(side.stop for side in box)),
        centroid=centre,
        centroid_mm=None if place is None else tuple(place),
        touches_border=any(ends),
    )


def _ids(labels: LabelMap, segments: Mapping[int, ObjectBox]) -> NDArray[np.uint32]:
    """``(L, *spatial)`` the id of each voxel's segment."""
    ids = np.zeros(labels.layers.shape, dtype=np.uint32)
    for layer, values in enumerate(labels.layers):
        numbers, by_id = np.zeros(_VALUES, np.uint32), _told_apart(labels, layer)
        for number, item in segments.items():
            if item.label.layer == layer and not item.by_id:
                numbers[item.label.value] = number
        ids[layer] = numbers[values]
        if labels.instances is not None:
            np.copyto(ids[layer], labels.instances[layer], where=by_id[values])
    return ids


def _told_apart(labels: LabelMap, layer: int) -> NDArray[np.bool_]:
    """Whether the voxels of a stored value of a layer are told apart by id, where there are ids."""
    by_id = np.zeros(_VALUES, np.bool_)
    by_id[[label.value for label in labels.table.labels if label.layer == layer and label.kind == "thing"]] = True
    return by_id


def _means(labels: LabelMap, segments: Mapping[int, ObjectBox], confidence: Volume) -> dict[int, float]:
    """The mean confidence of each segment, 0..1."""
    sums = np.zeros(len(segments), np.int64)
    known = np.array([number for number, item in segments.items() if item.by_id], np.uint32)
    grey = three_axes(confidence.array[0])
    for layer in range(len(labels.layers)):
        places = np.full(_VALUES, -1, np.int64)
        for place, item in enumerate(segments.values()):
            if item.label.layer == layer and not item.by_id:
                places[item.label.value] = place
        add_confidence(*planes_of(labels, layer), places, _told_apart(labels, layer), known, grey, sums)
    return {number: int(total) / 255 / item.voxels for (number, item), total in zip(segments.items(), sums, strict=True)}
