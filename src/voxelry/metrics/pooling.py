"""Metrics of a set of cases taken together: counts are summed, and objects ranked, over all cases before the formula.

The COCO panoptic API, pycocotools and LUNA16 define theirs so. Means over cases, in which every case weighs the same, differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.metrics.calibration import BinCounts
from voxelry.metrics.froc import OPERATING_POINTS
from voxelry.metrics.instances import Values
from voxelry.metrics.scored_objects import RankedObjects

ALL = "all labels"
"""The entry of all labels: the mean over labels, or of what is named right the share of all objects."""

Details = Mapping[str, NDArray[Any]]
"""``scored`` and ``calibration`` -> ``(N, L)`` objects (`ScoredObjects`, `BinCounts`), None where not measured."""


class Pool:
    """The measures of N cases and L labels, ready to be pooled with any weights of the cases.

    Args:
        measures: columns of `voxelry.metrics.scores.Scores`, each ``(N, L)``.
        details: what else single cases left.
        shape: N and L.
    """

    def __init__(self, measures: Mapping[str, Values], details: Details, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._columns = {name: np.nan_to_num(values) for name, values in measures.items()}
        for family in ("instance", "panoptic"):
            if f"{family}_sq" in measures:
                self._columns[f"{family}_iou"] = self._columns[f"{family}_sq"] * self._columns[f"{family}_tp"]
        self._ranked = [RankedObjects(list(cases)) for cases in details["scored"].T] if "scored" in details else []
        self._bins = details.get("calibration")
        self._has_near = not np.isnan(measures.get("identification_near", np.zeros(shape))).all()

    def values(self, weights: Values | None = None) -> dict[str, Values]:
        """Pooled metric -> ``(L + 1,)`` its value for each label and last for `ALL`; NaN for no score.

        Args:
            weights: ``(N,)`` how often each case counts; once if None.
        """
        counted = np.ones(self._shape[0]) if weights is None else weights
        sums = {name: counted @ column for name, column in self._columns.items()}
        pooled = {name: _with_mean(values) for name, values in _of_counts(sums).items()}
        pooled |= self._identified(sums)
        if self._ranked:
            precisions = np.array([objects.coco_ap(counted) for objects in self._ranked])
            pooled["coco_ap50"], pooled["coco_ap50_95"] = _with_mean(precisions[:, 0]), _with_mean(precisions.mean(axis=1))
            curves = np.array([objects.froc(counted) for objects in self._ranked])
            pooled["froc"] = _with_mean(curves.mean(axis=1))
            names = [f"froc_at_{point:g}" for point in OPERATING_POINTS]
            pooled |= {name: _with_mean(values) for name, values in zip(names, curves.T, strict=True)}
        if self._bins is not None:
            pooled["ece"] = self._calibrated(counted)
        return pooled

    def _identified(self, sums: Mapping[str, Values]) -> dict[str, Values]:
        if "identification_right" not in sums:
            return {}
        total = {name: np.append(values, values.sum()) for name, values in sums.items() if name.startswith("identification")}
        right, objects = total["identification_right"], total["identification_objects"]
        rates = {
            "identification_rate": _ratio(right, total["identification_detected"]),
            "identification_rate_all": _ratio(right, objects),
        }
        near = _ratio(total["identification_near"], objects)
        return {**rates, "identification_rate_20mm": near} if self._has_near else rates

    def _calibrated(self, weights: Values) -> Values:
        assert self._bins is not None
        labels = [BinCounts.summed(cases, weights) for cases in self._bins.T]
        whole = BinCounts.summed(labels, np.ones(len(labels)))
        return np.array([bins.ece for bins in (*labels, whole)], dtype=np.float64)


def _of_counts(sums: Mapping[str, Values]) -> dict[str, Values]:
    """The metrics that follow from summed counts of objects."""
    values: dict[str, Values] = {}
    for family in ("instance", "panoptic", "lesion"):
        if f"{family}_tp" not in sums:
            continue
        tp, fp, fn = (sums[f"{family}_{name}"] for name in ("tp", "fp", "fn"))
        if family == "lesion":
            values["lesion_f1"] = _ratio(2 * tp, 2 * tp + fp + fn)
        else:
            iou, halves = sums[f"{family}_iou"], tp + (fp + fn) / 2
            pq, sq, rq = _ratio(iou, halves), _ratio(iou, tp), _ratio(tp, halves)
            values |= {f"{family}_pq": pq, f"{family}_sq": sq, f"{family}_rq": rq}
        if family != "panoptic":
            values |= {f"{family}_sensitivity": _ratio(tp, tp + fn), f"{family}_precision": _ratio(tp, tp + fp)}
        if family == "instance":
            values["dsb_ap50"] = _ratio(tp, tp + fp + fn)
    return values


def _ratio(numerators: Values, denominators: Values) -> Values:
    ratios: Values = np.divide(numerators, denominators, out=np.full(len(numerators), np.nan), where=denominators > 0)
    return ratios


def _with_mean(values: Sequence[float] | Values) -> Values:
    known = np.asarray(values)[~np.isnan(values)]
    return np.append(values, known.mean() if known.size else np.nan)
