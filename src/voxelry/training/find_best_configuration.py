"""Finds the best configuration, or pair of configurations, by mean Dice over the held-out cases of a cross-validation.

As in nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): every configuration by itself and the average of every
pair are candidates; the best mean Dice over labels wins and, among equals, the one that costs least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from voxelry.core.plan import Configuration

Candidate = tuple[Configuration, ...]
"""One configuration, or two whose predictions are averaged."""

GAIN = 1e-6
"""A smaller rise of the mean Dice is rounding: the earlier candidate stays."""


def candidates(configurations: Sequence[Configuration]) -> list[Candidate]:
    """Every configuration, then every pair, in the order in which equals are preferred."""
    return [*((name,) for name in configurations), *combinations(configurations, 2)]


def candidate_name(candidate: Candidate) -> str:
    """The name of a candidate, usable as a file name, such as ``2d+3d``."""
    return "+".join(candidate)


@dataclass(frozen=True)
class ConfigurationComparison:
    """The scores of all candidates, and the best of them.

    Attributes:
        mean_dice: mean Dice of each candidate over all cases, NaN where no label occurs.
    """

    mean_dice: Mapping[Candidate, float]

    @property
    def best(self) -> Candidate:
        """The candidate to keep."""
        best, *others = self.mean_dice
        for other in others:
            if self._value(other) > self._value(best) + GAIN:
                best = other
        return best

    def record(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        dice = {candidate_name(name): None if math.isnan(value) else round(value, 6) for name, value in self.mean_dice.items()}
        return {"chosen": candidate_name(self.best), "mean_dice": dice}

    def _value(self, candidate: Candidate) -> float:
        value = self.mean_dice[candidate]
        return -1.0 if math.isnan(value) else value
