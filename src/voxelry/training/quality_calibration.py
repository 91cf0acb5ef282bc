"""Quality control at the end of training: measures the training references, and fits predicted Dice on the validation cases.

Beside the validation cases, whose predictions and scores are there already, some corrupted copies of them are predicted: a good
network gives them no low Dice to learn from otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from voxelry.base.progress import ProgressCallback
from voxelry.core.labels import LabelTable
from voxelry.core.quality_model import LabelPopulation, MeasureSpread, Population, QualityModel
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest
from voxelry.inference.case_measures import CaseMeasures, measure_case
from voxelry.inference.predictor import Predictor
from voxelry.inference.quality_features import FEATURES
from voxelry.metrics.evaluate import score
from voxelry.metrics.scores import Scores
from voxelry.training.dice_regression import LEAST_CASES, CalibrationCase, fit_regression, spread_of
from voxelry.training.predictions import HeldOutCases
from voxelry.training.scan_corruptions import CORRUPTIONS, corrupted

log = logging.getLogger(__name__)

MEASURED = 100
"""Training references that are measured at most, spread evenly over all."""

WITHOUT_DISAGREEMENT = tuple(name for name in FEATURES if name != "disagreement")
"""Features of an ensemble of folds: one member predicts a held-out case, and its passes agree otherwise than members do."""

CORRUPTED = 20
"""Validation cases that are corrupted at most, each in one way."""


def measure_population(
    manifest: Manifest, cases: Sequence[Case], table: LabelTable, progress: ProgressCallback
) -> Population | None:
    """Measure training references, one in memory at a time.

    Args:
        manifest: the dataset.
        cases: with labels.
        table: the labels.
        progress: called as cases are measured.

    Returns:
        Their spread; None without cases.
    """
    chosen = [cases[index] for index in _spread_evenly(len(cases), MEASURED)]
    measured = []
    for number, case in enumerate(chosen, start=1):
        volume, reference = load_case(case, manifest)
        if reference is not None:
            measured.append(measure_case(volume, reference))
        progress("measuring references", number, len(chosen))
    return population_of(measured, table) if measured else None


def population_of(measured: Sequence[CaseMeasures], table: LabelTable) -> Population:
    """The spread of measures over cases, at least one."""
    labels = {}
    for name in table.names:
        present = [row for case in measured if (row := case.labels.get(name))]
        labels[name] = LabelPopulation(present=len(present), measures=_spreads(present))
    return Population(cases=len(measured), labels=labels, scan=_spreads([case.scan for case in measured]))


@dataclass(frozen=True, eq=False)
class QualityCalibration:
    """Collects what is known of validation cases, then fits.

    Attributes:
        held_out: the validation cases, with stored predictions.
        make: makes the predictor of a case, which has not seen it.
        features: names of the features to use.
        measures: of the predictions, by the cases' ids; `watch` fills it.
    """

    held_out: HeldOutCases
    make: Callable[[Case], Predictor]
    features: Sequence[str] = FEATURES
    measures: dict[str, CaseMeasures] = field(default_factory=dict)

    def watch(self, case: Case, volume: Volume, predicted: LabelMap) -> None:
        """Measure a prediction while it is in memory."""
        self.measures[case.id] = measure_case(volume, predicted)

    def fit(self, population: Population, scores: Scores, progress: ProgressCallback) -> QualityModel:
        """Fit on all validation cases and corrupted copies of some.

        Args:
            population: the training references.
            scores: of the validation cases.
            progress: called as corrupted copies are predicted.
        """
        cases = self.held_out.cases
        if len(cases) < LEAST_CASES:
            log.info("no predicted Dice: %d validation cases, %d are needed to calibrate it", len(cases), LEAST_CASES)
            return QualityModel(population=population)
        calibration = [self._stored(case, scores) for case in cases]
        chosen = [cases[index] for index in _spread_evenly(len(cases), CORRUPTED)]
        kinds = [*CORRUPTIONS]
        for number, case in enumerate(chosen):
            calibration.append(self._corrupted(case, kinds[number % len(kinds)], number))
            progress("calibrating", number + 1, len(chosen))
        return QualityModel(population=population, regression=fit_regression(calibration, population, self.features))

    def _stored(self, case: Case, scores: Scores) -> CalibrationCase:
        confidence, agreement = self.held_out.store(case).shares(case.id)
        dice = dice_of(scores, scores.cases.index(case.id))
        return CalibrationCase(case.group or case.id, self.measures[case.id], confidence, agreement, dice)

    def _corrupted(self, case: Case, kind: str, seed: int) -> CalibrationCase:
        volume, reference = load_case(case, self.held_out.manifest)
        assert reference is not None
        volume, reference = corrupted(volume, reference, kind, seed)
        prediction = self.make(case).predict(volume)
        dice = dice_of(score(reference, prediction.labels, case.id), 0)
        measures = measure_case(volume, prediction.labels)
        return CalibrationCase(case.group or case.id, measures, prediction.confidence, prediction.agreement, dice, corrupted=True)


def dice_of(scores: Scores, row: int) -> dict[str, float]:
    """Label -> Dice of one case; labels in neither map are left out."""
    return {name: float(value) for name, value in zip(scores.labels, scores.dice[row], strict=True) if not np.isnan(value)}


def _spreads(rows: Sequence[Mapping[str, float]]) -> dict[str, MeasureSpread]:
    """The spread of each measure over the cases that have it."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {name: spread_of(each) for name, each in values.items()}


def _spread_evenly(count: int, most: int) -> list[int]:
    """At most `most` of the indices below `count`, spread evenly."""
    return [int(index) for index in np.unique(np.linspace(0, count - 1, min(most, count)).round())] if count else []
