"""A mask with its objects told apart, by the form that a dataset card or a caller names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from voxelry.core.instance_form import InstanceForm
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError, UsageError
from voxelry.formats.id_map import ids_on_grid, read_ids
from voxelry.formats.object_ids import from_mask_ids, with_components, with_id_map, with_labels
from voxelry.formats.object_parts import with_parts

OBJECTS = LabelTable(labels=(Label(value=1, name="object", kind="thing"),))
"""The table of a mask whose values are ids of objects of unknown kind."""

MaskFile = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class ToldApart:
    """Labels with the ids of their objects.

    Attributes:
        labels: with `instances`.
        form: how objects were told apart.
        remarks: what had to be decided, in sentences.
    """

    labels: LabelMap
    form: InstanceForm
    remarks: tuple[str, ...] = ()


def labels_with_objects(
    path: MaskFile,
    table: LabelTable | None,
    form: InstanceForm | None,
    read: Callable[[], LabelMap],
    id_map: MaskFile | None = None,
) -> ToldApart:
    """A mask with the ids of its objects.

    Args:
        path: the mask.
        table: meaning of its values; None takes every label of the mask for a thing.
        form: how objects are told apart; None takes the id map, else the objects that the file lists, else components.
        read: reads the mask as labels.
        id_map: the file of ids beside the mask.

    Raises:
        UsageError: the form ``id_map`` without a file of ids, another form with one, or ``files``, which a single mask is not.
        LabelError: ids that fit no class, or a file that lists no objects.
        GridMismatchError: mask and id map on different grids.
    """
    if form is not None and (form.form == "id_map") != (id_map is not None):
        raise UsageError(
            f"{path}: `instances: {form.form}` {'without' if id_map is None else 'with'} a file of ids beside the mask",
            remedy="Give the form id_map and its file together.",
        )
    if form is not None and form.form == "files":
        raise UsageError(f"{path}: a file for each object is asked for, this is one", remedy="List the files in a dataset card.")
    if form is not None and form.form == "mask_ids":
        ids, geometry, source = read_ids(path)
        return in_parts(from_mask_ids(ids, geometry, table or OBJECTS, source), form, str(path))
    labels = read()
    labels = labels if table is not None else replace(labels, table=_of_things(labels.table))
    return with_objects(labels, form, str(path), id_map)


def with_objects(labels: LabelMap, form: InstanceForm | None, where: str, id_map: MaskFile | None = None) -> ToldApart:
    """Labels with the ids of their objects, of any form but ``mask_ids`` and ``files``; see `labels_with_objects`."""
    if form is None:
        form = InstanceForm(form="id_map" if id_map else "components" if labels.instances is None else "polygons")
    if id_map is not None:
        labels, remarks = with_id_map(labels, ids_on_grid(id_map, labels.geometry), str(id_map))
        return in_parts(labels, form, where, remarks)
    if form.form == "components":
        labels = with_components(labels)
    elif form.form == "labels":
        labels = with_labels(labels)
    elif labels.instances is None and not labels.layers.any():
        labels = with_components(labels)
    elif labels.instances is None:
        raise LabelError(
            f"{where}: lists no objects, as files of polygons do (COCO, Darwin)",
            remedy="Name another form of `instances`, such as components.",
        )
    return in_parts(labels, form, where)


def in_parts(labels: LabelMap, form: InstanceForm, where: str, remarks: Sequence[str] = ()) -> ToldApart:
    """Labels whose objects in several parts are kept or split, as the form says."""
    labels, more = with_parts(labels, form.parts, where)
    return ToldApart(labels, form, (*remarks, *more))


def _of_things(table: LabelTable) -> LabelTable:
    return table.model_copy(update={"labels": tuple(label.model_copy(update={"kind": "thing"}) for label in table.labels)})
