"""Fits the regression that estimates Dice from features of a prediction, on validation cases whose Dice is known.

The loss of Dice against a label's mean is a sum of features with weights that are not negative (a feature grows with doubt),
shrunk towards 0 by a ridge whose strength is chosen by leaving patients out: with few cases the estimate stays near the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from voxelry.core.quality_model import DiceRegression, MeasureSpread, Population
from voxelry.inference.case_measures import CaseMeasures
from voxelry.inference.quality import predicted_label_dice
from voxelry.inference.quality_features import FEATURES, features_of

LEAST_CASES = 5
"""Validation cases below which nothing is fitted."""

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Strengths that are tried, for features in their standard deviations and a total weight of 1 a case."""

LEFT_OUT = 10
"""Groups of patients that are left out in turn."""

REVIEWED = 5.0
"""Percentile of the predicted Dice of validation cases below which a case is to be reviewed."""

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CalibrationCase:
    """A prediction whose Dice is known.

    Attributes:
        patient: whose scan it is.
        measures: of the prediction.
        confidence: label -> mean probability.
        agreement: label -> Dice between passes.
        dice: label -> Dice; labels in neither map are left out.
        corrupted: whether the scan was corrupted on purpose.
    """

    patient: str
    measures: CaseMeasures
    confidence: Mapping[str, float | None]
    agreement: Mapping[str, float | None]
    dice: Mapping[str, float]
    corrupted: bool = False


def fit_regression(
    cases: Sequence[CalibrationCase], population: Population, features: Sequence[str] = FEATURES
) -> DiceRegression | None:
    """Fit, and measure how well it does on patients that it has not seen.

    Args:
        cases: validation cases and corrupted copies of them.
        population: the training references.
        features: names of the features to use; those that no validation case has are left out.

    Returns:
        The regression; None where fewer than `LEAST_CASES` validation cases have a Dice.
    """
    from scipy.stats import spearmanr  # 30 MB

    scored = [
        _ScoredCase(case, features_of(case.measures, population, case.confidence, case.agreement)) for case in cases if case.dice
    ]
    real = [case for case in scored if not case.given.corrupted]
    if len(real) < LEAST_CASES:
        return None
    folds = _folds(scored)
    ridge = min(RIDGES, key=lambda strength: _error(_left_out(scored, folds, population, features, strength)))
    regression = _fitted(scored, features, ridge)
    guess, truth = _of_validation(_left_out(scored, folds, population, features, ridge))
    ranked, _ = _of_validation(_left_out(scored, folds, population, features, ridge, regression))
    is_flat = not (np.ptp(ranked) > 0 and np.ptp(truth) > 0)
    return regression.model_copy(
        update={
            "error": _rounded(math.sqrt(float(np.mean((guess - truth) ** 2)))),
            "rank_correlation": None if is_flat else _rounded(float(spearmanr(ranked, truth).statistic)),
            "review_below": _rounded(float(np.percentile(guess, REVIEWED))),
        }
    )


@dataclass(frozen=True, eq=False)
class _ScoredCase:
    given: CalibrationCase
    features: Mapping[str, Mapping[str, float]]

    @property
    def mean_dice(self) -> float:
        return float(np.mean([*self.given.dice.values()]))

    def rows(self, label_dice: Mapping[str, float]) -> list[tuple[Mapping[str, float], float]]:
        """Features and loss of Dice of each label that is there."""
        return [
            (self.features[name], label_dice[name] - dice)
            for name, dice in self.given.dice.items()
            if self._has(name, label_dice)
        ]

    def _has(self, name: str, label_dice: Mapping[str, float]) -> bool:
        return name in self.features and name in label_dice


def _folds(cases: Sequence[_ScoredCase]) -> list[set[str]]:
    """Patients in groups that are left out together, in a fixed order."""
    patients = sorted({case.given.patient for case in cases})
    count = min(LEFT_OUT, len(patients))
    return [set(patients[number::count]) for number in range(count)]


def _left_out(
    cases: Sequence[_ScoredCase],
    folds: Sequence[set[str]],
    population: Population,
    features: Sequence[str],
    ridge: float,
    whole: DiceRegression | None = None,
) -> list[tuple[_ScoredCase, float]]:
    """Each case with the Dice predicted by a regression that has not seen its patient.

    With `whole`, the regression of all cases, only weights differ from fold to fold: for ranks, which the mean of the others
    would turn round, as it falls where a case's own Dice is high.
    """
    pairs = []
    for fold in folds:
        others = [case for case in cases if case.given.patient not in fold]
        if not any(not case.given.corrupted for case in others):
            continue
        regression = _fitted(others, features, ridge)
        if whole is not None and whole.features == regression.features:
            regression = whole.model_copy(update={"weights": regression.weights})
        for case in cases:
            if case.given.patient in fold:
                predicted = predicted_label_dice(case.given.measures, case.features, population, regression)
                pairs.append((case, float(np.mean([*predicted.values()])) if predicted else 0.0))
    return pairs


def _of_validation(pairs: Sequence[tuple[_ScoredCase, float]]) -> tuple[Values, Values]:
    """Predicted and true Dice of the validation cases."""
    real = [(value, case.mean_dice) for case, value in pairs if not case.given.corrupted]
    return np.array([value for value, _ in real]), np.array([dice for _, dice in real])


def _error(pairs: Sequence[tuple[_ScoredCase, float]]) -> float:
    """Mean squared error, in which validation cases and corrupted ones count as much as each other."""
    errors = [
        [(case.mean_dice - value) ** 2 for case, value in pairs if case.given.corrupted == corrupted]
        for corrupted in (False, True)
    ]
    return float(np.mean([np.mean(each) for each in errors if each])) if pairs else 0.0


def _fitted(cases: Sequence[_ScoredCase], features: Sequence[str], ridge: float) -> DiceRegression:
    """The regression with one strength of the ridge; what is measured by leaving patients out is not filled in."""
    real = [case for case in cases if not case.given.corrupted]
    label_dice = _label_means(real)
    usual = [row for case in real for row, _ in case.rows(label_dice)]
    known = tuple(name for name in features if any(name in row for row in usual))
    typical = tuple(spread_of([row[name] for row in usual if name in row]) for name in known)
    means = np.array([spread.mean for spread in typical])
    weighted: list[tuple[float, Values, float]] = []
    for case in cases:
        rows = case.rows(label_dice)
        for row, loss in rows:
            values = np.array([row.get(name, spread.mean) for name, spread in zip(known, typical, strict=True)])
            weighted.append((1 / len(rows), values - means, loss))
    return DiceRegression(
        features=known,
        typical=typical,
        weights=tuple(_weights(weighted, ridge)) if weighted else (0.0,) * len(known),
        label_dice=label_dice,
        cases=len(real),
        corrupted=len(cases) - len(real),
        error=0.0,
        review_below=0.0,
    )


def _label_means(cases: Sequence[_ScoredCase]) -> dict[str, float]:
    """Mean Dice of each label over the cases that have one."""
    values: dict[str, list[float]] = {}
    for case in cases:
        for name, dice in case.given.dice.items():
            values.setdefault(name, []).append(dice)
    return {name: _rounded(float(np.mean(each))) for name, each in values.items()}


def _weights(rows: Sequence[tuple[float, Values, float]], ridge: float) -> list[float]:
    """Weights of the features, not negative."""
    shares = np.sqrt(np.array([share for share, _, _ in rows]))
    values = np.stack([value for _, value, _ in rows])
    losses = np.array([loss for _, _, loss in rows])
    scale = np.maximum(values.std(axis=0), 1e-3)
    count = values.shape[1]
    matrix = np.concatenate([values / scale * shares[:, None], math.sqrt(ridge * len(rows) ** 0.5) * np.eye(count)])
    target = np.concatenate([losses * shares, np.zeros(count)])
    solution = lsq_linear(matrix, target, bounds=(0, np.inf), method="bvls").x
    return [_rounded(weight) for weight in (solution / scale).tolist()]


def spread_of(values: Sequence[float]) -> MeasureSpread:
    """Mean, standard deviation and range of some values, at least one."""
    array: NDArray[Any] = np.array(values, np.float64)
    numbers = (array.mean(), array.std(), array.min(), array.max())
    mean, std, low, high = (_rounded(float(number)) for number in numbers)
    return MeasureSpread(mean=mean, std=std, low=low, high=high)


def _rounded(value: float) -> float:
    """To six significant digits, which keeps the file small."""
    return float(f"{value:.6g}")
