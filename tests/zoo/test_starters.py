"""The starter models of the package: small, whole, described, and as good as their cards say."""

import json
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from safetensors import safe_open
from typer.testing import CliRunner

import voxelry
from voxelry.cli.main import app
from voxelry.datasets.manifest import load_manifest
from voxelry.zoo import model_names
from voxelry.zoo.model_check import check_model
from voxelry.zoo.model_files import files_of
from voxelry.zoo.model_row import list_models

NAMES = sorted(folder.name for folder in model_names.STARTERS.iterdir())
LARGEST = 8_000_000
CARDS = Path(__file__).parents[2] / "data_manifests"
SETS = {"hippocampus": "hippocampus", "lungs": "cxr_lung", "nuclei": "nuclei_dsb2018"}
FLOORS = {"hippocampus": ("dice", 0.89), "lungs": ("dice", 0.96), "nuclei": ("dsb_ap50", 0.80)}
"""Metric and score of held-out cases that each has at least."""


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VOXELRY_MODELS", str(tmp_path / "none"))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_whole_and_holds_nothing_else(name):
    folder = model_names.STARTERS / name
    checked = check_model(folder)
    assert (checked.format, checked.not_run) == ("1.0", ())
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LARGEST
    assert sorted(file.relative_to(folder).as_posix() for file in files) == files_of(folder)


@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_stored_in_half_precision(name):
    with safe_open(model_names.STARTERS / name / "weights.safetensors", "numpy") as weights:
        slices = [weights.get_slice(key) for key in list(weights.keys())]  # which cannot be iterated over itself
        kinds = {(len(each.get_shape()) > 1, each.get_dtype()) for each in slices}
    assert (True, "F16") in kinds
    assert (True, "F32") not in kinds


@pytest.mark.parametrize("name", NAMES)
def test_the_hub_reads_its_card(name):
    """Front matter as the hub's own library understands it, with the scores that the model's record holds."""
    folder = model_names.STARTERS / name
    card = ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("voxelry", "image-segmentation")
    assert card.data.license in {"cc-by-sa-4.0", "cc-by-4.0", "cc0-1.0"}
    recorded = json.loads((folder / "card.json").read_text())["training"]["held_out"]["scores"]
    assert [result.metric_value for result in card.data.eval_results] == [score["value"] for score in recorded]
    assert all(score["low"] <= score["value"] <= score["high"] for score in recorded)


@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_what_must_be_said(name):
    text = (model_names.STARTERS / name / "README.md").read_text(encoding="utf-8")
    for heading in (
        "## Use",
        "## Data and attribution",
        "## Scores",
        "## When it fails",
        "## How it was made",
        "Not a medical device",
    ):
        assert heading in text
    assert "Licence of the data: CC" in text
    assert "doi:10." in text
    assert re.search(rf"`configs/(starter_)?{name}\.yaml` \(\d+ steps", text)


@pytest.mark.parametrize("name", NAMES)
def test_the_list_states_a_score_that_is_good_enough(name):
    row = next(row for row in list_models() if row.name == name)
    metric, floor = FLOORS[name]
    first = row.scores[0]
    assert (first.metric, row.kind, row.cases > 20) == (metric, "starter", True)
    assert first.value >= floor
    assert first.low < first.value < first.high


@pytest.mark.realdata
@pytest.mark.parametrize("name", NAMES)
def test_held_out_cases_are_segmented_by_name_without_a_network(name, realdata, tmp_path, monkeypatch):
    """The first of the cases that the card's scores are of; the whole set is scored by `configs/make_starter.py`."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asks the network"))
    manifest = load_manifest(CARDS / f"{SETS[name]}.yaml", realdata)
    cases = [case for case in manifest.split("val") if case.has_labels][:2]
    line = ["predict", name, *(str(case.images[0]) for case in cases), "--out", str(tmp_path), "--workers", "0", "--json"]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    scores = voxelry.evaluate(replace(manifest, cases=tuple(cases)), tmp_path)
    assert scores.mean_dice > 0.75
