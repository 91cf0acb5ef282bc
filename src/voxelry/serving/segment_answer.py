"""The answer of Hugging Face's image segmentation: a list of label, score and mask, each mask a PNG in base64."""

from __future__ import annotations

import base64
import io
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

from voxelry.adapters.prediction_forms import segmentation_result
from voxelry.core.volume import LabelMap
from voxelry.inference.predictor import Prediction
from voxelry.metrics.segmentation_task import SegmentationTask, labels_of_task
from voxelry.serving.request_body import SegmentParameters

_FULL = 255
_FAST = 1
"""Compression level of PNG: masks are small at any, and encoding takes a third of the time."""
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class SegmentAnswer:
    """The segments of one scan.

    Attributes:
        labels: the labels of the task, with objects told apart where it asks for them.
        elements: of each segment ``label``, ``score``, ``mask``, ``instance_id`` (None of labels of kind stuff), ``code`` (value,
            scheme, meaning, or None), ``box`` (first pixel along each axis of the scan, then one past the last); of a volume also
            ``slice``, the index along the last axis of the slice that ``mask`` shows.
    """

    labels: LabelMap
    elements: list[dict[str, Any]]


def answer_of(prediction: Prediction, parameters: SegmentParameters, task: SegmentationTask) -> SegmentAnswer:
    """The segments of a prediction.

    A picture's masks are of its own size, ``(rows, columns)``. A volume's show the slice along its last axis in which the segment
    is largest, ``(second axis, first axis)``: for DICOM the slice as it is stored.

    Args:
        prediction: with a map of probabilities.
        parameters: task and thresholds.
        task: where the parameters name none.
    """
    task = parameters.subtask or task
    labels, _ = labels_of_task(prediction.labels, task)
    if parameters.mask_threshold or parameters.overlap_mask_area_threshold or len(labels.layers) > 1:
        rows, masks = _by_thresholds(prediction, parameters, task)
    else:
        rows, masks = _whole(replace(prediction, labels=labels), parameters.threshold or 0.0)
    has_ids = labels.instances is not None
    return SegmentAnswer(labels, [_element(row, mask, has_ids) for row, mask in zip(rows, masks, strict=True)])


def _whole(prediction: Prediction, threshold: float) -> tuple[list[dict[str, Any]], list[NDArray[np.bool_]]]:
    """Segments of one layer with their voxels, within their boxes alone."""
    labels = prediction.labels
    segments = [row for row in prediction.segments_info if row.score is None or row.score >= threshold]
    rows = [row.as_dict() for row in segments]
    masks = []
    for segment, row in zip(segments, rows, strict=True):
        box = _slices(row["box"])
        is_object = labels.instances is not None and segment.label.kind == "thing"
        masks.append(labels.instances[0][box] == segment.id if is_object else labels.layers[0][box] == segment.label.value)  # type: ignore[index]
    return _with_shape(rows, labels.geometry.shape), masks


def _by_thresholds(
    prediction: Prediction, parameters: SegmentParameters, task: SegmentationTask
) -> tuple[list[dict[str, Any]], list[NDArray[np.bool_]]]:
    """Segments as `segmentation_result` gives them, where voxels are left out or labels overlap."""
    result = segmentation_result(
        prediction,
        task,
        parameters.threshold or 0.0,
        parameters.mask_threshold or 0.0,
        parameters.overlap_mask_area_threshold or 0.0,
    )
    ids, rows = result["segmentation"], result["segments_info"]
    return _with_shape(rows, ids.shape), [ids[_slices(row["box"])] == row["id"] for row in rows]


def _with_shape(rows: list[dict[str, Any]], shape: tuple[int, ...]) -> list[dict[str, Any]]:
    return [{**row, "shape": shape} for row in rows]


def _slices(box: list[int]) -> tuple[slice, ...]:
    axes = len(box) // 2
    return tuple(slice(*side) for side in zip(box[:axes], box[axes:], strict=True))


def _element(row: dict[str, Any], inside: NDArray[np.bool_], has_ids: bool) -> dict[str, Any]:
    """One element of the list.

    Args:
        row: what is known of a segment, and the shape of the scan.
        inside: its voxels within its box.
        has_ids: whether things have ids.
    """
    box, more = _slices(row["box"]), {}
    if inside.ndim == 3:
        fullest = int(np.argmax(np.count_nonzero(inside, axis=(0, 1))))
        more = {"slice": box[2].start + fullest}
        inside, box, shape = inside[:, :, fullest].T, (box[1], box[0]), (row["shape"][1], row["shape"][0])
    else:
        shape = row["shape"]
    return {
        "label": row["label"],
        "score": row["score"],
        "mask": base64.b64encode(mask_png(shape, box, inside)).decode("ascii"),
        "instance_id": row["id"] if has_ids and row["kind"] == "thing" else None,
        "code": row["code"],
        "modifier": row["modifier"],
        "box": row["box"],
        **more,
    }


def mask_png(shape: tuple[int, ...], box: tuple[slice, ...], inside: NDArray[np.bool_]) -> bytes:
    """A mask as PNG of 8 bits grey: 255 inside, 0 elsewhere.

    Pillow tries five filters for each row, which takes ten times as long as all else here; a mask needs none of them.

    Args:
        shape: rows and columns.
        box: rows and columns that hold the mask.
        inside: the mask within the box.
    """
    lines = np.zeros((shape[0], 1 + shape[1]), np.uint8)  # before each row stands its filter: none
    lines[:, 1:][box] = inside * np.uint8(_FULL)
    header = struct.pack(">IIBBBBB", shape[1], shape[0], 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", isal_zlib.compress(lines, _FAST)), (b"IEND", b""))
    return _PNG + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", isal_zlib.crc32(kind + content))


def png_of(picture: Image.Image) -> bytes:
    """A picture as PNG."""
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=_FAST)
    return content.getvalue()
