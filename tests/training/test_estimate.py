import json

import pytest

from helpers.kidneys import PLAN, config, kidneys
from voxelry.errors import ManifestError, UsageError
from voxelry.networks.build import build_network, count_parameters
from voxelry.training import estimate as module
from voxelry.training.estimate import estimate
from voxelry.training.options import RunOptions

SMALL = PLAN | {"patch_size": (8, 8, 4), "features": (4, 8), "network": "unet"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return kidneys(tmp_path_factory.mktemp("kidneys"))


def test_every_network_of_a_cross_validation_is_counted(manifest):
    asked = config(configurations=("3d_cascade",), folds=2, plan=SMALL)
    told = []
    found = estimate(RunOptions(asked, manifest, time_budget=40.0, progress=lambda *call: told.append(call)))
    assert list(found.networks) == ["3d_lowres", "3d_cascade"]
    assert found.copies == 2
    for one in found.networks.values():
        assert one.cost.parameters == count_parameters(build_network(one.plan, 3))
        assert one.step_seconds > 0
        assert one.steps == max(1, int(10.0 / one.step_seconds))  # a quarter of the budget
    assert found.seconds == pytest.approx(40.0, rel=0.1)
    assert found.fingerprint.cases == 4
    assert json.loads(json.dumps(found.to_dict()))["copies"] == 2
    assert estimate(RunOptions(asked, manifest, fold=1)).copies == 1
    assert ("timing steps", 2, 2) in told


def test_the_length_of_training_is_the_recipes(manifest, monkeypatch):
    monkeypatch.setattr(module, "step_seconds", lambda *_: 0.5)
    one = estimate(RunOptions(config(), manifest)).networks["3d"]
    assert (one.steps, one.seconds) == (60, 30.0)
    one = estimate(RunOptions(config(steps=None, epochs=4), manifest)).networks["3d"]
    assert one.steps == 8  # three cases, two at a time
    one = estimate(RunOptions(config(steps=None, epochs=4, folds=2), manifest)).networks["3d"]
    assert one.steps == 4  # two cases a fold
    one = estimate(RunOptions(config(time_budget=5.0), manifest)).networks["3d"]
    assert one.steps == 10


def test_what_cannot_be_estimated(manifest):
    with pytest.raises(UsageError, match="fold 0 of a run without folds"):
        estimate(RunOptions(config(), manifest, fold=0))
    with pytest.raises(ManifestError, match="9 folds of 4 patients"):
        estimate(RunOptions(config(folds=9), manifest))
