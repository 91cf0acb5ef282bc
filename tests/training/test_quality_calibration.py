"""Calibration with a predictor that errs by a known amount, on scans kept in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from helpers.quality import ORGANS, organs
from voxelry.core.volume import LabelMap
from voxelry.datasets.card import Card
from voxelry.datasets.cases import Case
from voxelry.datasets.manifest import Manifest
from voxelry.inference.predictor import Prediction
from voxelry.inference.quality import assess_measures
from voxelry.metrics.evaluate import score
from voxelry.metrics.scores import Scores
from voxelry.training import quality_calibration as module
from voxelry.training.dice_regression import LEAST_CASES
from voxelry.training.predictions import HeldOutCases, StoredPredictions
from voxelry.training.quality_calibration import MEASURED, QualityCalibration, dice_of, measure_population

COUNT = 10


@pytest.fixture
def manifest(monkeypatch, tmp_path):
    cases = tuple(Case(f"c{n}", (Path(f"{n}.nii"),), labels=Path(f"{n}.nii"), group=f"p{n}", split="val") for n in range(COUNT))
    monkeypatch.setattr(module, "load_case", lambda case, _: organs(int(case.id[1:])))
    labels = [{"value": 2, "name": "cone"}, {"value": 7, "name": "box"}]
    return Manifest(
        Card.model_validate({"name": "organs", "modality": "MR", "labels": labels}), cases, tmp_path, tmp_path / "m.yaml"
    )


class Threshold:
    """Segments what is bright, above and below the middle: noise, blur and flips harm it, and it is less sure then."""

    def __init__(self):
        self.scans = 0

    def predict(self, volume):
        self.scans += 1
        bright = volume.array[0] > 140
        layers = np.where(bright, np.where(np.arange(bright.shape[2]) < 17, 7, 2), 0).astype(np.uint8)
        share = float(np.clip(np.abs(volume.array[0] - 140).mean() / 50, 0.5, 0.99))
        return Prediction(LabelMap.of(layers, volume.geometry, ORGANS), {"cone": share, "box": share}, agreement={"cone": share})


def calibrated(manifest, folder, predictor, count=COUNT):
    store = StoredPredictions(folder, ORGANS)
    held = HeldOutCases(manifest, manifest.cases[:count], lambda _: store)
    calibration = QualityCalibration(held, lambda _: predictor)
    scores = []
    for case in held.cases:
        volume, reference = organs(int(case.id[1:]))
        prediction = predictor.predict(volume)
        store.save(case.id, prediction.labels, prediction.confidence, prediction.agreement)
        calibration.watch(case, volume, prediction.labels)
        scores.append(score(reference, prediction.labels, case.id))
    population = measure_population(manifest, manifest.cases, ORGANS, lambda *_: None)
    return calibration.fit(population, Scores.merge(scores), lambda *_: None), population


def test_each_validation_case_is_predicted_once_and_corrupted_once(manifest, tmp_path):
    predictor = Threshold()
    quality, _ = calibrated(manifest, tmp_path, predictor)
    assert predictor.scans == 2 * COUNT
    assert (quality.regression.cases, quality.regression.corrupted) == (COUNT, COUNT)
    assert {"confidence", "disagreement"} <= set(quality.regression.features)
    assert quality.population.cases == COUNT


def test_a_torn_prediction_is_predicted_to_be_worse(manifest, tmp_path):
    quality, _ = calibrated(manifest, tmp_path, Threshold())
    volume, labels = organs(60)
    prediction = Threshold().predict(volume)
    torn = np.where(binary_erosion(labels.array > 0, iterations=2), labels.array, 0).astype(np.uint8)
    measures = [module.measure_case(volume, each) for each in (prediction.labels, replace(prediction.labels, layers=torn[None]))]
    good, bad = (assess_measures(each, prediction.confidence, prediction.agreement, quality) for each in measures)
    assert good.dice > bad.dice + 0.02


def test_few_validation_cases_leave_flags_alone(manifest, tmp_path):
    predictor = Threshold()
    quality, _ = calibrated(manifest, tmp_path, predictor, LEAST_CASES - 1)
    assert quality.regression is None
    assert predictor.scans == LEAST_CASES - 1  # nothing is corrupted for nothing


def test_of_many_references_some_are_measured(manifest):
    loads = []
    cases = [replace(manifest.cases[0], id=f"c{n}") for n in range(3 * MEASURED)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_case", lambda case, _: loads.append(case.id) or organs(0, (8, 28, 24)))
        patch.setattr(
            module, "measure_case", lambda *_: module.CaseMeasures({"size_R": 1.0}, {"cone": {"volume": 2.0}, "box": {}})
        )
        population = measure_population(manifest, cases, ORGANS, lambda *_: None)
    assert len(loads) == population.cases == MEASURED
    assert (loads[0], loads[-1]) == ("c0", f"c{3 * MEASURED - 1}")
    assert (population.labels["cone"].present, population.labels["box"].present) == (MEASURED, 0)


def test_without_references_there_is_no_population(manifest):
    assert measure_population(manifest, [], ORGANS, lambda *_: None) is None


def test_dice_of_a_case_leaves_out_what_is_in_neither_map():
    _, labels = organs(0)
    labels.layers[labels.layers == 7] = 0
    assert dice_of(score(labels, labels, "a"), 0) == {"cone": 1.0}
