"""The table of metrics: unit, direction (higher or lower is better) and rule for empty masks of every column of `Scores`.

A family is a group of columns that are computed together and requested by one name (``voxelry evaluate --metric surface``). To
add a metric, write a function and an entry here (``docs/how-to/add-a-metric.md``). Everything else follows from this table:
`voxelry.evaluate` and its checks, which model `voxelry.compare` prefers, functions such as `voxelry.metrics.dice`, the choices of
the command line, and the page ``docs/reference/metric-table.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from voxelry.errors import UsageError, nearest
from voxelry.metrics.empty_policy import MISSING, EmptyPolicy

Better = Literal["higher", "lower", "zero"]
"""Which value is better; ``zero`` for signed errors, which are compared by their absolute value."""


@dataclass(frozen=True)
class Metric:
    """One column of `Scores`.

    Attributes:
        name: name of the column.
        meaning: the measured quantity, or its formula.
        better: which value is better.
        empty: its scores where masks are empty.
        unit: ``mm``, ``px`` (pixels), ``objects``, or empty for a ratio.
    """

    name: str
    meaning: str
    better: Better
    empty: EmptyPolicy
    unit: str = ""


@dataclass(frozen=True)
class Family:
    """Metrics that are computed together.

    Attributes:
        name: name by which users request it.
        what: a line for help and documentation.
        metrics: its columns, in order.
        function: the module below `voxelry.metrics` and the function that computes the columns from a `MetricInput`, imported
            when first needed (`voxelry.metrics.families.columns`); empty for ``overlap``, which `Scores` derives from its
            confusion matrices.
        needs: what a prediction must have beside its labels: a score of each object, a map of confidence, or nothing.
    """

    name: str
    what: str
    metrics: tuple[Metric, ...]
    function: str = ""
    needs: Literal["", "scores", "confidence"] = ""


_RATIO = EmptyPolicy(both=MISSING, only_reference=0.0, only_prediction=0.0)
_OF_BOTH = EmptyPolicy(both=MISSING, only_reference=MISSING, only_prediction=MISSING)
"""A distance to nothing is missing, never 0 and never a number that would distort a mean."""
_OF_REFERENCE = EmptyPolicy(both=MISSING, only_reference=0.0, only_prediction=MISSING)
_OF_PREDICTION = EmptyPolicy(both=MISSING, only_reference=MISSING, only_prediction=0.0)
_FORMULA = EmptyPolicy(both=None)
_CALIBRATION = EmptyPolicy(both=MISSING, only_reference=MISSING)


def _surface(suffix: str, unit: str) -> tuple[Metric, ...]:
    """The columns of surface metrics in one unit."""
    return (
        Metric("hd" + suffix, "Hausdorff distance", "lower", _OF_BOTH, unit),
        Metric("hd95" + suffix, "95th percentile of the Hausdorff distance, larger direction", "lower", _OF_BOTH, unit),
        Metric("assd" + suffix, "average symmetric surface distance, over the points of both surfaces", "lower", _OF_BOTH, unit),
        Metric("masd" + suffix, "mean of both mean directed surface distances", "lower", _OF_BOTH, unit),
        Metric("nsd" + suffix, f"normalised surface Dice at a tolerance in {unit}", "higher", _RATIO),
    )


_TABLE = (
    Family(
        "overlap",
        "Dice and IoU; always measured",
        (
            Metric("dice", "2TP / (2TP + FP + FN)", "higher", _RATIO),
            Metric("iou", "TP / (TP + FP + FN)", "higher", _RATIO),
        ),
    ),
    Family(
        "rates",
        "precision, recall, specificity, false positive rate and relative volume error",
        (
            Metric("precision", "TP / (TP + FP)", "higher", _OF_PREDICTION),
            Metric("recall", "TP / (TP + FN), sensitivity", "higher", _OF_REFERENCE),
            Metric("specificity", "TN / (TN + FP)", "higher", _FORMULA),
            Metric("fpr", "FP / (FP + TN)", "lower", _FORMULA),
            Metric("volume_error", "(prediction - reference) / reference", "zero", EmptyPolicy(MISSING, -1.0, MISSING)),
        ),
        "families.rates",
    ),
    Family("surface", "HD, HD95, ASSD, MASD in mm, NSD", _surface("", "mm"), "families.surface"),
    Family(
        "surface_pixels",
        "as surface, in pixels, for pictures of unknown pixel size",
        _surface("_px", "px"),
        "families.surface_pixels",
    ),
    Family(
        "instances",
        "objects matched at an IoU of 0.5",
        (
            Metric("instance_tp", "matched objects", "higher", _FORMULA, "objects"),
            Metric("instance_fp", "predicted objects without a partner", "lower", _FORMULA, "objects"),
            Metric("instance_fn", "reference objects without a partner", "lower", _FORMULA, "objects"),
            Metric("instance_pq", "panoptic quality, SQ x RQ", "higher", _RATIO),
            Metric("instance_sq", "segmentation quality, the mean IoU of matched objects", "higher", _OF_BOTH),
            Metric("instance_rq", "recognition quality, F1 of the objects", "higher", _RATIO),
            Metric("instance_lesion_dice", "sum of the Dice of matched objects / (TP + FP + FN)", "higher", _RATIO),
            Metric("instance_sensitivity", "TP / (TP + FN) of the objects", "higher", _OF_REFERENCE),
            Metric("instance_precision", "TP / (TP + FP) of the objects", "higher", _OF_PREDICTION),
            Metric("instance_count_error", "predicted minus reference objects", "zero", _FORMULA, "objects"),
            Metric("instance_count_error_abs", "its absolute value", "lower", _FORMULA, "objects"),
            Metric("instance_count_exact", "1 where the count is right; the mean is the share of cases", "higher", _FORMULA),
            Metric("dsb_ap50", "TP / (TP + FP + FN) at an IoU of 0.5 (DSB 2018, StarDist, Cellpose)", "higher", _RATIO),
            Metric("dsb_ap50_95", "its mean over IoU thresholds 0.50 to 0.95", "higher", _RATIO),
        ),
        "object_families.instances",
    ),
    Family(
        "panoptic",
        "panoptic quality of things and stuff, matched above an IoU of 0.5",
        (
            Metric("panoptic_tp", "matched segments: objects of a thing, all of a stuff", "higher", _FORMULA, "objects"),
            Metric("panoptic_fp", "predicted segments without a partner", "lower", _FORMULA, "objects"),
            Metric("panoptic_fn", "reference segments without a partner", "lower", _FORMULA, "objects"),
            Metric("panoptic_pq", "panoptic quality, SQ x RQ", "higher", _RATIO),
            Metric("panoptic_sq", "segmentation quality, the mean IoU of matched segments", "higher", _OF_BOTH),
            Metric("panoptic_rq", "recognition quality, F1 of the segments", "higher", _RATIO),
        ),
        "object_families.panoptic",
    ),
    Family(
        "lesions",
        "objects found, where any shared voxel counts",
        (
            Metric("lesion_tp", "reference objects that share a voxel with a predicted one", "higher", _FORMULA, "objects"),
            Metric("lesion_fp", "predicted objects that share none", "lower", _FORMULA, "objects"),
            Metric("lesion_fn", "reference objects that share none", "lower", _FORMULA, "objects"),
            Metric("lesion_f1", "2TP / (2TP + FP + FN) of these objects", "higher", _RATIO),
            Metric("lesion_sensitivity", "TP / (TP + FN) of these objects", "higher", _OF_REFERENCE),
            Metric("lesion_precision", "TP / (TP + FP) of these objects", "higher", _OF_PREDICTION),
        ),
        "object_families.lesions",
    ),
    Family(
        "identification",
        "objects found whatever their label, and named right",
        (
            Metric("identification_objects", "objects of the reference", "higher", _FORMULA, "objects"),
            Metric("identification_detected", "matched at an IoU of 0.5, by any label", "higher", _FORMULA, "objects"),
            Metric("identification_right", "matched by their label", "higher", _FORMULA, "objects"),
            Metric("identification_rate", "right / detected", "higher", _OF_BOTH),
            Metric("identification_rate_all", "right / objects of the reference", "higher", _OF_REFERENCE),
            Metric("identification_near", "the closest, below 20 mm, to an object of their label", "higher", _FORMULA, "objects"),
            Metric("identification_rate_20mm", "near / objects of the reference, by centroids (VerSe)", "higher", _OF_REFERENCE),
        ),
        "object_families.identification",
    ),
    Family(
        "coco",
        "COCO's average precision of objects with scores",
        (
            Metric("coco_ap50", "area under precision and recall of ranked objects at an IoU of 0.5", "higher", _OF_REFERENCE),
            Metric("coco_ap50_95", "its mean over IoU thresholds 0.50 to 0.95", "higher", _OF_REFERENCE),
        ),
        "object_families.coco",
        needs="scores",
    ),
    Family(
        "froc",
        "FROC curve of objects with scores",
        (Metric("froc", "mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per case", "higher", _OF_REFERENCE),),
        "object_families.froc",
        needs="scores",
    ),
    Family(
        "calibration",
        "calibration of the probability of the predicted class",
        (
            Metric("ece", "expected calibration error of the voxels predicted as the label, 15 bins", "lower", _CALIBRATION),
            Metric("mce", "the largest calibration error of a bin", "lower", _CALIBRATION),
        ),
        "families.calibration",
        needs="confidence",
    ),
    Family(
        "boundary",
        "boundary IoU",
        (Metric("boundary_iou", "IoU of the bands inside both contours, 2 % of the diagonal wide", "higher", _RATIO),),
        "families.boundary",
    ),
    Family(
        "centreline",
        "clDice, for tubes such as vessels and airways",
        (Metric("cldice", "harmonic mean of the shares of each skeleton inside the other mask", "higher", _RATIO),),
        "families.centreline",
    ),
)  # fmt: skip

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _TABLE})
"""Name -> family: the choices of `voxelry.evaluate` and of ``voxelry evaluate --metric``."""

DEFAULT_POLICIES: Mapping[str, EmptyPolicy] = MappingProxyType(
    {metric.name: metric.empty for family in _TABLE for metric in family.metrics}
    | {"msd_to_prediction": _OF_BOTH, "msd_to_reference": _OF_BOTH}
)
"""Metric -> its rule for empty masks; directed surface distances, which are no columns, among them."""


def family_of(metric: str) -> Family | None:
    """The family that computes a column; None for columns that are not in the table."""
    return next((family for family in FAMILIES.values() if metric in [column.name for column in family.metrics]), None)


def metric_named(name: str) -> Metric | None:
    """The metric of a column; None for columns that are not in the table."""
    return next((metric for family in FAMILIES.values() for metric in family.metrics if metric.name == name), None)


def with_unit(name: str) -> str:
    """The name of a column with its unit, such as ``hd95 (mm)``; as it is where the metric has none."""
    metric = metric_named(name)
    return f"{name} ({metric.unit})" if metric is not None and metric.unit else name


def check_metrics(names: Sequence[str]) -> None:
    """Refuse unknown families.

    Raises:
        UsageError: a name that is not in the table, with the nearest one.
    """
    for name in names:
        if name not in FAMILIES:
            raise UsageError(f"unknown metric '{name}'", remedy=nearest(name, FAMILIES))
