"""Predictions as Hugging Face's users know them: a map with ``segments_info``, and the list that its inference API answers with.

Thresholds mean what they do there, and by default nothing is dropped: a Prediction is whole. Ids are those of `segments_info`,
from 1, in every task; 0 is no segment.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxelry.core.labels import LabelTable
from voxelry.core.segment_info import SegmentInfo
from voxelry.errors import UsageError
from voxelry.inference.predictor import Prediction
from voxelry.metrics.segmentation_task import SegmentationTask, labels_of_task
from voxelry.metrics.segments import panoptic_ids, ranks_of

_FULL = 255


def segmentation_result(
    prediction: Prediction,
    subtask: SegmentationTask = "panoptic",
    threshold: float = 0.0,
    mask_threshold: float = 0.0,
    overlap_mask_area_threshold: float = 0.0,
    label_ids_to_fuse: Collection[int] | None = None,
) -> dict[str, Any]:
    """A prediction as one map of ids with what is known of each, as ``post_process_panoptic_segmentation`` gives it.

    Where labels on different layers overlap, the segment of the highest score wins; of equal ones the first.

    Args:
        prediction: of pictures or volumes.
        subtask: ``panoptic``, ``instance`` (objects of things alone) or ``semantic`` (labels alone).
        threshold: smallest score of a segment; a segment whose score is not known is kept.
        mask_threshold: smallest probability of the winner at a voxel; needs a map of it (``confidence="probability"``).
        overlap_mask_area_threshold: a segment is left out, and its voxels remain empty, where overlap and `mask_threshold` leave
            it at most this share of its voxels.
        label_ids_to_fuse: stored values of things all of whose objects are one segment; None for none.

    Returns:
        ``segmentation``: ``(*spatial)`` uint32 ids, 0 where there is no segment. ``segments_info``: a mapping for each, of
        ``id``, ``label_id``, ``was_fused``, ``score`` and the other keys of `SegmentInfo.as_dict`; sizes are those of the map.

    Raises:
        UsageError: an unknown task; a threshold that is no share; a mask threshold without a map of probabilities.

    Example:
        >>> from voxelry.adapters import segmentation_result
        >>> from voxelry.inference import Prediction
        >>> from voxelry.phantom import small_phantom
        >>> result = segmentation_result(Prediction(small_phantom().labels, {"liver": 0.9}), "semantic")
        >>> {key: result["segments_info"][0][key] for key in ("id", "label_id", "label", "was_fused", "score")}
        {'id': 1, 'label_id': 1, 'label': 'liver', 'was_fused': True, 'score': 0.9}
    """
    _check_shares(threshold, mask_threshold, overlap_mask_area_threshold)
    whole = _chosen(prediction, subtask, label_ids_to_fuse or ())
    ids, rows = panoptic_ids(whole.labels), whole.segments_info
    numbers = np.array([0, *(row.id for row in rows)], np.uint32)
    ranks = ranks_of(ids, [row.id for row in rows])
    if mask_threshold > 0:
        ranks[:, _probability(prediction) < mask_threshold] = 0
    scores = np.array([-1.0, *(1.0 if row.score is None else row.score for row in rows)])
    left = _without_overlap(ranks, scores)
    share = np.bincount(left.ravel(), minlength=len(numbers))[1:] / [max(row.voxels, 1) for row in rows]
    kept = np.array([False, *((scores[1:] >= threshold) & (share > overlap_mask_area_threshold))])
    left = np.where(kept[left], left, 0)
    labels = replace(
        whole.labels,
        layers=np.where(left > 0, whole.labels.layers, 0).astype(whole.labels.layers.dtype),
        instances=None if whole.labels.instances is None else np.where(left > 0, whole.labels.instances, 0).astype(np.uint32),
    )
    return {"segmentation": numbers[left].max(axis=0), "segments_info": _dicts(replace(whole, labels=labels), rows)}


def _check_shares(*thresholds: float) -> None:
    for value in thresholds:
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UsageError(f"a threshold of {value!r}", remedy="Give a number from 0 to 1.")


def segmentation_answer(
    prediction: Prediction,
    subtask: SegmentationTask = "panoptic",
    threshold: float = 0.0,
    mask_threshold: float = 0.0,
    overlap_mask_area_threshold: float = 0.0,
) -> list[dict[str, Any]]:
    """A prediction as the list that Hugging Face's pipeline and inference API give: label, score and mask of each segment.

    Args:
        prediction: of pictures or volumes.
        subtask: as of `segmentation_result`, as are the thresholds.
        threshold: smallest score of a segment.
        mask_threshold: smallest probability of a voxel.
        overlap_mask_area_threshold: share of its voxels that a segment must keep more of.

    Returns:
        ``score`` (0..1 or None), ``label`` (its name) and ``mask``, 255 inside: a PIL image of mode ``L`` for pictures, a
        ``(*spatial)`` uint8 array for volumes. A mask of the whole scan for each segment.

    Raises:
        UsageError: as of `segmentation_result`.

    Example:
        >>> import numpy as np
        >>> from voxelry import Geometry, LabelMap, LabelTable, Prediction
        >>> from voxelry.adapters import segmentation_answer
        >>> table = LabelTable.from_id2label({1: "nucleus"})
        >>> labels = LabelMap.of(np.array([[1, 0, 1]], np.uint8), Geometry((1, 3)), table)
        >>> [(row["label"], np.asarray(row["mask"]).tolist()) for row in segmentation_answer(Prediction(labels, {}), "instance")]
        [('nucleus', [[255, 0, 0]]), ('nucleus', [[0, 0, 255]])]
    """
    result = segmentation_result(prediction, subtask, threshold, mask_threshold, overlap_mask_area_threshold)
    answer = []
    for row in result["segments_info"]:
        axes = result["segmentation"].ndim
        box = tuple(slice(*side) for side in zip(row["box"][:axes], row["box"][axes:], strict=True))
        mask = np.zeros(result["segmentation"].shape, np.uint8)
        mask[box][result["segmentation"][box] == row["id"]] = _FULL
        answer.append({"score": row["score"], "label": row["label"], "mask": Image.fromarray(mask) if axes == 2 else mask})
    return answer


def _chosen(prediction: Prediction, subtask: SegmentationTask, label_ids_to_fuse: Collection[int]) -> Prediction:
    """The labels of a task, with things that are fused turned to stuff."""
    labels, _ = labels_of_task(prediction.labels, subtask)
    kinds = tuple(
        label.model_copy(update={"kind": "stuff"}) if label.value in label_ids_to_fuse else label for label in labels.table.labels
    )
    return replace(prediction, labels=replace(labels, table=LabelTable(labels=kinds, ignore=labels.table.ignore)))


def _dicts(prediction: Prediction, before: list[SegmentInfo]) -> list[dict[str, Any]]:
    """The segments that are left, by the ids they had before."""
    has_ids = prediction.labels.instances is not None
    ids = {row.label.name: row.id for row in before if not (has_ids and row.label.kind == "thing")}
    rows = []
    for row in prediction.segments_info:
        plain = row.as_dict()
        first = {"id": ids.get(row.label.name, plain.pop("id")), "label_id": plain.pop("label_id")}
        rows.append(first | {"was_fused": row.label.name in ids, "score": plain.pop("score")} | plain)
    return rows


def _probability(prediction: Prediction) -> NDArray[np.float64]:
    """``(*spatial)`` probability of the winner.

    Raises:
        UsageError: the prediction has no map of it.
    """
    if not prediction.has_probability:
        raise UsageError(
            "a mask threshold for a prediction without a map of probabilities",
            remedy="Load the model with confidence='probability'.",
        )
    assert prediction.map is not None
    return np.asarray(prediction.map.array[0] / _FULL)


def _without_overlap(ranks: NDArray[np.intp], scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Of the segments that overlap at a voxel, that of the highest score alone."""
    if len(ranks) == 1:
        return ranks
    winner = np.argmax(scores[ranks], axis=0)
    return np.where(np.arange(len(ranks)).reshape(-1, *[1] * winner.ndim) == winner, ranks, 0)
