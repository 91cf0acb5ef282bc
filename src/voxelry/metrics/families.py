"""Computes the families of the table of metrics for one case; here those of masks: rates, surfaces, boundary, centreline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import LabelMap
from voxelry.errors import UsageError, nearest
from voxelry.metrics.aligned_pair import AlignedPair
from voxelry.metrics.boundary import mask_boundary_iou
from voxelry.metrics.centreline import mask_cldice
from voxelry.metrics.evaluate import OverlapCounts
from voxelry.metrics.metric_input import MetricInput, Tolerance, check_tolerance
from voxelry.metrics.metric_table import FAMILIES, Family, check_metrics
from voxelry.metrics.overlap import Values
from voxelry.metrics.predicted_map import PredictedMap
from voxelry.metrics.region_maps import Regions, region_map
from voxelry.metrics.regions import RegionCounts
from voxelry.metrics.scores import Scores
from voxelry.metrics.surface import spacing_for_surfaces, surface_metrics


def measure(
    reference: LabelMap,
    prediction: LabelMap | PredictedMap,
    case_id: str = "",
    metrics: Sequence[str] = ("overlap",),
    tolerance: Tolerance = 1.0,
    regions: Regions | None = None,
) -> Scores:
    """Every metric of some families, of one prediction with its reference.

    Args:
        reference: the truth; labels that overlap lie on several layers.
        prediction: the map to judge; a `PredictedMap` for families that need a score of each object or a map of confidence.
        case_id: id of the case.
        metrics: names of `voxelry.metrics.metric_table.FAMILIES`; ``overlap`` is always measured.
        tolerance: NSD tolerance in mm (pixels with ``surface_pixels``).
        regions: region name -> names of its labels; scored in place of the labels, by every family.

    Returns:
        Scores of one case.

    Raises:
        GridMismatchError: the grids differ by more than order and direction of axes.
        LabelError: values that the reference's table does not know.
        GeometryError: ``surface`` on a picture of unknown pixel size or a sheared grid.
        UsageError: an unknown family, or one that needs what the prediction does not have.

    Example:
        >>> import numpy as np
        >>> from voxelry import Geometry, LabelMap, LabelTable
        >>> from voxelry.metrics import measure
        >>> def cube(start):
        ...     array = np.zeros((10, 10, 10), np.uint8)
        ...     array[start : start + 4, 2:6, 2:6] = 1
        ...     return LabelMap.of(array, Geometry.from_spacing(array.shape, (2, 1, 1)), LabelTable.numbered([1]))
        >>> scores = measure(cube(2), cube(3), metrics=["surface"])
        >>> scores.mean_dice, scores.values["hd"].tolist()
        (0.75, [[2.0]])
    """
    check_metrics(metrics)
    check_tolerance(tolerance)
    predicted = prediction if isinstance(prediction, PredictedMap) else PredictedMap(prediction)
    pair = AlignedPair.of(*_judged(reference, predicted.labels, regions))
    case = MetricInput(pair, OverlapCounts.of(pair), tolerance, predicted.scores, predicted.confidence)
    measures: dict[str, Values] = {}
    for name in dict.fromkeys(metrics):
        measures |= {metric: values[None] for metric, values in columns(FAMILIES[name], case).items()}
    needs = {FAMILIES[name].needs for name in metrics}
    details = {
        **({"scored": _row(case.scored)} if "scores" in needs else {}),
        **({"calibration": _row(case.confidence_bins)} if "confidence" in needs else {}),
    }
    return Scores((case_id,), case.labels, case.confusion[None], measures, details=details)


def _judged(reference: LabelMap, prediction: LabelMap, regions: Regions | None) -> tuple[LabelMap, LabelMap]:
    """Both maps, or the regions of both."""
    if not regions:
        return reference, prediction
    return region_map(reference, regions, reference.table), region_map(prediction, regions, reference.table)


def _row(items: Sequence[Any]) -> NDArray[Any]:
    """``(1, L)`` objects."""
    row = np.empty((1, len(items)), dtype=object)
    row[0, :] = items
    return row


def columns(family: Family, case: MetricInput) -> dict[str, Values]:
    """The columns of a family for one case, each ``(L,)`` float64, NaN where missing."""
    if not family.function:
        return {}
    module, _, function = family.function.rpartition(".")
    values: dict[str, Values] = getattr(import_module(f"voxelry.metrics.{module}"), function)(case)
    assert list(values) == [metric.name for metric in family.metrics]
    return values


def rates(case: MetricInput) -> dict[str, Values]:
    """Metrics that follow from the confusion matrix alone."""
    matrix = case.confusion
    tp = np.diagonal(matrix)[1:]
    fp, fn = matrix.sum(axis=0)[1:] - tp, matrix.sum(axis=1)[1:] - tp
    counts = RegionCounts(case.labels, tp, fp, fn, case.overlap.counted - tp - fp - fn)
    return {metric.name: counts.score(metric.name) for metric in FAMILIES["rates"].metrics}


def surface(case: MetricInput) -> dict[str, Values]:
    """Distances in mm between surfaces, and NSD at the tolerance."""
    return _distances(case, spacing_for_surfaces(case.reference), "")


def surface_pixels(case: MetricInput) -> dict[str, Values]:
    """As `surface` in pixels, for pictures of unknown pixel size."""
    return _distances(case, (1.0,) * case.reference.geometry.ndim, "_px")


def _distances(case: MetricInput, spacing: tuple[float, ...], suffix: str) -> dict[str, Values]:
    tolerances = _tolerances(case)
    by_label: dict[int, dict[str, float]] = {}
    for layer in case.layers:
        by_label |= surface_metrics(layer.truth, layer.guess, spacing, layer.labels, tolerances)
    names = ("hd", "hd95", "assd", "masd", "nsd")
    labels = range(1, len(case.labels) + 1)
    return {name + suffix: np.array([by_label[k][name] for k in labels], dtype=np.float64) for name in names}


def _tolerances(case: MetricInput) -> float | dict[int, float]:
    """The tolerance, or those of each label by class index."""
    if not isinstance(case.tolerance, Mapping):
        return case.tolerance
    unknown = sorted(set(case.tolerance) - set(case.labels))
    if unknown:
        raise UsageError(f"a tolerance for '{unknown[0]}', which is no label", remedy=nearest(unknown[0], case.labels))
    return {index: case.tolerance[name] for index, name in enumerate(case.labels, start=1) if name in case.tolerance}


def boundary(case: MetricInput) -> dict[str, Values]:
    """Boundary IoU with the band of the authors' code."""
    return {"boundary_iou": case.of_each_label(mask_boundary_iou)}


def centreline(case: MetricInput) -> dict[str, Values]:
    """Centreline Dice."""
    return {"cldice": case.of_each_label(mask_cldice)}


def calibration(case: MetricInput) -> dict[str, Values]:
    """Calibration errors of the voxels that are predicted as each label."""
    bins = case.confidence_bins
    return {
        "ece": np.array([label.ece for label in bins], dtype=np.float64),
        "mce": np.array([label.gaps.max(initial=0) if label.gaps.size else np.nan for label in bins], dtype=np.float64),
    }
