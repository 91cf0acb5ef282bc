"""Flags of quality control: what is unlike the training references, in sentences with numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from voxelry.core.quality_model import DiceRegression, LabelPopulation, MeasureSpread, Population
from voxelry.inference.case_measures import AXES, CaseMeasures
from voxelry.inference.quality_features import distance

UNUSUAL = 3.0
"""Standard deviations from which a measure outside the range of the training references is flagged."""

SERIOUS = 5.0
"""Standard deviations from which it is serious."""

_COMMON = 0.9
"""Share of training references that have a label from which on its absence is serious."""

_DIRECTED = 2.0
"""Standard deviations that a mean offset or skewness must lie from 0 to tell one direction from the other."""

_LEAST_SKEW, _LEAST_OFFSET, _LEAST_SLOPE = 0.15, 0.25, 0.1
"""Mean skewness, offset (a share of the label's own length) and slope from which they tell one direction from the other."""

_MIRRORED = 9.0
"""Squared distance by which the labels must fit the mirrored arrangement better than the usual one."""

_MOST = 16.0
"""Squared distance that a single measure adds at most."""

_SWAPPED = {
    "S": "upside down", "A": "front to back", "R": "left to right", "row": "upside down", "column": "left to right",
}  # fmt: skip
_ALONG = {"S": "towards the head", "A": "towards the front", "R": "towards the patient's left", "row": "down", "column": "right"}

_Flag = tuple[str, bool]


def flags_of(
    measures: CaseMeasures,
    features: Mapping[str, Mapping[str, float]],
    population: Population,
    regression: DiceRegression | None,
) -> tuple[tuple[str, ...], bool]:
    """What is unusual about a prediction.

    Args:
        measures: of the prediction.
        features: of its labels.
        population: the training references.
        regression: with the features of validation cases; None where there are none.

    Returns:
        Sentences, those about the whole scan first, and whether one of them is serious.
    """
    flags = [*_mirrored(measures, population), *_scan(measures, population)]
    for name, known in population.labels.items():
        values = measures.labels.get(name)
        if values and known.present:
            flags += _label(name, values, known)
            flags += _unsure(name, features.get(name, {}), regression)
        elif not values and known.present > population.cases / 2:
            sentence = f"{name} is missing; {known.present} of {population.cases} training cases have it"
            flags.append((sentence, known.present >= _COMMON * population.cases))
    return tuple(sentence for sentence, _ in flags), any(serious for _, serious in flags)


def mirrored_axes(measures: CaseMeasures, population: Population) -> list[str]:
    """Axes along which a scan, or its labels, lie the other way than in the training references.

    Slopes of grey values, offsets between labels and the skewness of each label are compared with their means and with the means
    mirrored, where the training references agree on a direction.
    """
    axes = []
    for axis in {axis for names in AXES.values() for axis in names}:
        terms = [
            (distance(value, *known) ** 2, distance(-value, *known) ** 2)
            for value, known in _directed(axis, measures, population)
        ]
        if sum(min(usual, _MOST) - min(mirrored, _MOST) for usual, mirrored in terms) > _MIRRORED:
            axes.append(axis)
    return sorted(axes)


def _directed(
    axis: str, measures: CaseMeasures, population: Population
) -> Iterator[tuple[float, tuple[MeasureSpread, int, str]]]:
    """Measures whose sign tells one direction of an axis from the other, with spread, number of cases and kind."""
    slope, value = population.scan.get(f"slope_{axis}"), measures.scan.get(f"slope_{axis}")
    if slope is not None and value is not None and abs(slope.mean) > max(_DIRECTED * slope.std, _LEAST_SLOPE):
        yield value, (slope, population.cases, "slope")
    for name, known in population.labels.items():
        for kind in ("offset", "skew"):
            spread, value = known.measures.get(f"{kind}_{axis}"), measures.labels.get(name, {}).get(f"{kind}_{axis}")
            if spread is None or value is None:
                continue
            least = _LEAST_SKEW if kind == "skew" else _LEAST_OFFSET * math.exp(known.measures[f"extent_{axis}"].mean)
            if abs(spread.mean) > max(_DIRECTED * spread.std, least):
                yield value, (spread, known.present, kind)


def _mirrored(measures: CaseMeasures, population: Population) -> Iterator[_Flag]:
    for axis in mirrored_axes(measures, population):
        yield f"the scan lies {_SWAPPED[axis]} against the {population.cases} training cases: it may be stored so", True


def _scan(measures: CaseMeasures, population: Population) -> Iterator[_Flag]:
    for name, value in measures.scan.items():
        spread, kind = population.scan.get(name), name.partition("_")[0]
        if spread is None or kind not in ("roughness", "balance") or not _is_outside(value, spread):
            continue
        apart = distance(value, spread, population.cases, kind)
        if abs(apart) < UNUSUAL:
            continue
        if kind == "roughness":
            word = "noisier" if apart > 0 else "smoother"
            sentence = (
                f"the scan is {word} than the training cases: {_range(value, spread, math.exp, '.2g')} steps between voxels"
            )
        else:
            sentence = (
                f"grey values lie unlike the training cases: their median at {_range(value, spread, float, '.2f')} of their range"
            )
        yield sentence, abs(apart) >= SERIOUS


def _label(name: str, values: Mapping[str, float], known: LabelPopulation) -> Iterator[_Flag]:
    """Volume, fragments, border and grey values; of its place and shape what is furthest from the training references."""
    furthest: tuple[float, str] = (0.0, "")
    for measure, value in values.items():
        spread, kind = known.measures.get(measure), measure.partition("_")[0]
        if spread is None or not _is_outside(value, spread):
            continue
        apart = distance(value, spread, known.present, kind)
        if abs(apart) < UNUSUAL:
            continue
        if kind in ("place", "offset", "extent", "skew"):
            furthest = max(furthest, (abs(apart), measure))
        else:
            yield _sentence(name, kind, value, spread), abs(apart) >= SERIOUS and kind == "volume"
    if furthest[1]:
        value, spread = values[furthest[1]], known.measures[furthest[1]]
        yield _shape(name, furthest[1], value, spread), furthest[0] >= SERIOUS


def _sentence(name: str, kind: str, value: float, spread: MeasureSpread) -> str:
    if kind == "volume":
        is_share = spread.high <= 0  # the logarithm of a share of a picture's pixels
        return f"{name}: {_range(value, spread, math.exp, '.1%' if is_share else '.4g', '' if is_share else ' mm^3')}"
    if kind == "fragments":
        return f"{name}: {_range(value, spread, float, '.1%')} of it lies apart from its largest component"
    if kind == "border":
        return f"{name}: {_range(value, spread, float, '.1%')} of it lies on faces of the scan"
    return f"{name}: its mean grey value lies {_range(value, spread, float, '+.2f')} spreads from the scan's median"


def _shape(name: str, measure: str, value: float, spread: MeasureSpread) -> str:
    kind, _, axis = measure.partition("_")
    if kind == "place":
        return f"{name}: its centroid lies at {_range(value, spread, float, '.2f')} of the scan ({_ALONG[axis]})"
    if kind == "offset":
        unit = " mm" if axis in AXES[3] else ""
        return f"{name}: it lies {_range(value, spread, float, '+.3g', unit)} from the middle of all labels ({_ALONG[axis]})"
    if kind == "extent":
        unit = " mm" if axis in AXES[3] else " of the longer edge"
        return f"{name}: its length is {_range(value, spread, math.exp, '.3g', unit)} along {axis}"
    return f"{name}: its skewness is {_range(value, spread, float, '+.2f')} along {axis}"


def _unsure(name: str, features: Mapping[str, float], regression: DiceRegression | None) -> Iterator[_Flag]:
    """Confidence and agreement of the networks that are lower than in every validation case."""
    if regression is None:
        return
    words = {"confidence": "mean probability", "disagreement": "Dice between the passes of the networks"}
    for feature, typical in zip(regression.features, regression.typical, strict=True):
        value = features.get(feature)
        if feature in words and value is not None and value > typical.high:
            lowest, highest = (_share(each) for each in (typical.high, typical.low))
            yield f"{name}: {words[feature]} {_share(value):.3f} (validation cases {lowest:.3f} to {highest:.3f})", False


def _share(doubt: float) -> float:
    """The share whose odds against it have this logarithm."""
    return 1 / (1 + math.exp(doubt))


def _is_outside(value: float, spread: MeasureSpread) -> bool:
    return not spread.low <= value <= spread.high


def _range(value: float, spread: MeasureSpread, scale: Callable[[float], float], form: str, unit: str = "") -> str:
    low, high = scale(spread.low), scale(spread.high)
    return f"{scale(value):{form}}{unit} (training cases {low:{form}} to {high:{form}})"
