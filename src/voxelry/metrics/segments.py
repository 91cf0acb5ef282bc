"""Segments of a label map: every object and every label of kind stuff, counted in one pass, and the map of their ids.

Both read the map slab by slab, so that memory is bounded by the number of segments, however large the map is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.segment_info import SegmentInfo
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GridMismatchError, LabelError, UsageError

Scores = Mapping[int | str, float | None]

_NO_SCORES: Scores = MappingProxyType({})
_SLAB_VOXELS = 2**20
_VALUES = 2**16
_UNKNOWN = _VALUES - 1
_MOST_ID = 2**32 - 1
_SPARSE = 2**20
"""Ids up to this number have a row each in the counts; where there are larger ones, ids are ranked first."""


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
    return _rows(labels, _tallied(labels, confidence), confidence is not None, scores)


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
    counts = _tallied(labels, None)
    numbers = counts.numbers()[: len(labels.table) + 1].astype(np.uint32)
    ids = np.zeros(labels.layers.shape, dtype=np.uint32)
    for layer in range(len(labels.layers)):
        for slab, index, instances, _ in _slabs(labels, layer, None):
            values = np.where(counts.is_thing[index] > 0, instances, numbers[index])
            _oriented(ids[layer], labels.layers[layer])[slab] = values
    return ids


@dataclass(frozen=True)
class _Tally:
    """Counts of each segment; row `i` of a label, row ``len(table) + id`` of an object (its rank, where ids are sparse).

    Attributes:
        is_thing: ``(n + 1,)`` uint8: labels with a segment for each id.
        distinct: ids in order, where they are sparse; else None.
        largest: the largest instance id.
        owner: ``(S,)`` the label of each segment, from 1; 0 where there is no such segment.
        sums: ``(S, 5)`` voxels, sums of indices, sum of confidence.
        bounds: ``(S, 6)`` smallest and largest indices.
    """

    is_thing: NDArray[np.uint8]
    distinct: NDArray[np.uint32] | None
    largest: int
    owner: NDArray[np.int32]
    sums: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def numbers(self) -> NDArray[np.int64]:
        """The id of each segment, 0 where there is no such segment.

        Raises:
            LabelError: instance ids leave none for the labels.
        """
        labels = len(self.is_thing) - 1
        ids = np.arange(len(self.owner), dtype=np.int64) - labels
        if self.distinct is not None:
            ids[labels + 1 :] = self.distinct
        ids[: labels + 1] = self.largest + np.cumsum(self.owner[: labels + 1] > 0)
        if labels and ids[labels] > _MOST_ID:
            raise LabelError(f"instance ids up to {self.largest} leave no number for labels", remedy="Number the objects from 1.")
        return np.where(self.owner > 0, ids, 0)


def _tallied(labels: LabelMap, confidence: Volume | None) -> _Tally:
    """Count every segment."""
    from voxelry.metrics.segment_kernels import tally  # the compiler, which naming labels does without

    table, instances = labels.table, labels.instances
    is_thing = np.array([0, *(instances is not None and label.kind == "thing" for label in table.labels)], dtype=np.uint8)
    largest = 0 if instances is None else int(instances.max())
    distinct = np.unique(instances[instances > 0]) if instances is not None and largest > _SPARSE else None
    size = len(is_thing) + (largest if distinct is None else len(distinct))
    bounds = np.full((size, 6), -1, dtype=np.int64)
    bounds[:, :3] = max(labels.geometry.shape)
    counts = _Tally(is_thing, distinct, largest, np.zeros(size, np.int32), np.zeros((size, 5), np.int64), bounds)
    for layer in range(len(labels.layers)):
        for slab, index, ids, grey in _slabs(labels, layer, confidence):
            ranks = ids if distinct is None else np.where(ids > 0, np.searchsorted(distinct, ids) + 1, 0).astype(np.uint32)
            clash = tally(index, ranks, grey, slab.start, is_thing, len(table), counts.owner, counts.sums, bounds)
            if clash:
                raise _two_labels(labels, counts, clash)
    return counts


def _two_labels(labels: LabelMap, counts: _Tally, segment: int) -> LabelError:
    number = int(counts.numbers()[segment])
    names = [
        label.name
        for label in labels.table.labels
        if label.kind == "thing" and (labels.instances == number)[label.layer][labels.mask(label.name)].any()  # type: ignore[index]
    ]
    return LabelError(
        f"{labels.source.name}: instance {number} lies in {' and '.join(repr(name) for name in names)}",
        remedy="An id belongs to one label and is unique over the whole map: number the objects anew.",
    )


def _slabs(
    labels: LabelMap, layer: int, confidence: Volume | None
) -> Iterator[tuple[slice, NDArray[np.uint16], NDArray[np.uint32], NDArray[np.uint8]]]:
    """Slabs of a layer in its memory order: planes, number of the label, instance id, confidence; three axes each."""
    values = _oriented(labels.layers[layer], labels.layers[layer])
    ids = None if labels.instances is None else _oriented(labels.instances[layer], labels.layers[layer])
    grey = None if confidence is None else _oriented(confidence.array[0], labels.layers[layer])
    lookup = _lookup(labels, layer)
    planes = max(1, _SLAB_VOXELS // max(1, values[0].size))
    for start in range(0, len(values), planes):
        slab = slice(start, min(start + planes, len(values)))
        shape = values[slab].shape
        yield (
            slab,
            _numbered(values[slab], lookup, labels, layer),
            np.zeros(shape, np.uint32) if ids is None else np.ascontiguousarray(ids[slab], dtype=np.uint32),
            np.zeros(shape, np.uint8) if grey is None else np.ascontiguousarray(grey[slab]),
        )


def _is_reversed(layer: NDArray[Any]) -> bool:
    return abs(layer.strides[0]) < abs(layer.strides[-1])


def _oriented(array: NDArray[Any], layer: NDArray[Any]) -> NDArray[Any]:
    """A view with three axes, reversed where the last axis of `layer` is the slowest in memory."""
    view = array.T if _is_reversed(layer) else array
    return view if view.ndim == 3 else view[:, None]


def _lookup(labels: LabelMap, layer: int) -> NDArray[np.uint16]:
    """Stored value -> number of the label on a layer, 0 for background and ignored voxels."""
    lookup = np.full(_VALUES, _UNKNOWN, dtype=np.uint16)
    lookup[0] = 0
    for number, label in enumerate(labels.table.labels, start=1):
        if label.layer == layer:
            lookup[label.value] = number
    if labels.table.ignore is not None:
        lookup[labels.table.ignore] = 0
    return lookup


def _numbered(values: NDArray[Any], lookup: NDArray[np.uint16], labels: LabelMap, layer: int) -> NDArray[np.uint16]:
    """The number of each voxel's label, in C order.

    Raises:
        LabelError: a value that the table does not have on that layer.
    """
    fits = values.dtype.itemsize <= 2 and values.dtype.kind == "u"
    if fits or (values.min() >= 0 and values.max() < _VALUES):
        numbers = np.ascontiguousarray(lookup[values])
        if not (numbers == _UNKNOWN).any():
            return numbers
    known = np.flatnonzero(lookup != _UNKNOWN)
    unknown = np.setdiff1d(np.unique(values), known).tolist()
    raise LabelError(
        f"{labels.source.name}: label values {', '.join(map(str, unknown[:8]))} are not in the table (known on layer {layer}: "
        f"{known.tolist()})",
        remedy="Add them to the table.",
    )


def _rows(labels: LabelMap, counts: _Tally, is_scored: bool, scores: Scores) -> list[SegmentInfo]:
    """The segments that have voxels, by their ids."""
    numbers, flat = counts.numbers(), labels.geometry.ndim == 2
    present = np.flatnonzero(counts.owner)
    present = present[np.argsort(numbers[present])]
    voxels = counts.sums[present, 0]
    means, low, high = _in_array_order(labels, counts, present)
    shape, unit = np.array(labels.geometry.shape), labels.geometry.voxel_volume
    columns = (
        numbers[present], counts.owner[present] - 1, voxels, voxels * (unit or 0), np.hstack([low, high]), means,
        means if labels.geometry.affine is None else labels.geometry.world(means),
        (((low == 0) | (high == shape)) & (shape > 1)).any(axis=1), counts.sums[present, 4] / voxels / 255,
    )  # fmt: skip
    rows = []
    for number, key, count, size, box, mean, world, touches, share in zip(*(c.tolist() for c in columns), strict=True):
        label = labels.table.labels[key]
        rows.append(
            SegmentInfo(
                id=number,
                label=label,
                score=scores[number] if number in scores else share if is_scored else scores.get(label.name),
                voxels=count,
                volume_mm3=None if flat else size,
                area_mm2=size if flat and unit is not None else None,
                box=tuple(box),
                centroid=tuple(mean),
                centroid_mm=None if flat else tuple(world),
                touches_border=touches,
            )
        )
    return rows


def _in_array_order(
    labels: LabelMap, counts: _Tally, present: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Mean index, first and one past the last index of segments, along the array's own axes."""
    axes = [0, 1, 2] if labels.geometry.ndim == 3 else [0, 2]
    axes = axes[::-1] if _is_reversed(labels.layers[0]) else axes
    means = counts.sums[present, 1:4] / counts.sums[present, :1]
    return means[:, axes], counts.bounds[present, :3][:, axes], counts.bounds[present, 3:][:, axes] + 1
