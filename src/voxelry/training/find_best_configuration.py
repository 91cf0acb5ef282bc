"""Which configuration, or which two together: by mean Dice over cases that the models have not seen.

As nnU-Net chooses (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): every configuration by itself and the average of every
two are candidates; the best mean Dice over labels wins, and of equals the one that costs least.
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
"""A smaller rise of the mean Dice is rounding: the candidate that came first stays."""


def candidates(configurations: Sequence[Configuration]) -> list[Candidate]:
    """Every configuration, then every two: in the order in which equals are preferred."""
    return [*((one,) for one in configurations), *combinations(configurations, 2)]


def name_of(candidate: Candidate) -> str:
    """A candidate in words, usable as a file name."""
    return "+".join(candidate)


@dataclass(frozen=True)
class Choice:
    """What cross-validation said.

    Attributes:
        mean_dice: of each candidate over all cases, NaN where no label occurs.
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
        """What was compared, as JSON can hold it."""
        dice = {name_of(one): None if math.isnan(value) else round(value, 6) for one, value in self.mean_dice.items()}
        return {"chosen": name_of(self.best), "mean_dice": dice}

    def _value(self, candidate: Candidate) -> float:
        value = self.mean_dice[candidate]
        return -1.0 if math.isnan(value) else value
