"""Semantic, instance and panoptic segmentation: the part of a label map that each asks for, with every object told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import UsageError, nearest
from voxelry.metrics.instances import connected_objects

SegmentationTask = Literal["semantic", "instance", "panoptic"]


def check_task(task: str) -> None:
    """Refuse an unknown task.

    Raises:
        UsageError: it is unknown.
    """
    if task not in get_args(SegmentationTask):
        raise UsageError(f"unknown task '{task}'", remedy=nearest(task, get_args(SegmentationTask)))


def labels_of_task(labels: LabelMap, task: SegmentationTask) -> tuple[LabelMap, str]:
    """The labels that a task asks for.

    Objects of a map without instance ids are the connected components (26 neighbours, 8 in pictures) of its things.

    Args:
        labels: with or without instance ids.
        task: ``semantic``: classes alone. ``instance``: objects of things alone; of every label where the table has no things.
            ``panoptic``: objects of things, and stuff.

    Returns:
        The labels; and how objects were told apart in a sentence, empty where the map says so itself.

    Raises:
        UsageError: an unknown task.

    Example:
        >>> import numpy as np
        >>> from voxelry import Geometry, LabelMap, LabelTable
        >>> from voxelry.metrics import labels_of_task
        >>> labels = LabelMap.of(np.array([[1, 0, 1]], np.uint8), Geometry((1, 3)), LabelTable.numbered([1]))
        >>> labels_of_task(labels, "instance")[0].instances.tolist()
        [[[1, 0, 2]]]
    """
    check_task(task)
    if task == "semantic":
        return replace(labels, instances=None), ""
    remark, has_things = "", any(label.kind == "thing" for label in labels.table.labels)
    if task == "instance" and not has_things:
        things = tuple(label.model_copy(update={"kind": "thing"}) for label in labels.table.labels)
        labels = replace(labels, table=LabelTable(labels=things, ignore=labels.table.ignore))
        remark = "no label is of kind thing: the connected components of every label are its objects"
    elif labels.instances is None and has_things:
        remark = "objects are the connected components of things, since the model tells none apart"
    if labels.instances is None and (has_things or task == "instance"):
        labels = _with_components(labels)
    return (_without_stuff(labels) if task == "instance" else labels), remark


def _with_components(labels: LabelMap) -> LabelMap:
    """Ids of the connected components of things, unique over all layers."""
    instances, largest = np.zeros(labels.layers.shape, np.uint32), 0
    for number, layer in enumerate(labels.layers):
        things = np.where(_of_kind(labels, number, "thing")[layer], layer, np.zeros_like(layer))
        objects = connected_objects(things)
        instances[number] = np.where(objects.ids > 0, objects.ids + np.uint32(largest), 0)
        largest += len(objects)
    return replace(labels, instances=instances)


def _without_stuff(labels: LabelMap) -> LabelMap:
    """The things alone, in layers and table."""
    layers = [np.where(_of_kind(labels, n, "thing")[layer], layer, np.zeros_like(layer)) for n, layer in enumerate(labels.layers)]
    things = tuple(
        label
        if (twin := label.mirror) is None or labels.table[twin].kind == "thing"
        else label.model_copy(update={"mirror": None})
        for label in labels.table.labels
        if label.kind == "thing"
    )
    return replace(labels, layers=np.stack(layers), table=LabelTable(labels=things, ignore=labels.table.ignore))


def _of_kind(labels: LabelMap, layer: int, kind: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether a stored value is a label of a kind on a layer, for each value up to the largest."""
    size = 1 + max(int(labels.layers[layer].max()), *(label.value for label in labels.table.labels), 0)
    is_kind = np.zeros(size, dtype=np.bool_)
    is_kind[[label.value for label in labels.table.labels if label.layer == layer and label.kind == kind]] = True
    return is_kind
