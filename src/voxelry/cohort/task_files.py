"""What a task writes for a scan: the labels in each format, or maps of ids, and the file of segments beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelry.core.plan import Plan
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError, UsageError
from voxelry.formats.file_format import Format
from voxelry.formats.segments_file import ENDING, write_segments
from voxelry.formats.table import all_formats, format_named
from voxelry.inference.predictor import Prediction
from voxelry.metrics.segmentation_task import SegmentationTask, check_task

SEGMENTS = "segments"
"""The name of the file of segments among those of a scan."""


def default_task(plan: Plan) -> SegmentationTask:
    """What a model was trained for: panoptic where it has an instance head, so that no label is lost; else semantic."""
    return "panoptic" if plan.instances is not None and plan.instances.head_channels else "semantic"


def check_formats(task: SegmentationTask, rows: Sequence[Format], layers: int = 1) -> None:
    """Refuse a task that is unknown, or formats that it is not written in, before the first scan is segmented.

    Args:
        task: the task.
        rows: the formats.
        layers: of the model's labels; a map of ids may hold the objects of several, if none overlap.

    Raises:
        UsageError: it is so.
        ExportError: a format of one layer for labels on several.
    """
    check_task(task)
    for row in rows:
        if layers > 1 and not row.layers and not is_id_map(task, row):
            able = ", ".join(name for name, other in all_formats().items() if other.write_labels and other.layers)
            raise ExportError(
                f"the model's labels overlap and lie on {layers} layers, {row.noun} holds one",
                remedy=f"Choose a format that holds layers: {able}.",
            )
        if task == "instance" and not row.layers and not row.write_ids:
            able = ", ".join(name for name, other in all_formats().items() if other.write_ids)
            raise UsageError(f"no map of ids is written in format '{row.name}'", remedy=f"Maps of ids go to {able}.")


def is_id_map(task: SegmentationTask, row: Format) -> bool:
    """Whether a format, which holds one number a voxel, gets the ids of objects in place of labels."""
    return task == "instance" and bool(row.write_ids)


def write_id_map(row: Format, labels: LabelMap, path: Path) -> Path:
    """Write the ids of objects as a map.

    Raises:
        ExportError: objects overlap, the format does not hold such a grid, or the ids are too large for it.
    """
    if labels.geometry.ndim not in row.axes:
        raise ExportError(
            f"{path}: {row.noun} does not hold {labels.geometry.describe()}", remedy="Write maps of ids of volumes as nifti."
        )
    written: Path = row.call(row.write_ids, _flat_ids(labels, path), labels.geometry, path)
    return written


def segments_path(out: Path, scan_id: str) -> Path:
    """The file of segments of a scan."""
    return out / f"{scan_id}{ENDING}"


def write_segments_of(prediction: Prediction, task: SegmentationTask, path: Path, files: Mapping[str, Path]) -> Path:
    """Write the segments of a prediction whose labels are the task's, with their scores; `files` by format lie beside them."""
    maps = [files[name] for name in files if format_named(name).write_ids]
    of_ids = maps if task == "instance" else []
    return write_segments(path, task, prediction.labels.table, prediction.segments_info, of_ids, [] if of_ids else maps)


def scores_by_segment(prediction: Prediction) -> dict[int | str, float | None]:
    """The scores of segments: of objects by their ids, of labels as a whole by their names."""
    has_ids = prediction.labels.instances is not None
    return {(row.id if has_ids and row.label.kind == "thing" else row.label.name): row.score for row in prediction.segments_info}


def _flat_ids(labels: LabelMap, path: Path) -> NDArray[np.uint32]:
    """``(*spatial)`` the ids of all layers.

    Raises:
        ExportError: objects overlap.
    """
    assert labels.instances is not None
    if len(labels.instances) > 1 and (np.count_nonzero(labels.instances, axis=0) > 1).any():
        raise ExportError(
            f"{path}: objects overlap, and a map holds one id a voxel", remedy="Write coco, dicom-seg, rtstruct or seg-nrrd."
        )
    return np.asarray(labels.instances.max(axis=0))
