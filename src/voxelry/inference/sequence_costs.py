"""The costs by which objects in a row are named: how well scores, spacing, volumes and presence fit, as negative log likelihoods.

Each is 0 for a perfect fit. Spacing and volume have an upper bound, so that no single odd object decides a whole row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from voxelry.core.label_sequence import LabelSequence, Spread

Values = NDArray[np.float64]

CONFUSED_NEIGHBOUR = 0.1
"""Share of a label's score that each of its neighbours in the row gets: networks mistake a level for the next one."""

CONFUSED_ANY = 0.02
"""Share of the score that is spread over all labels."""

REJECTED = (1.5, 12.0)
"""Costs of leaving an object without a name: one of `JUNK` times the usual volume or less, one of half of it or more."""

JUNK = 0.05

MERGED = 2.0
"""Cost of each further piece of an object that came in pieces."""

MERGED_ALONG, MERGED_ACROSS = 0.5, 1.5
"""Pieces of one object lie closer together than these shares of the distance of neighbours, along the row and across it."""

LARGEST_GROUP = 3
"""Most pieces of one object."""

REVERSED = 8.0
"""Cost of a row that runs against the direction of training."""

_LEAST_STD = {"distance": 0.12, "volume": 0.25}
"""Smallest standard deviation as a share of the mean: a few cases show too little of the variation among people."""

_UNKNOWN_STD = 0.25
"""Standard deviation as a share of the mean where training showed none."""

_OUTLIER = {"distance": 1e-3, "volume": 1e-2}
"""Share of objects whose spacing or volume says nothing, which bounds the cost."""


@dataclass(frozen=True, eq=False)
class OrderedObject:
    """An object to be named.

    Attributes:
        scores: of each label of the sequence, not negative: a mean probability, or the voxels that have the label.
        centroid: in mm, RAS+ (pictures: along rows and columns).
        volume: mm^3 (mm^2, pixels).
        is_cut: it touches the border of the scan, so that it may be larger than it looks.
    """

    scores: Values
    centroid: Values
    volume: float
    is_cut: bool = False


@dataclass(frozen=True, eq=False)
class Element:
    """One object, or several pieces of one, next to each other in the row; all costs but that of its place.

    Attributes:
        first, last: its first and last object by their places in the row.
        centroid: in mm.
        costs: ``(m,)`` cost of each label.
    """

    first: int
    last: int
    centroid: Values
    costs: Values


class SequenceCosts:
    """The costs of one row of objects.

    Args:
        objects: along the row.
        sequence: the labels, in the same direction as the objects or against it.
    """

    def __init__(self, objects: Sequence[OrderedObject], sequence: LabelSequence) -> None:
        self.objects, self.sequence = objects, sequence
        self.absent, self.present = (-np.log(chance) for chance in (1 - np.array(sequence.chances), np.array(sequence.chances)))
        self._distances, self._distance_stds = self._expected_distances()
        self.volumes, self._volume_stds = self._expected_volumes()
        self._optional = np.array([label in sequence.optional for label in sequence.labels])
        self.rejected = np.array([self._rejection(each) for each in objects])

    @cached_property
    def direction(self) -> float:
        """The cost of the objects' direction."""
        if self.sequence.direction is None or len(self.objects) < 2:
            return 0.0
        vector = self.objects[-1].centroid - self.objects[0].centroid
        length = float(np.linalg.norm(vector))
        if length == 0 or len(vector) != len(self.sequence.direction):
            return 0.0
        return REVERSED * (1 - float(vector @ self.sequence.direction) / length) / 2

    @cached_property
    def elements(self) -> list[Element]:
        """Every object, and every group of pieces close enough to be one object, in the order of their first objects."""
        return [
            self._element(first, last, self.objects[first : last + 1])
            for first in range(len(self.objects))
            for last in range(first, min(first + LARGEST_GROUP, len(self.objects)))
            if first == last or self._is_close(first, last)
        ]

    def transitions(self, distance: float) -> Values:
        """The costs of two neighbours' places.

        Args:
            distance: between their centroids.

        Returns:
            ``(m, m)``: the first object has the label of the row, the next that of the column; infinite where they do not follow
            each other. The labels between are absent.
        """
        mean, variance, closed, closable, skipped = self._steps
        spacing = _misfit((distance - mean) ** 2, variance, "distance")
        together = _misfit((distance - closed) ** 2, (_LEAST_STD["distance"] * closed) ** 2, "distance")
        return np.where(closable, np.minimum(spacing, together), spacing) + skipped

    @cached_property
    def _steps(self) -> tuple[Values, Values, Values, NDArray[np.bool_], Values]:
        """What `transitions` needs of each pair of labels, ``(m, m)`` each.

        Returns:
            Mean and variance of their distance, the distance where all labels between are lacking without a gap, whether all may
            be, and the cost of their absence, infinite where the labels do not follow.
        """
        first, last = np.arange(len(self.sequence.labels))[:, None], np.arange(len(self.sequence.labels))[None]
        sums, variances, absences, needed = (
            np.concatenate([[0.0], np.cumsum(values)])
            for values in (self._distances, self._distance_stds**2, self.absent, ~self._optional)
        )
        follows = first < last
        mean = np.where(follows, sums[last] - sums[first], 1.0)
        variance = np.where(follows, variances[last] - variances[first], 1.0)
        closed = (np.append(self._distances, 0.0)[:, None] + np.insert(self._distances, 0, 0.0)[None]) / 2
        closable = needed[last] - needed[first + 1] <= 0
        skipped = np.where(follows, absences[last] - absences[first + 1], np.inf)
        return mean, variance, np.where(follows, closed, 1.0), closable, skipped

    def _is_close(self, first: int, last: int) -> bool:
        """Whether objects next to each other may be pieces of one."""
        axis, spacing = self._axis(first, last), float(self._distances.mean())
        for before, after in zip(self.objects[first:last], self.objects[first + 1 : last + 1], strict=True):
            step = after.centroid - before.centroid
            along = abs(float(step @ axis)) if axis is not None else float(np.linalg.norm(step))
            across = math.sqrt(max(0.0, float(step @ step) - along**2))
            if along >= MERGED_ALONG * spacing or across >= MERGED_ACROSS * spacing:
                return False
        return True

    def _axis(self, first: int, last: int) -> Values | None:
        """Unit vector along the row past some objects, from the one before to the one after; None where there are no others."""
        middle = np.mean([each.centroid for each in self.objects[first : last + 1]], axis=0)
        before = self.objects[first - 1].centroid if first > 0 else middle
        after = self.objects[last + 1].centroid if last + 1 < len(self.objects) else middle
        vector = after - before
        length = float(np.linalg.norm(vector))
        return vector / length if length > 0 else None

    def _element(self, first: int, last: int, pieces: Sequence[OrderedObject]) -> Element:
        volumes = np.array([piece.volume for piece in pieces])
        shares = volumes / volumes.sum()
        scores = shares @ np.array([label_shares(piece.scores) for piece in pieces])
        centroid = shares @ np.array([piece.centroid for piece in pieces])
        size = self._size_costs(float(volumes.sum()), is_cut=any(piece.is_cut for piece in pieces))
        costs = _score_costs(scores) + size + self.present + MERGED * (last - first)
        return Element(first, last, centroid, costs)

    def _size_costs(self, volume: float, *, is_cut: bool) -> Values:
        ratio = np.log(volume / self.volumes)
        if is_cut:
            ratio = np.maximum(ratio, 0.0)
        return _misfit(ratio**2, self._volume_stds**2, "volume")

    def _rejection(self, each: OrderedObject) -> float:
        low, high = REJECTED
        rise = math.log(each.volume / float(np.median(self.volumes)) / JUNK) / math.log(0.5 / JUNK)
        return low + (high - low) * min(1.0, max(0.0, rise))

    def _expected_distances(self) -> tuple[Values, Values]:
        """Mean and standard deviation between each label and the next; where unknown, those of all, or of the objects."""
        centroids = np.array([each.centroid for each in self.objects])
        steps = np.linalg.norm(np.diff(centroids, axis=0), axis=1) if len(self.objects) > 1 else np.ones(1)
        usual = float(np.median(steps)) or 1.0
        return _filled(self.sequence.distances or (None,) * (len(self.sequence.labels) - 1), usual, _LEAST_STD["distance"])

    def _expected_volumes(self) -> tuple[Values, Values]:
        """Mean volume of each label and standard deviation as a share of it."""
        volumes = np.array([each.volume for each in self.objects])
        usual = float(np.median(volumes[volumes >= JUNK * volumes.max()])) if len(volumes) else 1.0
        means, stds = _filled(self.sequence.volumes or (None,) * len(self.sequence.labels), usual, _LEAST_STD["volume"])
        return means, stds / means


def label_shares(scores: Values) -> Values:
    """Scores scaled to a sum of 1, equal where all are 0."""
    total = float(scores.sum())
    return scores / total if total > 0 else np.full(len(scores), 1 / len(scores))


def _score_costs(shares: Values) -> Values:
    certain = 1 - 2 * CONFUSED_NEIGHBOUR - CONFUSED_ANY
    beside = np.append(shares[1:], 0.0) + np.insert(shares[:-1], 0, 0.0)
    blurred = certain * shares + CONFUSED_NEIGHBOUR * beside + CONFUSED_ANY / len(shares)
    return np.asarray(math.log(certain + CONFUSED_ANY / len(shares)) - np.log(blurred), dtype=np.float64)


def _misfit(squared: Values, variance: Values, kind: str) -> Values:
    """The cost of a deviation from a normal distribution mixed with outliers."""
    outlier = _OUTLIER[kind]
    return np.asarray(-np.log((1 - outlier) * np.exp(-squared / (2 * variance)) + outlier), dtype=np.float64)


def _filled(spreads: Sequence[Spread | None], usual: float, least: float) -> tuple[Values, Values]:
    """Means and standard deviations, at least a share of the mean; those that are unknown take the mean of the known ones."""
    known = [spread.mean for spread in spreads if spread is not None]
    default = float(np.mean(known)) if known else usual
    means = np.array([default if spread is None else spread.mean for spread in spreads])
    stds = np.array([_UNKNOWN_STD * default if spread is None else spread.std for spread in spreads])
    return means, np.maximum(stds, least * means)
