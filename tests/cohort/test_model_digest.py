"""A model's digest: its content, not its place."""

from dataclasses import replace
from pathlib import Path

import torch

from helpers.plans import tiny_model, tiny_plan
from voxelry.cohort.model_digest import model_digest
from voxelry.networks.weights import load_models, save_model

MODEL = tiny_model(tiny_plan(2))


def test_a_saved_model_and_a_loaded_one_are_the_same(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    (loaded,) = load_models(tmp_path / "model")
    assert model_digest(loaded) == model_digest(MODEL)


def test_any_part_of_a_model_counts() -> None:
    name = min(MODEL.weights)
    changed = {**MODEL.weights, name: MODEL.weights[name] + 1e-6}
    others = [
        replace(MODEL, weights=changed),
        replace(MODEL, weights={**MODEL.weights, name: MODEL.weights[name].to(torch.float64)}),
        replace(MODEL, plan=MODEL.plan.model_copy(update={"overlap": 0.25})),
        replace(MODEL, card=MODEL.card.model_copy(update={"name": "other"})),
        replace(MODEL, previous=MODEL),
    ]
    assert len({model_digest(model) for model in [MODEL, *others]}) == 1 + len(others)
