"""Features of a prediction from which its Dice is estimated: how unsure the networks were, how unlike the training references.

Each grows with doubt. All but the first two are distances from the training references in their standard deviations, as
``log(1 + distance)``, so that a wild value does not drown the others; where a distance has several parts it is their root mean
square.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from voxelry.core.quality_model import MeasureSpread, Population
from voxelry.inference.case_measures import CaseMeasures

FEATURES = ("confidence", "disagreement", "volume", "shape", "fragments", "border", "grey", "grid")

LARGEST_DISTANCE = 12.0
"""Standard deviations beyond which a distance grows no further."""

_SURE = 1e-3
"""Doubt below which a mean probability, or an agreement of passes, is not told from 1."""

_ONE_SIDED = ("fragments", "border")
_OF_SHAPE = ("place", "offset", "extent", "skew")
_OF_LABEL_GREY = ("contrast",)
_OF_SCAN_GREY = ("roughness", "balance", "slope")
_OF_GRID = ("spacing", "size")

_LEAST_STD = {
    "volume": 0.1, "place": 0.03, "offset": 0.0, "extent": 0.05, "skew": 0.1, "fragments": 0.02, "border": 0.01,
    "contrast": 0.1, "roughness": 0.1, "balance": 0.05, "spacing": 0.05, "size": 0.1, "slope": 0.05,
}  # fmt: skip
"""Of each kind of measure the standard deviation that a population is given at least: few or equal cases say little."""

_LEAST_OFFSET = 0.1
"""The same for offsets, as a share of their mean."""


def features_of(
    measures: CaseMeasures,
    population: Population,
    confidence: Mapping[str, float | None],
    agreement: Mapping[str, float | None],
) -> dict[str, dict[str, float]]:
    """Features of each label that a prediction has.

    Args:
        measures: of the prediction.
        population: the training references.
        confidence: label -> mean probability (0..1).
        agreement: label -> Dice (0..1) between passes; empty where there was a single one.

    Returns:
        Label -> feature -> value; labels without a voxel, and labels that no training reference has, are left out. A feature
        that is not known is left out.
    """
    scan = _rms(_distances(measures.scan, population.scan, population.cases, _OF_SCAN_GREY))
    grid = _rms(_distances(measures.scan, population.scan, population.cases, _OF_GRID))
    rows: dict[str, dict[str, float]] = {}
    for name, values in measures.labels.items():
        known = population.labels.get(name)
        if not values or known is None or not known.present:
            continue

        def apart(*kinds: str, values: Mapping[str, float] = values, name: str = name) -> float:
            label = population.labels[name]
            return _rms(_distances(values, label.measures, label.present, kinds))

        row = {kind: math.log1p(apart(kind)) for kind in ("volume", *_ONE_SIDED)}
        row["shape"] = math.log1p(apart(*_OF_SHAPE))
        row["grey"] = math.log1p(math.hypot(apart(*_OF_LABEL_GREY), scan) / math.sqrt(2))
        row["grid"] = math.log1p(grid)
        row |= {feature: _doubt(value) for feature, value in _given(name, confidence, agreement)}
        rows[name] = row
    return rows


def distance(value: float, spread: MeasureSpread, cases: int, kind: str) -> float:
    """How far a value lies from the training references, in their standard deviations, signed.

    Args:
        value: of the case.
        spread: of the references.
        cases: number of references; few of them do not show how far their kind spreads, so distances shrink.
        kind: the measure's name without its axis or channel.
    """
    least = _LEAST_OFFSET * abs(spread.mean) if kind == "offset" else _LEAST_STD[kind]
    std = math.hypot(spread.std, least) * math.sqrt(1 + 4 / max(1, cases))
    apart = (value - spread.mean) / std if std > 0 else 0.0
    if kind in _ONE_SIDED:
        apart = max(0.0, apart)
    return max(-LARGEST_DISTANCE, min(LARGEST_DISTANCE, apart))


def _given(
    name: str, confidence: Mapping[str, float | None], agreement: Mapping[str, float | None]
) -> Iterable[tuple[str, float]]:
    for feature, values in (("confidence", confidence), ("disagreement", agreement)):
        value = values.get(name)
        if value is not None:
            yield feature, value


def _doubt(share: float) -> float:
    """The logarithm of the odds that are against, so that 0.99 and 0.999 differ as 0.9 and 0.99 do."""
    against = min(1.0, max(_SURE, 1 - share))
    return math.log(against / max(_SURE, 1 - against))


def _distances(
    values: Mapping[str, float], spreads: Mapping[str, MeasureSpread], cases: int, kinds: Iterable[str]
) -> list[float]:
    """Distances of all measures of some kinds that both know."""
    chosen = set(kinds)
    return [
        distance(value, spreads[name], cases, name.partition("_")[0])
        for name, value in values.items()
        if name.partition("_")[0] in chosen and name in spreads
    ]


def _rms(distances: Iterable[float]) -> float:
    squares = [each**2 for each in distances]
    return math.sqrt(sum(squares) / len(squares)) if squares else 0.0
