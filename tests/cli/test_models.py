import json
import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import voxelry
from helpers.scans import save
from voxelry.api.training_verbs import _recipe
from voxelry.cli.main import app
from voxelry.serving.served_model import load_served
from voxelry.zoo.model_names import find_model


@pytest.fixture
def named(torso_model, tmp_path, monkeypatch):
    """A model in the cache, called `torso`, and an empty folder to work in."""
    shutil.copytree(torso_model, tmp_path / "cache" / "torso")
    monkeypatch.setenv("VOXELRY_MODELS", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "cache" / "torso"


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def result(*arguments):
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_models_are_listed_with_scores_size_and_licence(named):
    rows = {row["name"]: row for row in result("models")["models"]}
    assert rows["torso"]["kind"] == "cache"
    assert rows["torso"]["licence"] == "CC0-1.0"
    assert rows["torso"]["bytes"] > 10_000
    assert rows["torso"]["scores"][0]["metric"] == "dice"
    shown = run("models")
    assert (shown.exit_code, "torso" in shown.stdout, "CC0-1.0" in shown.stdout, "dice 0." in shown.stdout) == (
        0,
        True,
        True,
        True,
    )


def test_a_damaged_model_is_listed_and_the_exit_code_says_so(named):
    (named / "card.json").write_text("{")
    done = run("models")
    assert done.exit_code == 1
    assert "card.json" in done.stderr


def test_verify_says_what_it_compared(named):
    checked = result("models", "verify", "torso")
    assert (checked["format"], checked["networks"]) == ("1.0", 1)
    assert "every file as recorded" in run("models", "verify", "torso").stdout
    (named / "model.json").unlink()
    assert "no SHA-256 to compare" in run("models", "verify", "torso").stdout
    (named / "weights.safetensors").write_bytes(b"")
    refused = run("models", "verify", "torso")
    assert (refused.exit_code, "weights.safetensors" in refused.stderr) == (2, True)


def test_push_and_pull(named):
    pushed = result("models", "push", "torso", "torso.zip")
    assert zipfile.is_zipfile("torso.zip")
    assert result("models", "pull", pushed["source"], "--out", "mine")["sha256"] == pushed["sha256"]
    assert "model is in" in run("models", "pull", "mine", "--out", "again").stdout
    again = run("models", "pull", "mine", "--out", "again")
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)


def test_a_name_stands_where_a_model_folder_does(named, torso):
    """In predict, in Python, and in the server, which calls the model by it."""
    scan = sorted((torso / "images").iterdir())[0]
    assert result("predict", "torso", scan, "--out", "masks")["cases"] == 1
    predictor = voxelry.load_model("torso", device="cpu")
    assert predictor.model.path == named
    assert list(load_served([find_model("torso")], "cpu")) == ["torso"]


def test_training_starts_from_a_name_in_the_command_or_in_the_recipe(named, torso):
    recipe = Path("recipe.yaml")
    recipe.write_text((torso / "recipe.yaml").read_text() + "initial: torso\n")
    nothing = {"epochs": None, "folds": None, "initial": None}
    assert _recipe(recipe, (), nothing, None).initial == str(named)
    assert _recipe(torso / "recipe.yaml", (), {**nothing, "initial": "torso"}, None).initial == str(named)
    Path("torso").mkdir()  # what lies beside the recipe counts first, and loading says what is wrong with it
    assert _recipe(recipe, (), nothing, None).initial == str(Path("torso").resolve())


def test_regions_of_a_model_by_its_name(named):
    save(Path("mask.nii.gz"), np.ones((4, 4, 4), np.uint8))
    done = run("evaluate", "mask.nii.gz", "mask.nii.gz", "--regions", "torso")
    assert (done.exit_code, "torso: learns no regions" in done.stderr) == (2, True)


def test_an_unknown_name_is_refused_with_the_near_ones(named, tmp_path):
    save(Path("scan.nii.gz"), np.ones((4, 4, 4), np.int16))
    for line in (["predict", "torsso", "scan.nii.gz", "--out", "out"], ["models", "verify", "torsso"], ["serve", "torsso"]):
        done = run(*line)
        assert (done.exit_code, "Did you mean 'torso'?" in done.stderr) == (2, True), done.stderr
    assert not Path("out").exists()
    log = logging.getLogger("voxelry")  # `serve` logs lines of JSON while it runs
    assert (log.handlers, log.propagate) == ([], True)
