"""Overlap metrics of labels and of regions (unions of labels) from one count of value pairs.

A region is a name and the label values that it unites (BraTS: whole tumour = 1, 2 and 4; regions may overlap). A single label is
a region of one value, and so is the background where a mean includes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from voxelry.errors import LabelError, UsageError, nearest
from voxelry.metrics.empty_policy import EmptyPolicy
from voxelry.metrics.metric_table import DEFAULT_POLICIES
from voxelry.metrics.overlap import Counts, PairCounts, Values

Average = Literal["macro", "micro", "frequency"]
VOXEL_METRICS = ("dice", "iou", "precision", "recall", "specificity", "fpr", "volume_error")


@dataclass(frozen=True, eq=False)
class RegionCounts:
    """True and false positives and negatives of R regions.

    Attributes:
        names: R names.
        tp: ``(R,)`` int64 voxels in both maps.
        fp: ``(R,)`` int64 voxels in the prediction only.
        fn: ``(R,)`` int64 voxels in the reference only.
        tn: ``(R,)`` int64 voxels in neither.
    """

    names: tuple[str, ...]
    tp: Counts
    fp: Counts
    fn: Counts
    tn: Counts

    @property
    def reference_voxels(self) -> Counts:
        """``(R,)`` int64 size in the reference."""
        return self.tp + self.fn

    @property
    def prediction_voxels(self) -> Counts:
        """``(R,)`` int64 size in the prediction."""
        return self.tp + self.fp

    def score(self, metric: str, policy: EmptyPolicy | None = None) -> Values:
        """One metric of every region, no unit.

        ``dice`` 2TP/(2TP+FP+FN) (Dice 1945), ``iou`` TP/(TP+FP+FN) (Jaccard 1901), ``precision`` TP/(TP+FP), ``recall``
        TP/(TP+FN) (sensitivity), ``specificity`` TN/(TN+FP), ``fpr`` FP/(FP+TN), ``volume_error`` (prediction - reference) /
        reference, signed (SimpleITK's VolumeSimilarity divides by the mean of both instead).

        Args:
            metric: one of `VOXEL_METRICS`.
            policy: the score of empty masks; the metric's default (`DEFAULT_POLICIES`) if None.

        Returns:
            ``(R,)`` float64, NaN where there is no score.

        Raises:
            UsageError: an unknown metric.
        """
        if metric not in VOXEL_METRICS:
            raise UsageError(f"no metric '{metric}' of voxel counts", remedy=nearest(metric, VOXEL_METRICS))
        policy = policy or DEFAULT_POLICIES[metric]
        return policy.apply(self._formula(metric), self.reference_voxels, self.prediction_voxels)

    def volume_error_mm3(self, voxel_volume: float) -> Values:
        """``(R,)`` prediction minus reference in mm^3 (mm^2 in pictures), signed, given the size of one voxel."""
        return (self.fp - self.fn).astype(np.float64) * voxel_volume

    def mean(self, metric: str, average: Average = "macro", policy: EmptyPolicy | None = None) -> float:
        """The mean over all regions that have a score; mean IoU is ``mean("iou")``.

        Args:
            metric: one of `VOXEL_METRICS`.
            average: ``macro``: every region weighs the same; ``micro``: the formula on the summed counts; ``frequency``:
                regions weigh as their voxels in the reference (frequency-weighted IoU, Long et al. 2015).
            policy: as in `score`.

        Returns:
            The mean, NaN if no region has a score.
        """
        if average == "micro":
            pooled = RegionCounts(("all",), *(counts.sum(keepdims=True) for counts in (self.tp, self.fp, self.fn, self.tn)))
            return float(pooled.score(metric, policy)[0])
        values = self.score(metric, policy)
        weights = np.ones(len(values)) if average == "macro" else self.reference_voxels.astype(np.float64)
        scored = ~np.isnan(values)
        total = weights[scored].sum()
        return float((values[scored] * weights[scored]).sum() / total) if total else float("nan")

    def _formula(self, metric: str) -> Values:
        tp, fp, fn, tn = self.tp, self.fp, self.fn, self.tn
        numerator, denominator = {
            "dice": (2 * tp, 2 * tp + fp + fn),
            "iou": (tp, tp + fp + fn),
            "precision": (tp, tp + fp),
            "recall": (tp, tp + fn),
            "specificity": (tn, tn + fp),
            "fpr": (fp, tn + fp),
            "volume_error": (fp - fn, tp + fn),
        }[metric]
        result: Values = np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0)
        return result


def count_regions(
    pairs: PairCounts, regions: Mapping[str, Collection[int]] | None = None, ignore: Collection[int] = ()
) -> RegionCounts:
    """Count true and false positives and negatives of regions from counts of value pairs.

    Args:
        pairs: the count of each pair of values (`voxelry.metrics.overlap.count_values`).
        regions: name -> the label values that it unites; by default every value but 0 and the ignored ones, each on its own.
        ignore: reference values whose voxels are not counted.

    Returns:
        Counts in the order of `regions`.

    Raises:
        LabelError: a region without values, or with an ignored one.
    """
    if regions is None:
        values = sorted(set(pairs.reference.tolist()) | set(pairs.prediction.tolist()))
        regions = {str(value): (value,) for value in values if value != 0 and value not in ignore}
    for name, members in regions.items():
        if not members or set(members) & set(ignore):
            raise LabelError(f"region '{name}' = {sorted(members)} is empty or holds an ignored value ({sorted(ignore)})")
    counted = ~np.isin(pairs.reference, list(ignore))
    matrix, reference = pairs.matrix[counted], pairs.reference[counted]
    in_reference, in_prediction = _membership(reference, regions), _membership(pairs.prediction, regions)
    tp = np.einsum("ri,ij,rj->r", in_reference, matrix, in_prediction)
    reference_voxels = in_reference @ matrix.sum(axis=1)
    prediction_voxels = in_prediction @ matrix.sum(axis=0)
    fn, fp = reference_voxels - tp, prediction_voxels - tp
    return RegionCounts(tuple(regions), tp, fp, fn, matrix.sum() - tp - fn - fp)


def _membership(values: Counts, regions: Mapping[str, Collection[int]]) -> Counts:
    """``(R, V)`` 1 where a region holds a value."""
    member = np.zeros((len(regions), len(values)), dtype=np.int64)
    for row, members in zip(member, regions.values(), strict=True):
        row[np.isin(values, list(members))] = 1
    return member
