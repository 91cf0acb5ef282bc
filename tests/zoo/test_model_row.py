import json
import shutil
from dataclasses import replace

import pytest

from helpers.plans import tiny_model, tiny_plan
from voxelry.networks.weights import save_model
from voxelry.zoo.model_row import SCORES, ModelScore, list_models

DICE = {"metric": "dice", "label": "spine", "value": 0.91, "low": 0.9, "high": 0.925}


def saved(folder, **training):
    model = tiny_model(tiny_plan(2))
    save_model(replace(model, card=model.card.model_copy(update={"training": training, "licence": "CC0-1.0"})), folder)


def test_starters_come_first_and_each_has_what_the_card_says(starters, cache, both):
    saved(starters / "zebra", **{SCORES: {"cases": 26, "scores": [DICE]}})
    saved(cache / "ant", mean_dice=0.5)
    shutil.copytree(both, cache / "both")
    rows = list_models()
    assert [(row.name, row.kind) for row in rows] == [("zebra", "starter"), ("ant", "cache"), ("both", "cache")]
    zebra, ant, ensemble = rows
    assert (zebra.cases, zebra.licence, zebra.dimensions, zebra.modality) == (26, "CC0-1.0", 2, "MR")
    assert [score.describe() for score in zebra.scores] == ["dice spine 0.910 (0.900-0.925)"]
    assert [score.describe() for score in (*ant.scores, *ensemble.scores)] == ["dice 0.500", "dice 0.750"]
    assert zebra.bytes == sum(file.stat().st_size for file in (starters / "zebra").iterdir())
    assert json.loads(json.dumps(zebra.as_dict()))["labels"] == ["left kidney", "right kidney", "spine"]


@pytest.mark.parametrize("record", [{}, {SCORES: 3}, {SCORES: {"cases": 1, "scores": [{"metric": 1}]}}, {"scores": "none"}])
def test_a_record_of_another_form_gives_no_scores(starters, record):
    saved(starters / "m", **record)
    assert [(row.scores, row.error) for row in list_models()] == [((), "")]


def test_a_damaged_model_is_listed_with_its_reason(cache, starters, tiny):
    shutil.copytree(tiny, cache / "broken")
    (cache / "broken" / "card.json").write_text("{")
    assert ["card.json" in row.error for row in list_models()] == [True]


def test_a_score_without_an_interval():
    assert ModelScore("ap50", "", 0.8123).describe() == "ap50 0.812"
