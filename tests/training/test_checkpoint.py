import json
import os

import pytest
import torch

from voxelry.errors import TrainingError
from voxelry.training.checkpoint import (
    LossFile,
    Milestone,
    Revision,
    RunState,
    load_checkpoint,
    save_checkpoint,
)

STATE = RunState(
    step=7,
    revisions=[Revision(0, 20, 0.0, 0.0)],
    seconds=1.5,
    history=[Milestone(7, 0.5, None, {"a": 0.25, "b": None}, 1.5, 1e-3)],
    network={"w": torch.arange(3.0)},
    recipe="{}",
    random={"cpu": torch.get_rng_state()},
    losses=(2.5, 5),
    average={"w": torch.ones(3)},
    tracking={"mlflow": "id"},
)


def test_a_state_comes_back(tmp_path):
    save_checkpoint(STATE, tmp_path)
    state = load_checkpoint(tmp_path)
    assert (state.step, state.total, state.seconds, state.history, state.recipe) == (7, 20, 1.5, STATE.history, "{}")
    assert (state.revisions, state.losses, state.tracking) == (STATE.revisions, (2.5, 5), {"mlflow": "id"})
    assert torch.equal(state.network["w"], STATE.network["w"])
    assert torch.equal(state.random["cpu"], STATE.random["cpu"])
    assert torch.equal(state.average["w"], torch.ones(3))
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
    with pytest.raises(TrainingError, match=r"checkpoint.pt: damaged .*Start a new run"):
        load_checkpoint(tmp_path)


def test_nothing_to_resume_from(tmp_path):
    with pytest.raises(TrainingError, match=r"no checkpoint.pt to resume from. Leave out --resume"):
        load_checkpoint(tmp_path)


def test_a_failed_write_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(STATE, tmp_path)

    def full_disk(content, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(RunState(step=9), tmp_path)
    assert load_checkpoint(tmp_path).step == 7
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.pt", "history.jsonl"]


def test_what_a_kill_left_is_cleared_and_the_history_made_good(tmp_path):
    save_checkpoint(STATE, tmp_path)
    (tmp_path / ".tmp-abccheckpoint.pt").write_bytes(b"half")
    (tmp_path / ".tmp-abchistory.jsonl").write_text("half")
    (tmp_path / "history.jsonl").write_text("")
    load_checkpoint(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.pt", "history.jsonl"]
    assert json.loads((tmp_path / "history.jsonl").read_text())["step"] == 7


def test_losses_beyond_the_checkpoint_are_dropped(tmp_path):
    with LossFile(tmp_path, 0) as losses:
        for step in range(1, 6):
            losses.add(step, step / 3, 0.1)
    with (tmp_path / "losses.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    with LossFile(tmp_path, 3) as losses:
        losses.add(4, 9.0, 0.2)
    lines = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1 / 3), (2, 2 / 3), (3, 1.0), (4, 9.0)]
    with LossFile(tmp_path, 0):
        pass
    assert (tmp_path / "losses.jsonl").read_text() == ""


def test_a_run_goes_on_without_the_losses_that_somebody_deleted(tmp_path):
    for first in (3, 5):
        with LossFile(tmp_path, first) as losses:
            losses.add(first + 1, 0.5, 0.1)
    lines = [json.loads(line)["step"] for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert lines == [4, 6]
