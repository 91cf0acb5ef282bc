"""Families of metrics of objects: instances, panoptic quality, lesions found, and objects named right."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.spatial import KDTree

from voxelry.metrics.instances import Indices, ObjectOverlaps
from voxelry.metrics.matching import match
from voxelry.metrics.metric_input import MetricInput
from voxelry.metrics.overlap import Values
from voxelry.metrics.panoptic import average_precision, score_matches
from voxelry.metrics.scored_objects import RankedObjects

ABOVE_HALF = float(np.nextafter(0.5, 1))
"""The smallest IoU above one half: the COCO panoptic API matches segments whose IoU is larger than 0.5."""

NEAR_MM = 20.0
"""Distance in mm below which the centroid of a vertebra counts as found (VerSe, Sekuboyina et al. 2021)."""


def instances(case: MetricInput) -> dict[str, Values]:
    """Metrics of objects matched at an IoU of 0.5."""

    def of_label(objects: ObjectOverlaps) -> dict[str, float]:
        scores = score_matches(match(objects))
        precisions = average_precision(objects)
        error = scores.count_error
        names = ("tp", "fp", "fn", "pq", "sq", "rq", "lesion_dice", "sensitivity", "precision", "count_error")
        values = scores.to_dict()
        return {f"instance_{name}": values[name] for name in names} | {
            "instance_count_error_abs": abs(error),
            "instance_count_exact": float(error == 0),
            "dsb_ap50": float(precisions[0]),
            "dsb_ap50_95": float(precisions.mean()),
        }

    return _of_each_label(case, of_label)


def panoptic(case: MetricInput) -> dict[str, Values]:
    """Panoptic quality as the COCO panoptic API counts: each object of a thing and all of a stuff are a segment."""
    objects = case.objects.overlaps
    rows = []
    for index, label in enumerate(case.pair.table.labels, start=1):
        if label.kind == "thing":
            scores = score_matches(match(objects.of_class(index), ABOVE_HALF))
            rows.append((scores.tp, scores.fp, scores.fn, scores.sq * scores.tp if scores.tp else 0.0))
        else:
            shared = int(case.confusion[index, index])
            truth, guess = int(case.confusion[index].sum()), int(case.confusion[:, index].sum())
            iou = shared / (truth + guess - shared) if truth + guess else 0.0
            hit = iou >= ABOVE_HALF
            rows.append((int(hit), int(guess > 0 and not hit), int(truth > 0 and not hit), iou if hit else 0.0))
    tp, fp, fn, iou_sum = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    halves = tp + (fp + fn) / 2
    ratios = {
        "panoptic_pq": _ratio(iou_sum, halves),
        "panoptic_sq": _ratio(iou_sum, tp),
        "panoptic_rq": _ratio(tp, halves),
    }
    return {"panoptic_tp": tp, "panoptic_fp": fp, "panoptic_fn": fn} | ratios


def lesions(case: MetricInput) -> dict[str, Values]:
    """Objects found, where any shared voxel counts."""

    def of_label(objects: ObjectOverlaps) -> dict[str, float]:
        tp = len(np.unique(objects.reference))
        fn = len(objects.reference_sizes) - tp
        fp = len(objects.prediction_sizes) - len(np.unique(objects.prediction))
        return {
            "lesion_tp": tp,
            "lesion_fp": fp,
            "lesion_fn": fn,
            "lesion_f1": _share(2 * tp, 2 * tp + fp + fn),
            "lesion_sensitivity": _share(tp, tp + fn),
            "lesion_precision": _share(tp, tp + fp),
        }

    return _of_each_label(case, of_label)


def identification(case: MetricInput) -> dict[str, Values]:
    """Objects that are found, by IoU whatever their label, and named right; by label of the reference."""
    labels = case.pair.table.labels
    named = np.array(case.counted, dtype=np.int64)
    objects = case.objects.overlaps.of_classes(named)
    matches = match(objects)
    truths = objects.reference_classes[matches.reference]
    right = truths[truths == objects.prediction_classes[matches.prediction]]
    near = _near(case, named)
    columns: dict[str, list[float]] = {name: [] for name in _IDENTIFICATION}
    for index in range(1, len(labels) + 1):
        total = int((objects.reference_classes == index).sum())
        detected, correct = int((truths == index).sum()), int((right == index).sum())
        close = np.nan if near is None else int((near == index).sum())
        values = (total, detected, correct, _share(correct, detected), _share(correct, total), close, _share(close, total))
        for name, value in zip(_IDENTIFICATION, values, strict=True):
            columns[name].append(value)
    return {name: np.array(values, dtype=np.float64) for name, values in columns.items()}


_IDENTIFICATION = (
    "identification_objects",
    "identification_detected",
    "identification_right",
    "identification_rate",
    "identification_rate_all",
    "identification_near",
    "identification_rate_20mm",
)


def _near(case: MetricInput, named: Indices) -> Indices | None:
    """The classes of the reference objects that an object of their label has as its closest, less than `NEAR_MM` away."""
    centroids = case.objects.centroids
    if centroids is None:
        return None
    overlaps = case.objects.overlaps
    counted = [np.isin(classes, named) for classes in (overlaps.reference_classes, overlaps.prediction_classes)]
    truths, guesses = (points[where] for points, where in zip(centroids, counted, strict=True))
    truth_classes, guess_classes = overlaps.reference_classes[counted[0]], overlaps.prediction_classes[counted[1]]
    if not len(truths) or not len(guesses):
        return truth_classes[:0]
    closest, _ = KDTree(truths).query(guesses)
    near = []
    for index in np.intersect1d(truth_classes, guess_classes):
        own, ours = truths[truth_classes == index], guess_classes == index
        distances, hit = KDTree(own).query(guesses[ours])
        is_near = (distances < NEAR_MM) & (distances <= closest[ours])  # as close as any, so that ties depend on no order
        near += [index] * len(np.unique(hit[is_near]))
    return np.array(near, dtype=np.int64)


def coco(case: MetricInput) -> dict[str, Values]:
    """COCO's average precision of each case alone."""
    precisions = np.array([RankedObjects([objects]).coco_ap(np.ones(1)) for objects in case.scored]).reshape(len(case.labels), -1)
    return {"coco_ap50": precisions[:, 0], "coco_ap50_95": precisions.mean(axis=1)}


def froc(case: MetricInput) -> dict[str, Values]:
    """The mean sensitivity of the FROC curve of each case alone."""
    curves = [RankedObjects([objects]).froc(np.ones(1)) for objects in case.scored]
    return {"froc": np.array([curve.mean() for curve in curves], dtype=np.float64)}


def _of_each_label(case: MetricInput, metric: Callable[[ObjectOverlaps], Mapping[str, float]]) -> dict[str, Values]:
    """Columns of a function of the objects of one label."""
    overlaps = case.objects.overlaps
    rows = [metric(overlaps.of_class(index)) for index in range(1, len(case.labels) + 1)]
    names = rows[0] if rows else metric(overlaps.of_class(1))
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def _ratio(numerators: Values, denominators: Values) -> Values:
    ratios: Values = np.divide(numerators, denominators, out=np.full(len(numerators), np.nan), where=denominators > 0)
    return ratios


def _share(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
