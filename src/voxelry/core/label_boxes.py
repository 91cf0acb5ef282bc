"""The bounding box of each label of a map."""

from __future__ import annotations

import os

from scipy.ndimage import find_objects

from voxelry.core.labels import Label
from voxelry.core.volume import LabelMap

Box = tuple[slice, ...]


def boxes(labels: LabelMap, where: str | os.PathLike[str]) -> list[tuple[Label, Box | None]]:
    """The labels of the table in order, each with the smallest box that holds its voxels, None where it has none.

    Args:
        labels: on any number of layers.
        where: the file they come from or go to, for messages.

    Raises:
        LabelError: values that the table does not know.
    """
    extremes = {int(value) for layer in labels.layers for value in (layer.min(), layer.max())}
    labels.table.check_values(extremes, str(where))  # else a list as long as the largest value
    boxes_by_layer = [find_objects(layer) for layer in labels.layers]
    present = {value for layer in boxes_by_layer for value, box in enumerate(layer, start=1) if box is not None}
    labels.table.check_values(present, str(where))
    return [(label, _box(boxes_by_layer, label)) for label in labels.table.labels]


def _box(boxes_by_layer: list[list[Box | None]], label: Label) -> Box | None:
    inside = label.layer < len(boxes_by_layer) and label.value <= len(boxes_by_layer[label.layer])
    return boxes_by_layer[label.layer][label.value - 1] if inside else None
