import json

import pytest
from typer.testing import CliRunner

import voxelry
from helpers.plans import tiny_model, tiny_network, tiny_plan
from voxelry.cli.main import app
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import ConfigError, ModelError, UsageError
from voxelry.networks.weights import load_models, save_ensemble
from voxelry.phantom.dataset import write_phantoms
from voxelry.training.compression import student_plan
from voxelry.training.run_files import COMPRESSION_FILE


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """An ensemble of two networks that mirror, in the folder of a run."""
    folder = tmp_path_factory.mktemp("teacher")
    write_phantoms(folder / "data", "chest-xray", 3, format="png", val=1)
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "{manifest: data/manifest.yaml, steps: 2, validations: 1, device: cpu, flips: [1], "
        "plan: {patch_size: [32, 32], features: [8, 16], batch_size: 1, long_side: 64}}"
    )
    voxelry.train(recipe, folder / "run", folds=2)
    return folder / "run" / "model"


def test_a_student_is_trained_and_compared(teacher, tmp_path):
    result = voxelry.compress(teacher, tmp_path / "student", changes=("steps=3",))
    (student,), members = load_models(result.path), load_models(teacher)
    assert len(members) == 2
    assert (student.plan.network.features, student.plan.flips) == ((4, 8), ())
    assert student.plan.normalisation == members[0].plan.normalisation
    assert student.card.training["steps"] == 3
    assert student.card.training["teacher_networks"] == 2
    comparison = json.loads((tmp_path / "student" / COMPRESSION_FILE).read_text())
    assert comparison == result.comparison.to_dict()
    assert comparison["cases"] == 1
    assert comparison["teacher_dice"] == pytest.approx(teacher_dice(teacher, tmp_path))
    assert comparison["student_dice"] == pytest.approx(result.training.scores.to_dict()["mean_dice"])
    assert comparison["time"] == pytest.approx(comparison["student_seconds"] / comparison["teacher_seconds"])
    page = (tmp_path / "student" / "report.html").read_text()
    assert f"{comparison['student_dice']:.3f} beside {comparison['teacher_dice']:.3f} of its teacher, in " in page
    assert f"Mean Dice {comparison['student_dice']:.3f}; held-out cases: 1." in page
    sizes = [sum(weight.numel() for model in models for weight in model.weights.values()) for models in ((student,), members)]
    assert [comparison["student_parameters"], comparison["teacher_parameters"]] == sizes
    line = ["compress", str(teacher), "--out", str(tmp_path / "student"), "--set", "steps=3", "--resume", "--json"]
    again = json.loads(CliRunner().invoke(app, line, catch_exceptions=False).stdout.splitlines()[-1])
    assert {"cases": 1, "model": str(result.path), "teacher_dice": comparison["teacher_dice"]}.items() <= again.items()


def teacher_dice(teacher, folder):
    """The Dice of the held-out case by the public verbs."""
    data = teacher.parents[1] / "data" / "manifest.yaml"
    manifest = load_manifest(data)
    (case,) = manifest.split("val")
    voxelry.predict(teacher, list(case.images), folder / "masks", workers=0)
    scores = voxelry.evaluate(data, folder / "masks")
    return scores.to_dict()["mean_dice"]


def test_what_cannot_be_a_student(teacher, tmp_path):
    with pytest.raises(UsageError, match=r"plan\.patch_size"):
        voxelry.compress(teacher, tmp_path / "a", changes=("plan.patch_size=[16, 16]",))
    with pytest.raises(UsageError, match="time budget"):
        voxelry.compress(teacher, tmp_path / "a", time_budget=-1)
    plan = tiny_plan(2)
    save_ensemble([tiny_model(plan)], tmp_path / "lone")
    with pytest.raises(ModelError, match=r"no recipe\.yaml beside it"):
        voxelry.compress(tmp_path / "lone", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_channels_of_a_student():
    wide, wider = (tiny_plan(2, network=tiny_network(2, features), flips=(0,)) for features in ((12, 6, 20), (32, 64, 64)))
    models = [tiny_model(wider), tiny_model(wide)]
    assert student_plan(models, None, ()).network.features == (6, 4, 10)
    assert student_plan(models, (5, 5, 5), (1,)).network.features == (5, 5, 5)
    assert student_plan(models, None, (1,)).flips == (1,)
    fixed = tiny_plan(2, network=tiny_network(2, name="my.module:build"))
    with pytest.raises(ConfigError, match="fixed"):
        student_plan([tiny_model(wide), tiny_model(wide).__class__(fixed, tiny_model(wide).card, {})], None, ())
