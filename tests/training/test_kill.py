"""Twenty times kill -9: what goes on from the checkpoint is the run that nobody killed, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import killed
from helpers.killed import MILESTONES, MOMENTS, STEPS
from voxelry.base.type_trial import is_sound
from voxelry.training.checkpoint import load_checkpoint

KILLS = 20


def trained(folder: Path, kills: int, dtype: str) -> list[dict]:
    """Train in a process of its own; what its kills left."""
    command = [sys.executable, killed.__file__, str(folder), "7", str(kills), dtype]
    done = subprocess.run(
        command, timeout=280, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["status"] == 0, done.stderr
    return found["kills"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_killed_twenty_times_is_the_run_that_was_not(tmp_path, dtype):
    if dtype == "bfloat16" and not is_sound(torch.device("cpu"), torch.bfloat16):
        pytest.skip("this machine does not compute in bfloat16 as it should")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trained(whole, 0, dtype)
    kills = trained(parts, KILLS, dtype)
    assert len(kills) == KILLS
    assert {kill["moment"] for kill in kills} == {"any", *MOMENTS}
    assert 0 < kills[-1]["step"] < STEPS  # all of them hit it while it trained
    assert (parts / "losses.jsonl").read_bytes() == (whole / "losses.jsonl").read_bytes()
    losses = [json.loads(line) for line in (parts / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses] == list(range(1, STEPS + 1))
    one, other = load_checkpoint(whole), load_checkpoint(parts)
    assert len(other.history) == MILESTONES
    for ours, theirs in zip(one.history, other.history, strict=True):
        assert (ours.step, ours.loss, ours.per_label) == (theirs.step, theirs.loss, theirs.per_label)
    for name in ("network", "average"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    moments = [entry[key] for entry in one.optimiser["state"].values() for key in sorted(entry)]
    others = [entry[key] for entry in other.optimiser["state"].values() for key in sorted(entry)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(moments, others, strict=True))
    assert not [file for file in parts.iterdir() if file.name.startswith(".tmp-")]
