"""How wide a network may be for its time: by steps that are made to take as long as the test says."""

import pytest

from voxelry.core.plan import Plan
from voxelry.recipes.recipe import Config
from voxelry.training import throughput
from voxelry.training.options import RunOptions
from voxelry.training.throughput import FEW, NARROWEST, narrowed_to_budget

PLAN = Plan(
    dimensions=2,
    channels=("grey",),
    configuration="2d",
    normalisation=({"scheme": "image"},),
    patch_size=(32, 32),
    batch_size=2,
    network={"features": (32, 64, 64), "strides": ((1, 1), (2, 2), (2, 2)), "kernels": ((3, 3),) * 3},
)


def planned(monkeypatch, seconds, given=PLAN, **settings):
    """The plan after pacing, where a step of a network takes `seconds` for each channel of its first stage."""
    monkeypatch.setattr(throughput, "step_seconds", lambda _o, _f, plan: seconds * plan.network.features[0])
    config = Config(manifest="x.yaml", device="cpu", **{"time_budget": 60.0} | settings)
    return narrowed_to_budget(RunOptions(config, None), None, {"2d": given})["2d"]


@pytest.mark.parametrize(
    ("seconds", "features"),
    [
        (60 / FEW / 32, (32, 64, 64)),
        (60 / FEW / 31, (16, 32, 32)),
        (60 / FEW / 15, (8, 16, 16)),
        (60.0, (8, 16, 16)),
    ],
)
def test_widths_are_halved_until_enough_steps_fit(monkeypatch, seconds, features):
    plan = planned(monkeypatch, seconds)
    assert plan.network.features == features
    assert plan.network.features[0] >= NARROWEST
    assert len(plan.reasons) == {32: 0, 16: 1, 8: 2}[features[0]]
    assert all(str(FEW) in reason and "60 s" in reason for reason in plan.reasons)
    assert plan.model_copy(update={"network": PLAN.network, "reasons": ()}) == PLAN


@pytest.mark.parametrize(
    "settings",
    [{"time_budget": None, "steps": 5}, {"plan": {"features": (32, 64, 64)}}, {"initial": "model"}],
    ids=["no budget", "widths named", "fine-tuning"],
)
def test_what_was_decided_stays(monkeypatch, settings):
    assert planned(monkeypatch, 60.0, **settings) == PLAN


@pytest.mark.parametrize("name", ["resenc", "package.module:Class"])
def test_networks_whose_widths_are_not_ours_stay(monkeypatch, name):
    blocks = (1, 3, 4) if name == "resenc" else ()
    plan = PLAN.model_copy(update={"network": PLAN.network.model_copy(update={"name": name, "blocks": blocks})})
    assert planned(monkeypatch, 60.0, plan) == plan
