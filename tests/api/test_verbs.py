"""The verbs as Python calls."""

import numpy as np
import pytest

import voxelry as vx
from helpers.tiny import STEPS, phantoms, recipe
from voxelry.errors import MissingFileError, ModelError, TrainingError, UsageError
from voxelry.recipes.settings import PlanSettings


@pytest.fixture(scope="module")
def scan(torso):
    return torso / "images" / "torso_003"


def test_a_volume_in_a_prediction_out(scan, torso_model):
    volume = vx.read(scan)
    assert volume.array.shape == volume.shape == (1, 24, 20, 12)
    assert volume.geometry.affine.shape == (4, 4)
    assert volume.geometry.spacing == pytest.approx((16, 16, 20))
    prediction = vx.load_model(torso_model).predict(volume)
    assert isinstance(prediction, vx.Prediction)
    assert prediction.labels.array.shape == volume.geometry.shape
    assert prediction.labels.geometry is volume.geometry
    assert set(prediction.confidence) == set(prediction.labels.table.names)


def test_labels_and_scores(torso, scan, torso_model, tmp_path):
    labels = vx.read_labels(torso / "labels" / "torso_003.nii.gz")
    assert isinstance(labels, vx.LabelMap)
    perfect = vx.evaluate(labels, labels)
    assert isinstance(perfect, vx.Scores)
    assert (perfect.mean_dice, perfect.mean_iou) == (1.0, 1.0)
    prediction = vx.load_model(torso_model).predict(vx.read(scan)).labels
    written = vx.write(prediction, tmp_path / "torso_003.nii.gz")
    expected = vx.evaluate(labels, prediction).mean_dice
    for one, other in (
        (labels, written),
        (torso / "labels" / "torso_003.nii.gz", prediction),
        (torso / "manifest.yaml", written),
    ):
        assert vx.evaluate(one, other, metrics=("overlap",)).mean_dice == pytest.approx(expected)


def test_an_unknown_metric_is_refused(torso):
    labels = torso / "labels" / "torso_003.nii.gz"
    with pytest.raises(UsageError, match=r"'overlop'.*'overlap'"):
        vx.evaluate(labels, labels, metrics=("overlap", "overlop"))


def test_predict_takes_one_path_or_several_a_folder_or_a_model(scan, torso, torso_model, tmp_path):
    seen = []
    model = vx.load_model(torso_model, device="cpu")
    (one,) = vx.predict(torso_model, str(scan), tmp_path / "a", device="cpu")
    two = vx.predict(model, [scan, torso / "images" / "torso_002"], tmp_path / "b", progress=lambda *call: seen.append(call))
    assert [call for call in seen if call[0] == "segmenting"] == [("segmenting", 1, 2), ("segmenting", 2, 2)]
    assert {what for what, _, _ in seen} == {"segmenting", "patches", "drawing"}
    assert [outcome.id for outcome in two] == ["torso_003", "torso_002"]
    assert [outcome.error for outcome in (one, *two)] == ["", "", ""]
    np.testing.assert_array_equal(vx.read_labels(one.files["nifti"]).array, vx.read_labels(two[0].files["nifti"]).array)
    with pytest.raises(MissingFileError, match="nowhere"):
        vx.predict(model, tmp_path / "nowhere", tmp_path / "c")
    with pytest.raises(ModelError, match="not a model folder"):
        vx.load_model(tmp_path)


def test_check_and_plan(torso):
    assert vx.check(torso / "manifest.yaml") == []
    seen, planned = vx.plan(torso / "manifest.yaml", settings=PlanSettings(spacing=(32.0, 32.0, 40.0)))
    assert isinstance(seen, vx.Fingerprint)
    assert isinstance(planned, vx.Plan)
    assert planned.spacing == (32.0, 32.0, 40.0)


def test_check_looks_at_voxels_unless_told_not_to(tmp_path):
    manifest = phantoms(tmp_path, format="nifti")
    image = tmp_path / "images" / "torso_000.nii.gz"
    volume = vx.read(image)
    broken = volume.array.astype(np.float32)
    broken[0, 0, 0, 0] = np.inf
    vx.write(vx.Volume(broken, volume.geometry), image)
    assert vx.check(manifest, deep=False) == []
    (problem,) = vx.check(manifest)
    assert (problem.case, problem.kind, problem.file) == ("torso_000", "error", str(image))


def test_the_former_name_of_on_step_still_tells_of_every_step(torso, tmp_path, caplog):
    steps = []
    vx.train(torso / "recipe.yaml", tmp_path / "run", report=lambda step: steps.append(step.step))
    assert steps == list(range(1, STEPS + 1))
    assert "former name of 'on_step'" in caplog.text


def test_training_tells_of_its_progress_and_can_go_on(torso, tmp_path):
    steps, stages = [], []
    result = vx.train(
        torso / "recipe.yaml",
        tmp_path / "run",
        progress=lambda *call: stages.append(call),
        on_step=lambda step: steps.append(step.step),
    )
    assert steps == list(range(1, STEPS + 1))
    assert {"looking at cases", "preparing cases", "validating"} <= {what for what, _, _ in stages}
    assert [done for what, done, _ in stages if what == "training"] == steps
    left = {file.name for file in (tmp_path / "run").glob("[!.]*")}
    assert {"curves.html", "curves.svg", "report.html", "validation.json", "validation.csv"} <= left
    assert "## Scores" in (tmp_path / "run" / "model" / "README.md").read_text()
    assert result.scores.cases == ("torso_002",)
    assert result.model.path == tmp_path / "run" / "model"
    with pytest.raises(UsageError, match="holds a run already"):
        vx.train(torso / "recipe.yaml", tmp_path / "run")
    again = vx.train(torso / "recipe.yaml", tmp_path / "run", resume=True)
    assert len(again.history) == len(result.history)
    with pytest.raises(TrainingError, match="no checkpoint"):
        vx.train(torso / "recipe.yaml", tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


def test_a_time_budget_takes_the_place_of_steps(torso, tmp_path):
    result = vx.train(torso / "recipe.yaml", tmp_path / "run", time_budget=1e-3)
    assert result.model.card.training["steps"] == 1
    for wrong in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="time budget"):
            vx.train(torso / "recipe.yaml", tmp_path / "other", time_budget=wrong)
        with pytest.raises(UsageError, match="time budget"):
            vx.demo(tmp_path / "other", seconds=wrong)
    assert not (tmp_path / "other").exists()


def test_a_place_that_cannot_be_written_to_is_found_before_preparing(torso, tmp_path):
    (tmp_path / "file").write_text("")
    stages = []
    with pytest.raises(OSError, match="file"):
        vx.train(torso / "recipe.yaml", tmp_path / "file" / "run", progress=lambda *call: stages.append(call))
    assert stages == []


def test_the_root_says_where_relative_paths_start(torso, tmp_path):
    (tmp_path / "card.yaml").write_text((torso / "manifest.yaml").read_text())
    path = recipe(tmp_path, "card.yaml", steps=1)
    assert vx.check(tmp_path / "card.yaml", root=torso) == []
    assert vx.train(path, tmp_path / "run", root=torso).scores.cases == ("torso_002",)
