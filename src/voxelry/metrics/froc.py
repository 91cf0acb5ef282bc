"""FROC curves: sensitivity against false positives per case, over thresholds of the score of detected objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxelry.errors import UsageError
from voxelry.metrics.instances import Indices, ObjectOverlaps, Values

OPERATING_POINTS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per case at which LUNA16 evaluates sensitivity."""


@dataclass(frozen=True, eq=False)
class Detections:
    """The predicted objects of one case.

    Attributes:
        scores: ``(P,)`` confidence of the model in each, any unit, larger is more confident.
        hits: ``(P,)`` index of the reference object that each one hits, -1 for a false positive.
        references: number of reference objects of the case.
    """

    scores: Values
    hits: Indices
    references: int


def detections(pairs: ObjectOverlaps, scores: Values, threshold: float = 0.0) -> Detections:
    """Assign every predicted object to the reference object that it hits, if several, to that of the largest IoU.

    Args:
        pairs: overlaps of the objects of one class.
        scores: ``(P,)`` score of each predicted object, such as the largest probability inside it.
        threshold: smallest IoU of a hit; at 0 any shared voxel is a hit.

    Raises:
        UsageError: the scores are not one finite number for each predicted object, or a threshold out of range.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != pairs.prediction_sizes.shape or not np.isfinite(values).all():
        raise UsageError(
            f"scores of shape {values.shape} for {len(pairs.prediction_sizes)} objects", remedy="Give each one finite score."
        )
    if not 0 <= threshold <= 1:
        raise UsageError(f"a threshold of {threshold:g} on IoU", remedy="Use a number from 0 to 1.")
    hits = np.full(len(values), -1, dtype=np.int64)
    candidates = np.flatnonzero(pairs.iou >= threshold)
    rising = candidates[np.argsort(pairs.iou[candidates], kind="stable")]
    hits[pairs.prediction[rising]] = pairs.reference[rising]
    return Detections(values, hits, len(pairs.reference_sizes))


@dataclass(frozen=True, eq=False)
class Froc:
    """A FROC curve, from the strictest threshold to the loosest.

    Attributes:
        thresholds: ``(T,)`` falling scores; an object counts if its score is at least this.
        sensitivity: ``(T,)`` share of all reference objects that are hit; NaN if there are none.
        false_positives: ``(T,)`` false positives per case.
        references: number of reference objects of all cases.
    """

    thresholds: Values
    sensitivity: Values
    false_positives: Values
    references: int

    def at(self, false_positives: float) -> float:
        """The sensitivity at this number of false positives per case or fewer; 0 if no threshold is that strict."""
        allowed = self.sensitivity[self.false_positives <= false_positives]
        return float(allowed[-1]) if allowed.size else 0.0

    @property
    def mean_sensitivity(self) -> float:
        """The mean over `OPERATING_POINTS`, the score of LUNA16 (Setio et al. 2017); NaN without reference objects."""
        if not self.references:
            return float("nan")
        return float(np.mean([self.at(point) for point in OPERATING_POINTS]))


def froc(cases: Sequence[Detections]) -> Froc:
    """The FROC curve of a set of cases.

    A reference object counts once, however many objects hit it; a second hit is neither a true nor a false positive, as in
    LUNA16. Sensitivity pools the reference objects of all cases.

    Args:
        cases: at least one; a case without reference or predicted objects counts as a case.

    Returns:
        The curve, one point for each distinct score.

    Raises:
        UsageError: there is no case.
    """
    if not cases:
        raise UsageError("a FROC curve needs a case")
    total = sum(case.references for case in cases)
    wrong = np.sort(np.concatenate([case.scores[case.hits < 0] for case in cases]))
    hits = np.sort(np.concatenate([_best_scores(case) for case in cases]))
    thresholds = np.unique(np.concatenate([case.scores for case in cases]))[::-1]
    detected = len(hits) - np.searchsorted(hits, thresholds)
    sensitivity = detected / total if total else np.full(len(thresholds), np.nan)
    return Froc(thresholds, sensitivity, (len(wrong) - np.searchsorted(wrong, thresholds)) / len(cases), total)


def _best_scores(case: Detections) -> Values:
    """The largest score of a hit of each reference object that is hit."""
    best = np.full(case.references, -np.inf)
    is_hit = case.hits >= 0
    np.maximum.at(best, case.hits[is_hit], case.scores[is_hit])
    scores: Values = best[np.isfinite(best)]
    return scores
