import dataclasses

import pytest
from pydantic import ValidationError

from helpers.plans import SIDED, tiny_model, tiny_plan
from voxelry.core.model import ModelCard


def test_labels_are_those_of_the_card():
    model = tiny_model(tiny_plan())
    assert model.labels is model.card.labels
    assert model.labels == SIDED
    assert model.path is None


def test_a_card_survives_json():
    card = tiny_model(tiny_plan()).card.model_copy(update={"training": {"steps": 3, "pseudo_dice": None}})
    assert ModelCard.model_validate_json(card.model_dump_json()) == card


def test_models_and_cards_are_frozen():
    model = tiny_model(tiny_plan())
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.plan = tiny_plan()
    with pytest.raises(ValidationError):
        model.card.name = "other"


def test_weights_are_not_spelled_out():
    assert "tensor" not in repr(tiny_model(tiny_plan()))
