"""Label maps as stored values of the smallest unsigned type, with a value for each instance where formats ask for it."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError, LabelError
from voxelry.formats.file_segments import MOST_SEGMENTS, segment_numbers, segments_of


def stored_values(labels: LabelMap, path: str | os.PathLike[str]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The single layer's stored values in the smallest unsigned type that holds them and the table.

    Args:
        labels: one layer.
        path: the file they go to, for messages.

    Returns:
        ``(*spatial)`` uint8 or uint16.

    Raises:
        ExportError: values outside 0..65535.
    """
    return _stored(labels, labels.array, path)


def stored_layers(labels: LabelMap, path: str | os.PathLike[str]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The same for all layers, ``(L, *spatial)``."""
    return _stored(labels, labels.layers, path)


def segment_layers(labels: LabelMap, path: str | os.PathLike[str]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """All layers, ``(L, *spatial)``, without the ignore value, for formats in which every value belongs to a segment."""
    layers = stored_layers(labels, path)
    return layers if labels.table.ignore is None else np.where(layers == labels.table.ignore, np.zeros_like(layers), layers)


def split_instances(labels: LabelMap) -> tuple[LabelMap, dict[str, str]]:
    """The map with a label for each instance, numbered and named as the segments of a DICOM SEG, and the notes of the instances.

    Args:
        labels: any; returned unchanged where it has no instance ids.

    Returns:
        The map, and the note of each label that is an instance, by its name.

    Raises:
        LabelError: values that the table does not know, or more labels and instances than there are numbers.
    """
    if labels.instances is None:
        return labels, {}
    segments = segments_of(labels)
    if len(segments) > MOST_SEGMENTS:
        raise LabelError(
            f"{labels.source.name}: {len(segments)} labels and instances, of which this format numbers at most {MOST_SEGMENTS}",
            remedy="Write .nii.gz, .nrrd or .mha, which keep ids in a file beside the labels.",
        )
    renamed = (
        segment.label.model_copy(update={"value": segment.number, "name": segment.name, "mirror": None}) for segment in segments
    )
    table = LabelTable(labels=tuple(renamed))
    notes = {segment.name: segment.note for segment in segments if segment.note}
    return replace(labels, layers=segment_numbers(labels, segments), table=table, instances=None), notes


def _stored(labels: LabelMap, array: NDArray[np.integer], path: str | os.PathLike[str]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ExportError(
            f"{path}: label values {low}..{high} do not fit 0..65535", remedy="Give the ignore value a number from 1 to 65535."
        )
    high = max(high, *(label.value for label in labels.table.labels), 0)
    return array.astype(np.uint8, copy=False) if high < 256 else array.astype(np.uint16, copy=False)
