import json
import os

import pytest
import torch

from plans import tiny_fingerprint, tiny_plan
from voxelry.config import Config
from voxelry.errors import TrainingError
from voxelry.files import read_yaml
from voxelry.train.checkpoint import (
    Milestone,
    RunState,
    load_checkpoint,
    load_planned,
    save_checkpoint,
    save_planned,
    save_recipe,
)

STATE = RunState(
    step=7,
    total=20,
    seconds=1.5,
    history=[Milestone(7, 0.5, None, {"a": 0.25, "b": None}, 1.5, 1e-3)],
    network={"w": torch.arange(3.0)},
    recipe="{}",
    random=torch.get_rng_state(),
)


def test_a_state_comes_back(tmp_path):
    save_checkpoint(STATE, tmp_path)
    state = load_checkpoint(tmp_path)
    assert (state.step, state.total, state.seconds, state.history, state.recipe) == (7, 20, 1.5, STATE.history, "{}")
    assert torch.equal(state.network["w"], STATE.network["w"])
    assert torch.equal(state.random, STATE.random)
    line = json.loads((tmp_path / "history.jsonl").read_text())
    assert (line["step"], line["pseudo_dice"]) == (7, None)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.pt", "history.jsonl"]


def test_nothing_in_a_checkpoint_executes(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harmed"),)

    torch.save(Harm(), tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match=r"checkpoint.pt: damaged"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "list", "keys", "milestone"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    save_checkpoint(STATE, tmp_path)
    file = tmp_path / "checkpoint.pt"
    whole = file.read_bytes()
    content = {"empty": b"", "half": whole[: len(whole) // 2], "noise": b"\x80\x02}q\x00garbage"}
    if damage in content:
        file.write_bytes(content[damage])
    else:
        torch.save({"list": [1], "keys": {"step": 1}, "milestone": {"history": [{"step": 1}]}}[damage], file)
    with pytest.raises(TrainingError, match=r"checkpoint.pt: damaged .*Start the run anew"):
        load_checkpoint(tmp_path)


def test_nothing_to_resume_from(tmp_path):
    with pytest.raises(TrainingError, match=r"no checkpoint.pt to resume from. Leave out --resume"):
        load_checkpoint(tmp_path)


def test_a_failed_write_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(STATE, tmp_path)

    def full_disk(content, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(RunState(step=9), tmp_path)
    assert load_checkpoint(tmp_path).step == 7
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.pt", "history.jsonl"]


def test_the_plan_and_the_recipe_come_back(tmp_path):
    seen, plan = tiny_fingerprint(), tiny_plan(flips=(0,), reasons=("because",))
    save_planned(seen, plan, tmp_path)
    assert load_planned(tmp_path) == (seen, plan)
    config = Config(manifest="m.yaml", time_budget=90.0)
    save_recipe(config, tmp_path)
    assert Config.model_validate(read_yaml(tmp_path / "recipe.yaml")) == config
