"""Objects (lesions, cells, teeth) of a label map by connected components or ids, and the overlaps of the objects of two maps.

The stages: a label map -> `ObjectMap` -> `ObjectOverlaps` of two of them -> `voxelry.metrics.matching.Matches` -> scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from voxelry.errors import GridMismatchError, LabelError, UsageError

Ids = NDArray[np.uint32]
Indices = NDArray[np.int64]
Values = NDArray[np.float64]

CONNECTIVITY = {2: 8, 3: 26}
"""Default connectivity: voxels that share at least a corner are one object, as in BraTS and scipy's full structure."""

_KNOWN_CONNECTIVITY = {2: (4, 8), 3: (6, 18, 26)}
_CHUNK, _DENSE_CELLS = 1 << 22, 1 << 22
"""Voxels at a time, and the largest table of all pairs of objects, which bound memory."""


@dataclass(frozen=True, eq=False)
class ObjectMap:
    """The objects of one map.

    Attributes:
        ids: ``(*spatial)`` uint32, 0 outside objects, else 1..n.
        classes: ``(n,)`` int64 class index (1..K-1) of each object; object `i` has the id ``i + 1``.
        given: ``(n,)`` int64 id by which the map named each object; 0 of connected components, which have none.
    """

    ids: Ids = field(repr=False)
    classes: Indices
    given: Indices

    def __len__(self) -> int:
        return len(self.classes)


def connected_objects(classes: NDArray[Any], connectivity: int | None = None) -> ObjectMap:
    """The connected components of every class.

    Voxels of different classes are never one object. Libraries differ in the default: panoptica's cc3d back end takes 26
    in 3D, its scipy back end 6, scikit-image the largest, MONAI 26.

    Args:
        classes: ``(*spatial)`` class indices, 0 the background; 2D or 3D, integers or booleans.
        connectivity: 4 or 8 in 2D; 6 (faces), 18 (edges) or 26 (corners) in 3D; None takes 8 or 26.

    Returns:
        The objects, numbered in scan order.

    Raises:
        UsageError: the array is neither 2D nor 3D, or the connectivity does not fit.
        LabelError: not whole numbers, or negative ones.
    """
    if classes.ndim not in CONNECTIVITY:
        raise UsageError(f"objects exist in 2D and 3D, not in an array of shape {classes.shape}")
    neighbours = CONNECTIVITY[classes.ndim] if connectivity is None else connectivity
    if neighbours not in _KNOWN_CONNECTIVITY[classes.ndim]:
        choices = " or ".join(map(str, _KNOWN_CONNECTIVITY[classes.ndim]))
        raise UsageError(f"connectivity {neighbours} in {classes.ndim}D", remedy=f"Use {choices}.")
    values = _unsigned(classes)
    box = _bounding_box(values)
    ids = np.zeros(values.shape, dtype=np.uint32)
    if box is None:
        return ObjectMap(ids, *np.zeros((2, 0), dtype=np.int64))
    inside = np.asfortranarray(values[box]) if values.flags.f_contiguous else np.ascontiguousarray(values[box])
    components, count = cc3d.connected_components(inside, connectivity=neighbours, out_dtype=np.uint32, return_N=True)
    ids[box] = components
    return ObjectMap(ids, _class_of_each(components, inside, count), np.zeros(count, dtype=np.int64))


def objects_from_ids(ids: NDArray[Any], classes: NDArray[Any]) -> ObjectMap:
    """Objects whose ids are known, such as the instance ids of a LabelMap.

    Args:
        ids: ``(*spatial)`` whole numbers, 0 outside objects; gaps are closed. The same id in two classes is two objects.
        classes: ``(*spatial)`` class indices; ids where they are 0 are ignored.

    Returns:
        The objects, numbered in scan order: which ids they have changes nothing.

    Raises:
        GridMismatchError: the shapes differ.
        LabelError: not whole numbers, or negative ones.
    """
    if ids.shape != classes.shape:
        raise GridMismatchError(f"instance ids of shape {ids.shape} beside classes of shape {classes.shape}")
    numbers, kinds = _unsigned(ids).ravel(), _unsigned(classes).ravel()
    span = int(numbers.max(initial=0)) + 1
    cells = span * (int(kinds.max(initial=0)) + 1)
    distinct, first = _first_places(numbers, kinds, span, cells)
    order = np.argsort(first)
    rank = np.empty(len(distinct), dtype=np.uint32)
    rank[order] = np.arange(1, len(distinct) + 1)
    table = np.zeros(cells if cells <= _DENSE_CELLS else 0, dtype=np.uint32)
    table[distinct if table.size else distinct[:0]] = rank if table.size else 0
    dense = np.zeros(ids.size, dtype=np.uint32)
    for places, keys in _keys(numbers, kinds, span):
        dense[places] = table[keys] if table.size else rank[np.searchsorted(distinct, keys)]
    kind, number = np.divmod(distinct[order], span)
    return ObjectMap(dense.reshape(ids.shape), kind, number)


def _keys(numbers: NDArray[Any], kinds: NDArray[Any], span: int) -> Iterator[tuple[Indices, Indices]]:
    """For each piece of two flat arrays, the voxels of objects, and the class and id of each as one number."""
    for start in range(0, numbers.size, _CHUNK):
        number, kind = numbers[start : start + _CHUNK], kinds[start : start + _CHUNK]
        inside = np.flatnonzero((number > 0) & (kind > 0))
        yield inside + start, kind[inside].astype(np.int64) * span + number[inside].astype(np.int64)


def _first_places(numbers: NDArray[Any], kinds: NDArray[Any], span: int, cells: int) -> tuple[Indices, Indices]:
    """The distinct keys of `_keys`, rising and below `cells`, and the first voxel of each."""
    if cells <= _DENSE_CELLS:
        first = np.full(cells, -1, dtype=np.int64)
        for inside, keys in _keys(numbers, kinds, span):
            new = first[keys] < 0
            first[keys[new][::-1]] = inside[new][::-1]  # of equal keys numpy keeps the last one written: the first voxel
        distinct = np.flatnonzero(first >= 0)
        return distinct, first[distinct]
    parts, places = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for inside, keys in _keys(numbers, kinds, span):
        distinct, first = np.unique(keys, return_index=True)
        parts.append(distinct)
        places.append(inside[first])
    distinct, first = np.unique(np.concatenate(parts), return_index=True)
    return distinct, np.concatenate(places)[first]


@dataclass(frozen=True, eq=False)
class ObjectOverlaps:
    """The pairs of reference and predicted objects that share voxels, whatever their classes.

    Attributes:
        reference_classes: ``(R,)`` class index of each reference object.
        prediction_classes: ``(P,)`` class index of each predicted object.
        reference_sizes: ``(R,)`` voxels.
        prediction_sizes: ``(P,)`` voxels.
        reference: ``(M,)`` index 0..R-1 of each pair.
        prediction: ``(M,)`` index 0..P-1 of each pair.
        shared: ``(M,)`` voxels in both, at least 1.
    """

    reference_classes: Indices
    prediction_classes: Indices
    reference_sizes: Indices
    prediction_sizes: Indices
    reference: Indices
    prediction: Indices
    shared: Indices

    @cached_property
    def iou(self) -> Values:
        """``(M,)`` intersection over union of each pair, 0..1."""
        union = self.reference_sizes[self.reference] + self.prediction_sizes[self.prediction] - self.shared
        ratio: Values = self.shared / union
        return ratio

    @cached_property
    def dice(self) -> Values:
        """``(M,)`` Dice of each pair, 0..1."""
        total = self.reference_sizes[self.reference] + self.prediction_sizes[self.prediction]
        ratio: Values = 2 * self.shared / total
        return ratio

    def of_class(self, index: int) -> ObjectOverlaps:
        """The objects of one class, renumbered in order."""
        return self.of_classes(np.array([index], dtype=np.int64))

    def of_classes(self, indices: Indices) -> ObjectOverlaps:
        """The objects of some classes, renumbered in order."""
        rows, columns = np.isin(self.reference_classes, indices), np.isin(self.prediction_classes, indices)
        pairs = rows[self.reference] & columns[self.prediction]
        return ObjectOverlaps(
            self.reference_classes[rows],
            self.prediction_classes[columns],
            self.reference_sizes[rows],
            self.prediction_sizes[columns],
            (np.cumsum(rows) - 1)[self.reference[pairs]],
            (np.cumsum(columns) - 1)[self.prediction[pairs]],
            self.shared[pairs],
        )


def object_overlaps(reference: ObjectMap, prediction: ObjectMap) -> ObjectOverlaps:
    """Count the voxels that each reference object shares with each predicted object, in one pass and bounded memory.

    Args:
        reference: objects of the truth.
        prediction: objects of the map to judge, on the same grid.

    Returns:
        The pairs, ordered by reference, then prediction.

    Raises:
        GridMismatchError: the shapes differ.
    """
    if reference.ids.shape != prediction.ids.shape:
        raise GridMismatchError(f"objects on a grid of {reference.ids.shape} against {prediction.ids.shape}")
    columns = len(prediction) + 1
    cells, counts = _histogram(*_same_order(reference.ids, prediction.ids), len(reference) + 1, columns)
    rows, cols = np.divmod(cells, columns)
    reference_sizes = np.bincount(rows, counts, minlength=len(reference) + 1).astype(np.int64)[1:]
    prediction_sizes = np.bincount(cols, counts, minlength=columns).astype(np.int64)[1:]
    paired = (rows > 0) & (cols > 0)
    return ObjectOverlaps(
        reference.classes,
        prediction.classes,
        reference_sizes,
        prediction_sizes,
        rows[paired] - 1,
        cols[paired] - 1,
        counts[paired],
    )


def _histogram(first: NDArray[Any], second: NDArray[Any], rows: int, columns: int) -> tuple[Indices, Indices]:
    """The distinct keys ``first * columns + second`` of two flat arrays, both zero left out, and the count of each.

    A table of all keys where that is small, else only those that occur in each piece.
    """
    dense = np.zeros(rows * columns if rows * columns <= _DENSE_CELLS else 0, dtype=np.int64)
    parts, numbers = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for start in range(0, first.size, _CHUNK):
        rows_here, columns_here = first[start : start + _CHUNK], second[start : start + _CHUNK]
        inside = np.flatnonzero((rows_here != 0) | (columns_here != 0))
        keys = rows_here[inside].astype(np.int64) * columns + columns_here[inside]
        if dense.size:
            dense += np.bincount(keys, minlength=dense.size)
        else:
            distinct, counts = np.unique(keys, return_counts=True)
            parts.append(distinct)
            numbers.append(counts)
    if dense.size:
        occurring = np.flatnonzero(dense)
        return occurring, dense[occurring]
    keys, place = np.unique(np.concatenate(parts), return_inverse=True)
    return keys, np.bincount(place, np.concatenate(numbers), minlength=len(keys)).astype(np.int64)


def _same_order(first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both arrays flat, in one memory order, without a copy where possible."""
    if first.flags.f_contiguous and second.flags.f_contiguous:
        return first.ravel(order="F"), second.ravel(order="F")
    return first.ravel(), second.ravel()


def _unsigned(array: NDArray[Any]) -> NDArray[Any]:
    """The array as unsigned integers, which cc3d requires."""
    if array.dtype.kind not in "uib":
        raise LabelError(f"labels are whole numbers, not {array.dtype}", remedy="Convert class indices to integers.")
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        raise LabelError(f"class index {array.min()} names no object", remedy="Set ignored voxels to 0 in both maps.")
    return array.view(np.uint8) if array.dtype.kind == "b" else array.view(array.dtype.str.replace("i", "u"))


def _bounding_box(values: NDArray[Any]) -> tuple[slice, ...] | None:
    """The smallest box around all objects, None without objects."""
    filled = values != 0
    box = []
    for axis in range(values.ndim):
        occupied = np.flatnonzero(filled.any(axis=tuple(a for a in range(values.ndim) if a != axis)))
        if not occupied.size:
            return None
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
        filled = filled[(slice(None),) * axis + (box[-1],)]
    return tuple(box)


def _class_of_each(ids: Ids, classes: NDArray[Any], count: int) -> Indices:
    """``(count,)`` the class of each component."""
    flat_ids, flat_classes = _same_order(ids, classes)
    result = np.zeros(count + 1, dtype=np.int64)
    inside = np.flatnonzero(flat_classes != 0)
    result[flat_ids[inside]] = flat_classes[inside]
    return result[1:]
