"""Objects of a reference as instance ids of its LabelMap: from components, an id map, the mask's values, or the labels.

An object has one label. Nothing is dropped unsaid: where an id map and a mask do not agree, a remark counts the voxels, and an
object without a class is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.listing import counted, shown
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Source
from voxelry.errors import LabelError
from voxelry.metrics.instances import connected_objects

Ids = NDArray[np.uint32]
Counts = NDArray[np.int64]

_DENSE = 1 << 24
_NAMED = 3


def with_components(labels: LabelMap) -> LabelMap:
    """Labels whose objects are the connected parts of each thing."""
    instances = np.zeros(labels.layers.shape, np.uint32)
    things, last = _things(labels.table), 0
    for numbers, ids in zip(label_numbers(labels), instances, strict=True):
        objects = connected_objects(np.where(things[numbers], numbers, 0))
        np.add(objects.ids, np.uint32(last), out=ids, where=objects.ids > 0)
        last += len(objects)
    return replace(labels, instances=instances)


def with_labels(labels: LabelMap) -> LabelMap:
    """Labels of which each thing is one object, whose id is the number of its label in the table, from 1."""
    numbers, things = label_numbers(labels), _things(labels.table)
    return replace(labels, instances=np.where(things[numbers], numbers, 0).astype(np.uint32))


def from_mask_ids(ids: Ids, geometry: Geometry, table: LabelTable, source: Source) -> LabelMap:
    """Objects of the only label of a table from a mask whose values are their ids.

    Args:
        ids: ``(*spatial)``, 0 for background; the table's ignore value stays ignored.
        geometry: their grid.
        table: one label, a thing.
        source: their file.

    Raises:
        LabelError: the table has several labels, between which ids alone cannot decide, or a label of stuff.
    """
    if len(table) != 1 or table.labels[0].kind != "thing":
        kinds = shown([f"{label.name} ({label.kind})" for label in table.labels])
        raise LabelError(
            f"{source.name}: ids of objects as the values of a mask need one label of kind thing; the table has {kinds}",
            remedy="Give a mask of classes, and the ids in an id map beside it (`instances: id_map`).",
        )
    label = table.labels[0]
    kind = np.uint8 if max(label.value, table.ignore or 0) < 256 else np.uint16
    layers = np.zeros((table.layers, *ids.shape), kind)
    instances = np.zeros(layers.shape, np.uint32)
    ignored = np.zeros(ids.shape, np.bool_) if not table.ignore else ids == table.ignore
    inside = (ids > 0) & ~ignored
    layers[label.layer][inside] = label.value
    layers[label.layer][ignored] = table.ignore or 0
    instances[label.layer][inside] = ids[inside]
    return LabelMap(layers, geometry, table, source, instances)


def with_id_map(labels: LabelMap, ids: Ids, where: str) -> tuple[LabelMap, list[str]]:
    """Labels whose objects an id map beside them tells apart.

    An id that stands in several labels is an object in each; the largest keeps the id, the others get unused ones. Ids over stuff
    and over ignored voxels are passed over: panoptic maps number both.

    Args:
        labels: the mask.
        ids: ``(*spatial)`` on the mask's grid, 0 where there is no object.
        where: the id map's file, for messages.

    Returns:
        The labels, and what mask and id map do not agree on, in sentences.

    Raises:
        LabelError: an object lies on background alone, so that its class is unknown.
    """
    known, dense = dense_ids(ids)
    numbers, things = label_numbers(labels), _things(labels.table)
    columns = len(things)
    cells = np.zeros(len(known) * columns, np.int64)
    for layer in numbers:
        inside = (dense > 0) | (layer > 0)
        cells += np.bincount(dense[inside].astype(np.int64) * columns + layer[inside], minlength=len(cells))
    counts = cells.reshape(len(known), columns)
    bare = np.bincount(dense[(dense > 0) & ~numbers.any(axis=0)], minlength=len(known))
    remarks = _unclassed(known, counts, bare, labels.source.name, where)
    new_ids, crossing = _ids_of_labels(known, np.where(things, counts, 0))
    remarks += _crossing(known, counts, crossing, things, labels.table, where)
    remarks += _without_id(counts[0], things, labels.table, where)
    instances = np.stack([new_ids[dense, layer] for layer in numbers])
    return replace(labels, instances=instances), remarks


def label_numbers(labels: LabelMap) -> NDArray[np.uint16]:
    """``(L, *spatial)`` the number of each voxel's label in the table, from 1; 0 for background, one more than labels if ignored.

    Raises:
        LabelError: values that the table does not know.
    """
    table = labels.table
    result = np.zeros(labels.layers.shape, np.uint16)
    for index, layer in enumerate(labels.layers):
        table.check_values({int(layer.min(initial=0)), int(layer.max(initial=0))}, labels.source.name)
        lookup = np.zeros(int(layer.max(initial=0)) + 1, np.uint16)
        if table.ignore and table.ignore < len(lookup):
            lookup[table.ignore] = len(table) + 1
        for number, label in enumerate(table.labels, start=1):
            if label.layer == index and label.value < len(lookup):
                lookup[label.value] = number
        result[index] = lookup[layer]
    return result


def dense_ids(ids: Ids) -> tuple[Ids, Ids]:
    """The ids that occur, ascending from 0 (which need not occur), and each voxel's place among them."""
    top = int(ids.max(initial=0))
    if top > max(_DENSE, ids.size):
        known, inverse = np.unique(np.append(ids.ravel(), np.uint32(0)), return_inverse=True)
        return known, inverse[:-1].reshape(ids.shape).astype(np.uint32)
    occurs = np.zeros(top + 1, np.bool_)
    occurs[ids] = True
    occurs[0] = True
    places = np.cumsum(occurs, dtype=np.uint32) - np.uint32(1)
    return np.flatnonzero(occurs).astype(np.uint32), places[ids]


def unused_ids(known: NDArray[Any], number: int) -> NDArray[np.int64]:
    """The smallest ids from 1 that are not among some."""
    return np.setdiff1d(np.arange(1, len(known) + number + 1), known)[:number]


def _things(table: LabelTable) -> NDArray[np.bool_]:
    """By the numbers of `label_numbers`: which are things."""
    return np.array([False, *(label.kind == "thing" for label in table.labels), False])


def _ids_of_labels(known: Ids, counts: Counts) -> tuple[Ids, Counts]:
    """``(ids, columns)`` the id of each id's voxels in each label, and the places of the ids that stand in several.

    Args:
        known: the ids, the first 0.
        counts: ``(ids, columns)`` voxels of each id in each thing, 0 in other columns.
    """
    result = np.where(counts > 0, known[:, None], 0).astype(np.uint32)
    crossing = np.flatnonzero((result > 0).sum(axis=1) > 1)
    again = [(row, column) for row in crossing for column in np.flatnonzero(counts[row]) if column != counts[row].argmax()]
    for (row, column), id in zip(again, unused_ids(known, len(again)), strict=True):
        result[row, column] = id
    return result, crossing


def _unclassed(known: Ids, counts: Counts, bare: Counts, mask: str, where: str) -> list[str]:
    """A sentence about voxels that have an id and no class.

    Raises:
        LabelError: an object has no voxel with a class.
    """
    orphans = known[(bare > 0) & ~counts[:, 1:].any(axis=1)]
    if len(orphans):
        raise LabelError(
            f"{where}: {_listed(orphans)}: on background of the mask alone, so without a class (mask: {mask})",
            remedy="Give these voxels a label in the mask, or 0 in the id map.",
        )
    partly = known[bare > 0]
    if not len(partly):
        return []
    return [
        f"{where}: {_listed(partly)}: {int(bare.sum())} voxels are background in the mask and belong to no object; give them a "
        "label in the mask, or 0 in the id map"
    ]


def _crossing(
    known: Ids, counts: Counts, crossing: Counts, things: NDArray[np.bool_], table: LabelTable, where: str
) -> list[str]:
    """A sentence about ids that stand in several labels."""
    if not len(crossing):
        return []
    examples = [
        f"{known[row]} in {' and '.join(table.names[column - 1] for column in np.flatnonzero(things & (counts[row] > 0)))}"
        for row in crossing[:_NAMED]
    ]
    more = f" and {len(crossing) - _NAMED} more" if len(crossing) > _NAMED else ""
    return [
        f"{where}: {counted(len(crossing), 'id crosses', 'ids cross')} labels ({', '.join(examples)}{more}): an object has one "
        "label, so the part in each label is an object of its own"
    ]


def _without_id(counts: Counts, things: NDArray[np.bool_], table: LabelTable, where: str) -> list[str]:
    """A sentence about voxels of things without an id."""
    missing = [f"{table.names[column - 1]}: {counts[column]}" for column in np.flatnonzero(things & (counts > 0))]
    if not missing:
        return []
    return [
        f"{where}: voxels of things without an id ({shown(missing)}) keep their class and belong to no object; give them ids in "
        "the id map"
    ]


def _listed(ids: Ids) -> str:
    return f"{'id' if len(ids) == 1 else 'ids'} {shown([str(id) for id in ids.tolist()])}"
