"""One-to-one matching of reference objects with predicted objects by IoU, greedy or optimal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from voxelry.errors import UsageError, nearest
from voxelry.metrics.instances import Indices, ObjectOverlaps, Values

MatchMethod = Literal["greedy", "optimal"]


@dataclass(frozen=True, eq=False)
class Matches:
    """The matched pairs of reference and predicted objects.

    Attributes:
        reference: ``(T,)`` indices of matched reference objects.
        prediction: ``(T,)`` indices of their partners.
        iou: ``(T,)`` intersection over union of each pair.
        dice: ``(T,)`` Dice of each pair.
        references: number of reference objects.
        predictions: number of predicted objects.
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


def match(overlaps: ObjectOverlaps, threshold: float = 0.5, method: MatchMethod = "greedy") -> Matches:
    """Pair objects of one class, each with at most one partner.

    Above an IoU of 0.5 no object has two candidates (Kirillov et al. 2019), and the methods agree. Below, ``greedy`` takes the
    pairs by falling IoU (as panoptica's NaiveThresholdMatching), while ``optimal`` finds the most pairs and, among those, the
    largest sum of IoU (as StarDist's `matching`).

    Args:
        overlaps: see `voxelry.metrics.instances.object_overlaps`.
        threshold: the smallest IoU of a pair, 0 < threshold <= 1; equality counts.
        method: ``greedy`` or ``optimal``.

    Returns:
        The pairs, ordered by reference.

    Raises:
        UsageError: an unknown method, or a threshold out of range.
    """
    if method not in get_args(MatchMethod):
        raise UsageError(f"unknown matching '{method}'", remedy=nearest(method, get_args(MatchMethod)))
    if not 0 < threshold <= 1:
        raise UsageError(f"a threshold of {threshold} on IoU", remedy="Use a number above 0, up to 1.")
    candidates = np.flatnonzero(overlaps.iou >= threshold)
    pairs = _greedy(overlaps, candidates) if method == "greedy" else _optimal(overlaps, candidates)
    return Matches(
        overlaps.reference[pairs],
        overlaps.prediction[pairs],
        overlaps.iou[pairs],
        overlaps.dice[pairs],
        len(overlaps.reference_sizes),
        len(overlaps.prediction_sizes),
    )


def _greedy(overlaps: ObjectOverlaps, candidates: Indices) -> Indices:
    """Pairs by falling IoU; of equal pairs the first."""
    free_reference = np.ones(len(overlaps.reference_sizes), dtype=bool)
    free_prediction = np.ones(len(overlaps.prediction_sizes), dtype=bool)
    pairs = []
    for pair in candidates[np.argsort(-overlaps.iou[candidates], kind="stable")]:
        row, column = overlaps.reference[pair], overlaps.prediction[pair]
        if free_reference[row] and free_prediction[column]:
            free_reference[row] = free_prediction[column] = False
            pairs.append(int(pair))
    return np.array(sorted(pairs), dtype=np.int64)


def _optimal(overlaps: ObjectOverlaps, candidates: Indices) -> Indices:
    """The most pairs, then the largest sum of IoU, found apart for each group of objects that candidates connect."""
    rows, row = np.unique(overlaps.reference[candidates], return_inverse=True)
    columns, column = np.unique(overlaps.prediction[candidates], return_inverse=True)
    nodes = len(rows) + len(columns)
    links = coo_array((np.ones(len(candidates)), (row, len(rows) + column)), shape=(nodes, nodes))
    group = connected_components(links, directed=False)[1][row] if nodes else row
    alone = np.bincount(group)[group] == 1
    order = np.flatnonzero(~alone)[np.argsort(group[~alone], kind="stable")]
    groups = np.split(candidates[order], np.flatnonzero(np.diff(group[order])) + 1)
    return np.sort(np.concatenate([candidates[alone], *(_assigned(overlaps, members) for members in groups if len(members))]))


def _assigned(overlaps: ObjectOverlaps, candidates: Indices) -> Indices:
    """The best pairs of a group: a pair weighs 1 plus a fraction of its IoU too small to outweigh a pair."""
    rows, row = np.unique(overlaps.reference[candidates], return_inverse=True)
    columns, column = np.unique(overlaps.prediction[candidates], return_inverse=True)
    gain = np.zeros((len(rows), len(columns)))
    gain[row, column] = 1 + overlaps.iou[candidates] / (2 * max(1, min(gain.shape)))
    pair_at = np.full(gain.shape, -1, dtype=np.int64)
    pair_at[row, column] = candidates
    pairs = pair_at[linear_sum_assignment(gain, maximize=True)]
    assigned: Indices = pairs[pairs >= 0]
    return assigned
