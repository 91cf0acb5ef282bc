"""Facts about predictions: what each function computes, in JSON."""

import math

import pytest

from helpers.plans import tiny_model, tiny_plan
from voxelry.cohort import prediction_facts
from voxelry.cohort.prediction_facts import facts_of
from voxelry.inference.predictor import Prediction
from voxelry.phantom import small_phantom


def test_facts_are_plain_json(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, model = Prediction(small_phantom().labels, {"liver": 0.9}), tiny_model(tiny_plan(3))
    monkeypatch.setitem(prediction_facts.FACTS, "sure", lambda given, _: {"liver": given.confidence["liver"], "none": math.nan})
    monkeypatch.setitem(prediction_facts.FACTS, "by", lambda _, used: {"name": used.card.name, "pair": (1, 2)})
    assert facts_of(prediction, model) == {"sure": {"liver": 0.9, "none": None}, "by": {"name": "tiny", "pair": [1, 2]}}
