"""`configs/make_starter.py` makes a starter model from a finished run."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

import voxelry
from voxelry.base.files import read_json, write_yaml
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import ConfigError, UsageError
from voxelry.networks.weights import load_models
from voxelry.zoo.model_check import check_model

WORDS = {
    "title": "Organs of phantoms",
    "summary": "Marks the organs of made-up torsos.",
    "recipe": "configs/starter_torso.yaml",
    "licence": "cc0-1.0",
    "attribution": "Made by voxelry, CC0.",
    "use": "Tests.",
    "failures": ["Everything that is no phantom."],
    "scores": {"dice": "Dice"},
    "tags": ["phantom"],
}


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "configs" / "make_starter.py"
    spec = importlib.util.spec_from_file_location("make_starter", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def starter(script, torso, torso_model, tmp_path_factory):
    home = tmp_path_factory.mktemp("starter")
    write_yaml(home / "words.yaml", WORDS)
    return script.make_starter(torso_model.parent, "torso", out=home, text=home / "words.yaml")


def test_it_is_the_runs_model_in_half_precision(starter, torso_model):
    assert check_model(starter).format == "1.0"
    (whole,), (rounded,) = load_models(torso_model), load_models(starter)
    assert (rounded.plan, rounded.card.labels, rounded.quality) == (whole.plan, whole.card.labels, whole.quality)
    for name, weight in whole.weights.items():
        assert torch.equal(rounded.weights[name], weight.half().float() if weight.ndim > 1 else weight)


def test_its_scores_are_those_of_what_is_shipped_on_the_cases_held_out(starter, torso, torso_model, tmp_path):
    manifest = load_manifest(torso / "manifest.yaml")
    (case,) = manifest.split("val")
    voxelry.predict(starter, case.images, tmp_path, device="cpu", workers=0)
    expected = voxelry.evaluate(voxelry.read_labels(case.labels, manifest.card.table), tmp_path / f"{case.id}.nii.gz")
    held = read_json(starter / "card.json")["training"]["held_out"]
    assert (held["cases"], held["patients"]) == (1, 1)
    means = {score["label"]: score["value"] for score in held["scores"] if score["metric"] == "dice"}
    for label, column in zip(expected.labels, expected.values["dice"].T, strict=True):
        assert means[label] == pytest.approx(float(np.nanmean(column)), abs=1e-5)
    changed = held["half_precision"]
    assert 0 <= changed["changed"] <= 0.05 * changed["labelled"]  # measured: 0.011, of a network trained for a second


def test_its_card_is_of_the_hubs_form_and_says_all(starter):
    card = ModelCard.load(starter / "README.md")
    assert (card.data.license, card.data.library_name, card.data.tags[-1]) == ("cc0-1.0", "voxelry", "phantom")
    head = yaml.safe_load(card.content.split("---")[1])
    assert head["model-index"][0]["results"][0]["metrics"][0]["type"] == "dice"
    for text in (
        "Not a medical device",
        "Made by voxelry, CC0.",
        "Everything that is no phantom.",
        "On 1 cases of 1 patients",
        "float16",
    ):
        assert text in card.text


def test_a_text_with_a_missing_key_and_a_run_that_held_nothing_out(script, torso_model, tmp_path):
    write_yaml(tmp_path / "words.yaml", {key: value for key, value in WORDS.items() if key != "attribution"})
    with pytest.raises(ConfigError, match="attribution"):
        script.make_starter(torso_model.parent, "torso", out=tmp_path, text=tmp_path / "words.yaml")
    write_yaml(tmp_path / "words.yaml", WORDS)
    run = tmp_path / "run"
    run.mkdir()
    for name in ("recipe.yaml", "split.json"):
        (run / name).write_text((torso_model.parent / name).read_text())
    split = read_json(run / "split.json")
    (run / "split.json").write_text(str({"train": split["train"] + split["val"], "val": []}).replace("'", '"'))
    with pytest.raises(UsageError, match="held no case out"):
        script.make_starter(run, "torso", out=tmp_path, text=tmp_path / "words.yaml")


def test_a_model_that_is_too_large_is_refused(script, torso_model, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "LARGEST", 1000)
    write_yaml(tmp_path / "words.yaml", WORDS)
    with pytest.raises(UsageError, match="more than 1000"):
        script.make_starter(torso_model.parent, "torso", out=tmp_path, text=tmp_path / "words.yaml")
    assert not (tmp_path / "torso").exists()
