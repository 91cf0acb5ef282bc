"""Probabilities and ranges of augmentation settings, and how a factor is drawn from a range about 1."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, PositiveFloat


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= limits[0] <= limits[1]:
        raise ValueError("a range is written low before high, neither below 0")
    return limits


def _at_most_one(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[1] > 1:
        raise ValueError("a share is at most 1")
    return limits


Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)]
ShareRange = Annotated[tuple[float, float], AfterValidator(_ordered), AfterValidator(_at_most_one)]
PositiveShareRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered), AfterValidator(_at_most_one)]


def uniform_about_one(limits: tuple[float, float], random: np.random.Generator) -> float:
    """A factor or exponent: as often below 1 as above, uniform on each side.

    Args:
        limits: lowest and highest value.
        random: random generator of the patch.
    """
    low, high = limits
    if low < 1 < high:
        return float(random.uniform(low, 1) if random.random() < 0.5 else random.uniform(1, high))
    return float(random.uniform(low, high))
