import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from plans import tiny_network, tiny_plan
from train.cases import NAMES, case, loop
from voxelry.errors import TrainingError
from voxelry.networks.build import build_network
from voxelry.train import loop as module
from voxelry.train.checkpoint import load_checkpoint
from voxelry.train.loop import BUDGET_SHARE, TIMED_STEPS, Loop
from voxelry.train.sampler import Sampler

QUIET = lambda progress: None  # noqa: E731


class StopError(Exception):
    """Interrupts a run after a step."""


def until(step):
    def report(progress):
        if progress.step == step:
            raise StopError

    return report


def weights(run):
    return torch.cat([tensor.flatten() for tensor in run.network.state_dict().values()])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_loss_falls_and_the_labels_are_learned(tmp_path, dimensions):
    run = loop(tmp_path, dimensions, steps=160, learning_rate=0.01, foreground=1.0, validations=8)
    state = run.run(QUIET)
    first, last = state.history[0], state.history[-1]
    assert (first.step, last.step, state.step) == (20, 160, 160)
    assert last.loss < 0.5 * first.loss
    assert last.pseudo_dice > max(0.75, first.pseudo_dice)
    assert list(last.per_label) == list(NAMES)
    assert not run.network.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_resumed_run_is_the_same_run_bit_for_bit(tmp_path, monkeypatch, dtype, dimensions):
    monkeypatch.setattr(module, "compute_dtype", lambda *_: dtype)
    whole = loop(tmp_path / "whole", dimensions, steps=12)
    expected = whole.run(QUIET)
    with pytest.raises(StopError):
        loop(tmp_path / "parts", dimensions, steps=12).run(until(8))
    state = load_checkpoint(tmp_path / "parts")
    assert state.step == 6
    rest = loop(tmp_path / "parts", dimensions, steps=12)
    rest.restore(state)
    torch.manual_seed(123)
    got = rest.run(QUIET)
    assert torch.equal(weights(whole), weights(rest))
    assert [(m.step, m.loss, m.pseudo_dice) for m in got.history] == [(m.step, m.loss, m.pseudo_dice) for m in expected.history]


def test_a_finished_run_stays_finished(tmp_path):
    first = loop(tmp_path, steps=3)
    first.run(QUIET)
    again = loop(tmp_path, steps=3)
    again.restore(load_checkpoint(tmp_path))
    steps = []
    assert again.run(lambda progress: steps.append(progress.step)).step == 3
    assert steps == []
    assert torch.equal(weights(first), weights(again))


def test_another_recipe_or_network_is_refused(tmp_path):
    loop(tmp_path, steps=2).run(QUIET)
    state = load_checkpoint(tmp_path)
    with pytest.raises(TrainingError, match="another recipe"):
        loop(tmp_path, steps=3).restore(state)
    other = loop(tmp_path, steps=2)
    other.network = build_network(tiny_plan(network=tiny_network(3, (4, 8, 12))), 4)
    with pytest.raises(TrainingError, match=r"another network .*Restore plan.yaml"):
        other.restore(state)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(tmp_path):
    run = loop(tmp_path, steps=10, validations=10)

    def poison(progress):
        if progress.step == 4:
            with torch.no_grad():
                next(run.network.parameters()).fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"the loss became nan at step 5. Lower learning_rate"):
        run.run(poison)
    state = load_checkpoint(tmp_path)
    assert state.step == 4
    assert all(torch.isfinite(tensor).all() for tensor in state.network.values())


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path):
    run = loop(tmp_path, steps=3)
    weight = next(run.network.parameters())
    weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weights(run).clone()
    with pytest.raises(TrainingError, match=r"the gradient became (nan|inf) at step 1"):
        run.run(QUIET)
    assert torch.equal(weights(run), before)


def test_an_error_in_a_case_ends_the_run(tmp_path):
    run = loop(tmp_path, steps=5)
    damaged = case(0, (12, 11, 10))
    object.__setattr__(damaged, "image", damaged.image[:, :0])
    object.__setattr__(run.training, "cases", [damaged])
    with pytest.raises(ValueError, match="could not broadcast"):
        run.run(QUIET)


def test_ignored_windows_train_nothing(tmp_path):
    run = loop(tmp_path, steps=2, weight_decay=0)
    blank = case(0, (12, 11, 10))
    blank.classes[:] = -1
    run.training = Sampler([blank], (8, 8, 8), 2, 0.0, 0)
    before = weights(run).clone()
    run.run(QUIET)
    assert torch.equal(weights(run), before)


class Clock:
    """Time that passes by steps alone: one second each, more for the first, and three for a pseudo-Dice."""

    def __init__(self, monkeypatch, first=4.0, step=1.0, dice=3.0):
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

        def train(run, *_):
            self.now += first if run.state.step < 8 else step
            return 1.0

        def measure(run):
            self.now += dice
            return [None] * len(run.names)

        monkeypatch.setattr(Loop, "_step", train)
        monkeypatch.setattr(Loop, "_pseudo_dice", measure)


def test_a_time_budget_becomes_a_recorded_number_of_steps(tmp_path, monkeypatch):
    Clock(monkeypatch)
    seen = []
    state = loop(tmp_path, time_budget=400.0, validations=20).run(lambda progress: seen.append((progress.step, progress.total)))
    totals = dict(seen)
    assert {totals[step] for step in range(1, TIMED_STEPS)} == {None}
    assert totals[TIMED_STEPS] == state.total == state.step
    left = 400 - (8 * 4 + 16)
    assert state.total == TIMED_STEPS + int(BUDGET_SHARE * (left - 20 * 3))
    assert 0.85 * 400 < state.seconds < 400
    assert load_checkpoint(tmp_path).total == state.total


def test_a_resumed_run_keeps_the_recorded_number(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    with pytest.raises(StopError):
        loop(tmp_path, time_budget=400.0).run(until(200))
    state = load_checkpoint(tmp_path)
    total = state.total
    clock.now += 50_000  # days later
    rest = loop(tmp_path, time_budget=400.0)
    rest.restore(state)
    final = rest.run(QUIET)
    assert final.step == final.total == total
    assert final.seconds < 400


def test_slower_steps_than_those_timed_end_within_one_step_of_the_budget(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    def slower(progress):
        clock.now += 5.0 * (progress.step > 30)

    state = loop(tmp_path, time_budget=400.0).run(slower)
    assert 400 < state.seconds <= 400 + 6
    assert state.step == state.total == state.history[-1].step


@pytest.mark.parametrize("budget", [0.5, 30.0, 33.0, 48.5])
def test_a_budget_too_small_for_more_steps_ends_the_run_for_good(tmp_path, monkeypatch, budget):
    Clock(monkeypatch)
    state = loop(tmp_path, time_budget=budget).run(QUIET)
    assert state.step == state.total <= TIMED_STEPS + 1
    assert state.seconds <= budget + 4
    for _ in range(3):
        again = loop(tmp_path, time_budget=budget)
        again.restore(load_checkpoint(tmp_path))
        assert again.run(QUIET).step == state.step


def test_preparation_counts_towards_the_budget_once(tmp_path, monkeypatch):
    Clock(monkeypatch)
    state = loop(tmp_path, time_budget=100.0).run(QUIET, spent=1000.0)
    assert state.step == 1
    assert state.seconds == 1004


@pytest.mark.parametrize("total", [1, 2, 23, 24, 25, 200])
def test_the_learning_rate_warms_up_and_decays(tmp_path, monkeypatch, total):
    Clock(monkeypatch)
    run = loop(tmp_path, steps=total, learning_rate=0.01)
    rates = []
    original = run._rate
    monkeypatch.setattr(run, "_rate", lambda: rates.append(original()) or rates[-1])
    run.run(QUIET)
    warm = min(TIMED_STEPS, total)
    decay = [(1 - step / max(1, total - warm)) ** 0.9 for step in range(total - warm)]
    np.testing.assert_allclose(rates, 0.01 * np.array([*((np.arange(warm) + 1) / warm), *decay]))
    assert min(rates) > 0


def test_progress_tells_the_time_left(tmp_path, monkeypatch):
    Clock(monkeypatch, first=1.0, dice=0.0)
    seen = []
    loop(tmp_path, steps=20).run(seen.append)
    assert seen[1].seconds_left is None
    assert seen[9].seconds_left == pytest.approx(10)
    assert seen[-1].seconds_left == 0


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from train.cases import loop

save, calls = torch.save, []
def killed(content, path):
    calls.append(path)
    if len(calls) == 3:
        path.write_bytes(b"half a checkpoint")
        os.kill(os.getpid(), signal.SIGKILL)
    save(content, path)
torch.save = killed
loop(Path(sys.argv[2]), steps=12, validations=6).run(lambda progress: None)
"""


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), str(tmp_path)]
    done = subprocess.run(
        command, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = load_checkpoint(tmp_path)
    assert state.step == 4
    rest = loop(tmp_path, steps=12, validations=6)
    rest.restore(state)
    assert rest.run(QUIET).step == 12
