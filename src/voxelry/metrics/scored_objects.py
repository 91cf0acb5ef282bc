"""ScoredObjects: predicted objects ranked by their scores, for COCO's average precision and FROC curves of a set of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import UsageError
from voxelry.metrics.froc import OPERATING_POINTS, Detections, detections
from voxelry.metrics.instances import Indices, ObjectOverlaps, Values
from voxelry.metrics.panoptic import AP_THRESHOLDS

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO samples the precision."""


@dataclass(frozen=True, eq=False)
class ScoredObjects:
    """The predicted objects of one case and label.

    Attributes:
        detections: their scores, the reference object that each hits, and the number of reference objects.
        matched: ``(T, P)`` bool: the object is a true positive at each of `AP_THRESHOLDS`.
    """

    detections: Detections
    matched: NDArray[np.bool_]

    @classmethod
    def of(cls, pairs: ObjectOverlaps, scores: Values) -> ScoredObjects:
        """Match the objects of one label as pycocotools does: by falling score, each with the free partner of largest IoU.

        Raises:
            UsageError: not one finite score for each object.
        """
        hits = detections(pairs, scores)
        rank = np.empty(len(scores), dtype=np.int64)
        rank[np.argsort(-hits.scores, kind="stable")] = np.arange(len(scores))
        order = np.lexsort((-pairs.iou, rank[pairs.prediction]))
        matched = np.zeros((len(AP_THRESHOLDS), len(scores)), dtype=bool)
        for row, threshold in zip(matched, AP_THRESHOLDS, strict=True):
            taken: set[int] = set()
            for pair in order[pairs.iou[order] >= threshold].tolist():
                truth, guess = int(pairs.reference[pair]), int(pairs.prediction[pair])
                if truth not in taken and not row[guess]:
                    taken.add(truth)
                    row[guess] = True
        return cls(hits, matched)


def scores_of_objects(given: Indices, scores: Mapping[int, float] | None, where: str) -> Values:
    """``(P,)`` the score of each predicted object.

    Args:
        given: ``(P,)`` the id that the prediction gave each object, 0 for none.
        scores: object id -> score; None where there are none, as of a prediction without objects.
        where: name of the prediction, for messages.

    Raises:
        UsageError: an object without a score.
    """
    if scores is None and len(given):
        raise UsageError(
            f"{where}: FROC and COCO's AP need a score of each object, and there is none",
            remedy="Put `segments_info` with ids and scores beside the prediction (<case id>.json), or measure instances.",
        )
    known = scores or {}
    lacking = [int(number) for number in given if number not in known]
    if lacking:
        unnamed = lacking.count(0)
        what = f"{unnamed} have no id" if unnamed else f"object {lacking[0]} is not among the scores"
        raise UsageError(
            f"{where}: {len(lacking)} of {len(given)} objects have no score: {what}",
            remedy="Give instance ids beside the labels, and a score of each id.",
        )
    return np.array([known[int(number)] for number in given], dtype=np.float64)


class RankedObjects:
    """The predicted objects of one label in all cases, by falling score.

    Args:
        cases: the objects of each case; None where the label was not measured.
    """

    def __init__(self, cases: Sequence[ScoredObjects | None]) -> None:
        known = [(n, case) for n, case in enumerate(cases) if case is not None]
        self._references = np.zeros(len(cases))
        self._measured = np.zeros(len(cases))
        for n, case in known:
            self._references[n], self._measured[n] = case.detections.references, 1
        scores = np.concatenate([np.zeros(0), *(case.detections.scores for _, case in known)])
        order = np.argsort(-scores, kind="stable")
        self._case = np.concatenate([np.zeros(0, np.int64), *(np.full(len(c.detections.scores), n) for n, c in known)])[order]
        none = np.zeros((len(AP_THRESHOLDS), 0), dtype=bool)
        self._matched = np.concatenate([none, *(case.matched for _, case in known)], axis=1)[:, order]
        self._is_new, self._is_wrong = self._froc_steps([case for _, case in known], order)
        self._last = np.flatnonzero(np.diff(scores[order], append=-np.inf) != 0)

    @staticmethod
    def _froc_steps(cases: Sequence[ScoredObjects], order: Indices) -> tuple[Values, Values]:
        """For each object 1 where it is the first to hit a reference object, and 1 where it hits none."""
        new, wrong = [np.zeros(0)], [np.zeros(0)]
        for case in cases:
            hits, scores = case.detections.hits, case.detections.scores
            rising = np.argsort(scores, kind="stable")
            best = np.full(case.detections.references, -1, dtype=np.int64)
            hitting = rising[hits[rising] >= 0]
            best[hits[hitting]] = hitting
            first = np.zeros(len(hits))
            first[best[best >= 0]] = 1
            new.append(first)
            wrong.append((hits < 0).astype(np.float64))
        return np.concatenate(new)[order], np.concatenate(wrong)[order]

    def coco_ap(self, weights: Values) -> Values:
        """``(T,)`` COCO's average precision at each of `AP_THRESHOLDS`; NaN without reference objects.

        As pycocotools: objects of all cases by falling score, precision made to fall, sampled at 101 recalls. All objects count,
        of any size and however many.

        Args:
            weights: ``(N,)`` how often each case counts.
        """
        total = float(weights @ self._references)
        if not total:
            return np.full(len(AP_THRESHOLDS), np.nan)
        weight = weights[self._case]
        tp, counted = np.cumsum(self._matched * weight, axis=1), np.cumsum(weight)
        precision = np.divide(tp, counted, out=np.zeros(tp.shape), where=counted > 0)
        falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        values = np.zeros(len(AP_THRESHOLDS))
        for row, (recall, curve) in enumerate(zip(tp / total, falling, strict=True)):
            places = np.searchsorted(recall, RECALLS)
            values[row] = np.append(curve, 0.0)[places].mean()
        return values

    def froc(self, weights: Values) -> Values:
        """``(7,)`` sensitivity at `OPERATING_POINTS` false positives per case; NaN without reference objects."""
        total, cases = float(weights @ self._references), float(weights @ self._measured)
        if not total:
            return np.full(len(OPERATING_POINTS), np.nan)
        weight = weights[self._case]
        wrong = np.cumsum(self._is_wrong * weight)[self._last] / cases
        sensitivity = np.cumsum(self._is_new * weight)[self._last] / total
        places = np.searchsorted(wrong, OPERATING_POINTS, side="right")
        values: Values = np.concatenate([[0.0], sensitivity])[places]
        return values
