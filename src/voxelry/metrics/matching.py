"""One-to-one matching of reference objects with predicted ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment

from voxelry.errors import UsageError, nearest
from voxelry.metrics.instances import Indices, Overlaps, Values

Method = Literal["greedy", "optimal"]


@dataclass(frozen=True, eq=False)
class Matches:
    """Which reference object is which predicted one.

    Attributes:
        reference: ``(T,)`` indices of matched reference objects.
        prediction: ``(T,)`` indices of their partners.
        iou: ``(T,)`` intersection over union of each pair.
        dice: ``(T,)`` Dice of each pair.
        references: how many reference objects there are.
        predictions: how many predicted objects there are.
    """

    reference: Indices
    prediction: Indices
    iou: Values
    dice: Values
    references: int
    predictions: int

    @property
    def tp(self) -> int:
        """Matched pairs."""
        return len(self.reference)

    @property
    def fp(self) -> int:
        """Predicted objects without a partner."""
        return self.predictions - self.tp

    @property
    def fn(self) -> int:
        """Reference objects without a partner."""
        return self.references - self.tp


def match(overlaps: Overlaps, threshold: float = 0.5, method: Method = "greedy") -> Matches:
    """Pair objects of one class, each with one partner at most.

    Above an IoU of 0.5 no object has two candidates (Kirillov et al. 2019), and the methods agree. Below, ``greedy`` takes the
    pairs by falling IoU (as panoptica's NaiveThresholdMatching), while ``optimal`` finds the most pairs and among those the
    largest sum of IoU (as StarDist's `matching`).

    Args:
        overlaps: see `voxelry.metrics.instances.overlaps`.
        threshold: the least IoU of a pair, 0 < threshold <= 1; a pair that just reaches it counts.
        method: ``greedy`` or ``optimal``.

    Returns:
        The pairs, ordered by reference.

    Raises:
        UsageError: another method, or a threshold out of range.
    """
    if method not in get_args(Method):
        raise UsageError(f"unknown matching '{method}'", remedy=nearest(method, get_args(Method)))
    if not 0 < threshold <= 1:
        raise UsageError(f"a threshold of {threshold} on IoU", remedy="Use a number above 0, up to 1.")
    able = np.flatnonzero(overlaps.iou >= threshold)
    chosen = _greedy(overlaps, able) if method == "greedy" else _optimal(overlaps, able)
    return Matches(
        overlaps.reference[chosen],
        overlaps.prediction[chosen],
        overlaps.iou[chosen],
        overlaps.dice[chosen],
        len(overlaps.reference_sizes),
        len(overlaps.prediction_sizes),
    )


def _greedy(overlaps: Overlaps, able: Indices) -> Indices:
    """Pairs by falling IoU; of equal ones the first."""
    free_reference = np.ones(len(overlaps.reference_sizes), dtype=bool)
    free_prediction = np.ones(len(overlaps.prediction_sizes), dtype=bool)
    chosen = []
    for pair in able[np.argsort(-overlaps.iou[able], kind="stable")]:
        one, other = overlaps.reference[pair], overlaps.prediction[pair]
        if free_reference[one] and free_prediction[other]:
            free_reference[one] = free_prediction[other] = False
            chosen.append(int(pair))
    return np.array(sorted(chosen), dtype=np.int64)


def _optimal(overlaps: Overlaps, able: Indices) -> Indices:
    """The most pairs, then the largest sum of IoU: a pair weighs 1 and a share of its IoU too small to add up to another."""
    rows, row = np.unique(overlaps.reference[able], return_inverse=True)
    columns, column = np.unique(overlaps.prediction[able], return_inverse=True)
    gain = np.zeros((len(rows), len(columns)))
    gain[row, column] = 1 + overlaps.iou[able] / (2 * max(1, min(gain.shape)))
    pair_at = np.full(gain.shape, -1, dtype=np.int64)
    pair_at[row, column] = able
    chosen = pair_at[linear_sum_assignment(gain, maximize=True)]
    return np.sort(chosen[chosen >= 0])
