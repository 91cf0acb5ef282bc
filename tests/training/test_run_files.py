import csv
import json

import numpy as np
import pytest

from helpers.plans import tiny_fingerprint
from voxelry.base.files import read_yaml
from voxelry.errors import TrainingError
from voxelry.metrics.scores import Scores
from voxelry.recipes.recipe import Config, changed
from voxelry.training.run_files import (
    dice_by_name,
    load_fingerprint,
    recorded_recipe,
    save_fingerprint,
    save_recipe,
    save_validation,
)

SCORES = Scores(
    ("a", "b"),
    ("liver", "cyst"),
    np.array([[[8, 1, 0], [1, 4, 0], [0, 0, 0]], [[5, 0, 0], [0, 5, 1], [0, 0, 2]]]),
    groups=("p", "q"),
)


def test_recipe_and_fingerprint_come_back(tmp_path):
    config, seen = Config(manifest="m.yaml", time_budget=90.0, folds=3, configurations=("2d", "3d")), tiny_fingerprint()
    save_recipe(config, tmp_path)
    save_fingerprint(seen, tmp_path)
    assert Config.model_validate(read_yaml(tmp_path / "recipe.yaml")) == config
    assert load_fingerprint(tmp_path) == seen
    assert recorded_recipe(config, tmp_path) == config


@pytest.mark.parametrize("augment", [{"noise_p": 0.1, "rotation": None}, {"set": "light", "rotation": None}, {"set": "xray"}, {}])
def test_a_recipe_read_back_augments_alike(tmp_path, augment):
    """Also where a key was given the default's value, or null."""
    config = Config(manifest="m.yaml", steps=5, augment=augment)
    save_recipe(config, tmp_path)
    for one in (recorded_recipe(config, tmp_path), changed(config, steps=7)):
        assert one.augment.chosen("MR", 3, "cpu") == config.augment.chosen("MR", 3, "cpu")


def test_a_run_goes_on_with_the_length_that_it_began_with(tmp_path):
    begun = Config(manifest="m.yaml", steps=5, folds=3)
    assert recorded_recipe(begun, tmp_path) is None
    save_recipe(begun, tmp_path)
    assert recorded_recipe(Config(manifest="m.yaml", time_budget=9.0, folds=3), tmp_path) == begun
    with pytest.raises(TrainingError, match=r"began with another recipe \(seed: \d+, now \d+; folds: \d+, now \d+\)"):
        recorded_recipe(Config(manifest="m.yaml", steps=5, folds=4, seed=1), tmp_path)


def test_scores_of_every_case_are_kept(tmp_path):
    save_validation(SCORES, tmp_path)
    summary = json.loads((tmp_path / "validation.json").read_text())
    assert summary["mean_dice"] == pytest.approx(SCORES.mean_dice)
    with (tmp_path / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["group"], row["label"]) for row in rows] == [
        ("a", "p", "liver"), ("a", "p", "cyst"), ("b", "q", "liver"), ("b", "q", "cyst"),
    ]  # fmt: skip
    assert [row["dice"] for row in rows] == [f"{8 / 10}", "", f"{10 / 11}", f"{4 / 5}"]
    assert summary["rows"][1]["dice"] is None


def test_a_run_without_held_out_cases_keeps_empty_tables(tmp_path):
    save_validation(None, tmp_path)
    assert json.loads((tmp_path / "validation.json").read_text()) == {}
    assert (tmp_path / "validation.csv").read_text().splitlines() == ["case,label,dice,iou"]


def test_scores_for_trackers():
    values = dice_by_name(SCORES)
    assert list(values) == ["dice", "dice/liver", "dice/cyst"]
    assert values["dice/cyst"] == pytest.approx(0.8)
    assert dice_by_name(None) == {}
