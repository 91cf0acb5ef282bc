from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.kidneys import PLAN, config, kidneys
from helpers.plans import tiny_fingerprint
from voxelry.core.geometry import Geometry
from voxelry.datasets.load import load_case
from voxelry.errors import TrainingError
from voxelry.inference.predictor import Predictor
from voxelry.networks.build import build_network
from voxelry.planning.planner import make_plan
from voxelry.recipes.settings import PlanSettings
from voxelry.training.fit import NetworkTask, make_model
from voxelry.training.full_volume_validation import CASES, FullVolumeValidation
from voxelry.training.options import RunOptions
from voxelry.training.predictions import HeldOutCases, StoredPredictions, predict_cases, score_cases


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return kidneys(tmp_path_factory.mktemp("kidneys"))


@pytest.fixture(scope="module")
def model(manifest, tmp_path_factory):
    """Makes a model of a network."""
    seen = tiny_fingerprint(channels=("image",))
    plan = make_plan(seen, PlanSettings.model_validate(PLAN | {"configuration": "3d"}))
    options, folder = RunOptions(config(), manifest), tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    return build_network(plan, 3).eval(), lambda network: make_model(
        options, NetworkTask(plan, seen, (), (), folder, folder), network
    )


def test_the_score_is_that_of_the_finished_model(manifest, model, tmp_path):
    network, make = model
    cases = manifest.cases[:CASES]
    store = StoredPredictions(tmp_path, manifest.card.table)
    held = HeldOutCases(manifest, cases, lambda _: store)
    predict_cases(lambda: Predictor(make(network), "cpu"), held, lambda *_: None)
    assert (
        FullVolumeValidation(manifest, cases, make, "cpu", clock=lambda: 0.0)(network, 1.0)
        == score_cases(held, lambda *_: None).mean_dice
    )


def test_few_cases_are_looked_at_spread_over_all(manifest, model):
    many = [replace(manifest.cases[0], id=str(number)) for number in range(40)]
    assert [case.id for case in FullVolumeValidation(manifest, many, model[1], "cpu").cases] == ["0", "20", "39"]
    assert [case.id for case in FullVolumeValidation(manifest, many[:2], model[1], "cpu").cases] == ["0", "1"]


def test_what_would_take_too_long_is_given_up_for_good(manifest, model):
    """Every look at the clock is a second later, and training has taken a second."""
    seconds = iter(range(10**6))
    whole = FullVolumeValidation(manifest, manifest.cases[:1], model[1], "cpu", clock=lambda: float(next(seconds)))
    assert whole(model[0], 1.0) is None
    looked = next(seconds)
    assert whole(model[0], 1.0) is None
    assert next(seconds) == looked + 1


def test_a_run_that_goes_on_has_the_time_that_it_trained_before(manifest, model):
    """However soon after its start the first milestone comes."""
    seconds = iter(range(10**6))
    whole = FullVolumeValidation(manifest, manifest.cases[:1], model[1], "cpu", clock=lambda: float(next(seconds)))
    assert whole(model[0], 1e9) is not None


def test_predictions_that_cannot_be_used(manifest, tmp_path):
    store = StoredPredictions(tmp_path, manifest.card.table)
    store.file("a").write_bytes(b"PK\x03\x04 cut short")
    for case in ("a", "b"):
        with pytest.raises(TrainingError, match=rf"{case}.npz: cannot be read .*Delete it, then continue with --resume"):
            store.load(case, None)
    _, reference = load_case(manifest.cases[0], manifest)
    store.save("c", reference)
    np.testing.assert_array_equal(store.load("c", reference.geometry).array, reference.array)
    with pytest.raises(TrainingError, match=r"c.npz: \(1, 16, 16, 12\) voxels on layers, the scan has"):
        store.load("c", Geometry((4, 4, 4), np.eye(4)))
