"""Facts about predictions: what each function computes, in JSON."""

import math
from dataclasses import replace

import pytest

from helpers.plans import tiny_model, tiny_plan
from helpers.quality import ORGANS, SURE, organs, population, quality_model
from voxelry.cohort import prediction_facts
from voxelry.cohort.prediction_facts import facts_of
from voxelry.inference.predictor import Prediction
from voxelry.phantom import small_phantom


def test_facts_are_plain_json(monkeypatch: pytest.MonkeyPatch) -> None:
    phantom, model = small_phantom(), tiny_model(tiny_plan(3))
    prediction = Prediction(phantom.labels, {"liver": 0.9})
    monkeypatch.delitem(prediction_facts.FACTS, "quality")
    monkeypatch.setitem(
        prediction_facts.FACTS, "sure", lambda _, given, __: {"liver": given.confidence["liver"], "none": math.nan}
    )
    monkeypatch.setitem(prediction_facts.FACTS, "by", lambda _, __, used: {"name": used.card.name, "pair": (1, 2)})
    assert facts_of(phantom.volume, prediction, model) == {
        "sure": {"liver": 0.9, "none": None},
        "by": {"name": "tiny", "pair": [1, 2]},
    }


def test_quality_control_is_a_fact() -> None:
    known = population()
    model = replace(tiny_model(tiny_plan(3), ORGANS), quality=quality_model(known))
    volume, labels = organs(40)
    labels.layers[labels.layers == 7] = 0
    quality = facts_of(volume, Prediction(labels, SURE), model)["quality"]
    assert quality["review"]
    assert quality["dice"] < 0.5
    assert "box is missing; 20 of 20 training cases have it" in quality["flags"]
    older = facts_of(volume, Prediction(labels, SURE), replace(model, quality=None))["quality"]
    assert (older["dice"], older["review"]) == (None, False)
    assert older["reason"]
