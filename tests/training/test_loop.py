import json

import numpy as np
import pytest
import torch

from helpers.plans import tiny_network, tiny_plan
from helpers.training_cases import NAMES, case, loop
from voxelry.base.type_trial import is_sound
from voxelry.errors import TrainingError
from voxelry.networks import cost
from voxelry.networks.build import build_network
from voxelry.training import loop as module
from voxelry.training.checkpoint import load_checkpoint
from voxelry.training.length import AIM, TIMED_STEPS
from voxelry.training.loop import TrainingLoop
from voxelry.training.sampler import Sampler

QUIET = lambda progress: None  # noqa: E731


class StopError(Exception):
    """Interrupts a run after a step."""


def until(step):
    def report(progress):
        if progress.step == step:
            raise StopError

    return report


def stop_before_checkpoint(patch, step):
    """Break off a run at a milestone, all but its checkpoint written."""
    save = module.save_checkpoint

    def saving(state, folder):
        if state.step == step:
            raise StopError
        save(state, folder)

    patch.setattr(module, "save_checkpoint", saving)


def weights(run):
    return torch.cat([tensor.flatten() for tensor in run.network.state_dict().values()])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_loss_falls_and_the_labels_are_learned(tmp_path, dimensions):
    run = loop(tmp_path, dimensions, steps=160, optimiser={"learning_rate": 0.01}, oversample_foreground=1.0, validations=8)
    state = run.run(QUIET)
    first, last = state.history[0], state.history[-1]
    assert (first.step, last.step, state.step) == (20, 160, 160)
    assert last.loss < 0.5 * first.loss
    assert last.pseudo_dice > max(0.75, first.pseudo_dice)
    assert list(last.per_label) == list(NAMES)
    assert not run.network.training


def drop_out(network):
    """A network that draws random numbers from torch at each step."""
    network.register_forward_pre_hook(lambda layer, given: (torch.nn.functional.dropout(given[0], 0.3, layer.training),))


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_resumed_run_is_the_same_run_bit_for_bit(tmp_path, monkeypatch, dtype, dimensions, threads):
    if dtype == torch.bfloat16 and not is_sound(torch.device("cpu"), dtype):
        pytest.skip("this machine does not compute in bfloat16 as it should")
    monkeypatch.setattr(cost, "compute_dtype", lambda *_: dtype)
    before = torch.get_num_threads()

    def begun(name):
        run = loop(tmp_path / name, dimensions, steps=6, patch_size=(12,) * dimensions)  # three voxels in the last stage
        drop_out(run.network)
        assert run.dtype == dtype
        return run

    try:
        torch.set_num_threads(threads)
        whole = begun("whole")
        expected = whole.run(QUIET)
        with pytest.raises(StopError):
            begun("parts").run(until(4))
        state = load_checkpoint(tmp_path / "parts")
        assert state.step == 3
        torch.manual_seed(123)
        rest = begun("parts")
        rest.restore(state)
        got = rest.run(QUIET)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(weights(whole), weights(rest))
    for name in ("whole", "parts"):
        assert (tmp_path / name / "losses.jsonl").read_bytes() == (tmp_path / "whole" / "losses.jsonl").read_bytes()
    assert [(m.step, m.loss, m.pseudo_dice) for m in got.history] == [(m.step, m.loss, m.pseudo_dice) for m in expected.history]


def test_a_resumed_run_draws_on_where_batches_are_accumulated(tmp_path):
    settings = {"steps": 4, "optimiser": {"accumulate": 2, "ema": 0.9}}
    whole = loop(tmp_path / "whole", 2, **settings)
    whole.run(QUIET)
    with pytest.raises(StopError):
        loop(tmp_path / "parts", 2, **settings).run(until(3))
    rest = loop(tmp_path / "parts", 2, **settings)
    rest.restore(load_checkpoint(tmp_path / "parts"))
    rest.run(QUIET)
    assert (tmp_path / "parts" / "losses.jsonl").read_bytes() == (tmp_path / "whole" / "losses.jsonl").read_bytes()
    assert torch.equal(weights(whole), weights(rest))


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

    with pytest.raises(TrainingError, match=r"the loss became nan at step 5. Lower optimiser.learning_rate"):
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


@pytest.mark.parametrize(("clip", "steep"), [(0.5, 1e4), (12.0, 1e4), (1e9, 1.0)])
def test_gradients_are_clipped_to_the_length_that_the_recipe_names(tmp_path, clip, steep):
    run = loop(tmp_path, steps=1, optimiser={"clip": clip, "name": "sgd", "learning_rate": 1e-9})
    for weight in run.weights:
        weight.register_hook(lambda gradient: gradient * steep)
    run.run(QUIET)
    length = torch.cat([weight.grad.flatten() for weight in run.weights]).norm()
    assert length == pytest.approx(clip, rel=1e-4) if steep > 1 else 0 < length < 100


def test_a_clipped_step_is_no_longer_than_its_rate(tmp_path):
    run = loop(tmp_path, steps=1, optimiser={"clip": 0.5, "name": "sgd", "learning_rate": 0.1, "momentum": 0, "weight_decay": 0})
    for weight in run.weights:
        weight.register_hook(lambda gradient: gradient * 1e4)
    before = torch.cat([weight.detach().flatten() for weight in run.weights])
    run.run(QUIET)
    after = torch.cat([weight.detach().flatten() for weight in run.weights])
    rate = json.loads((tmp_path / "losses.jsonl").read_text())["learning_rate"]
    assert float((after - before).norm()) == pytest.approx(rate * 0.5, rel=1e-3)


def test_an_error_in_a_case_ends_the_run(tmp_path):
    run = loop(tmp_path, steps=5)

    def broken(number):
        if number == 3:
            raise ValueError("a damaged case")
        return sampler(number)

    sampler, run.loader.sampler = run.loader.sampler, broken
    with pytest.raises(ValueError, match="a damaged case"):
        run.run(QUIET)
    assert run.state.step == 3


def test_ignored_patches_train_nothing(tmp_path):
    run = loop(tmp_path, steps=2, optimiser={"weight_decay": 0})
    blank = case(0, (12, 11, 10))
    blank.classes[:] = -1
    run.loader.sampler = Sampler([blank], (8, 8, 8), 2, 0.0, 0)
    before = weights(run).clone()
    run.run(QUIET)
    assert torch.equal(weights(run), before)


class Clock:
    """Time that passes by steps alone: one second each, more for the first, and three for a pseudo-Dice."""

    def __init__(self, monkeypatch, first=4.0, step=1.0, dice=3.0):
        self.now = 1000.0
        self.step = step
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

        def train(run, *_):
            self.now += first if run.state.step < 8 else self.step
            return 1.0

        def measure(run, *_):
            self.now += dice
            return dict.fromkeys(NAMES)

        monkeypatch.setattr(TrainingLoop, "_step", train)
        monkeypatch.setattr(module.PseudoDice, "__call__", measure)


def test_a_time_budget_becomes_a_recorded_number_of_steps(tmp_path, monkeypatch):
    Clock(monkeypatch)
    seen = []
    state = loop(tmp_path, time_budget=400.0, validations=20).run(lambda progress: seen.append((progress.step, progress.total)))
    totals = dict(seen)
    assert {totals[step] for step in range(1, TIMED_STEPS)} == {None}
    left = AIM * 400 - (8 * 4 + 16)
    assert totals[TIMED_STEPS] == state.total == state.step == TIMED_STEPS + int(left - 20 * 3)
    assert [revision.total for revision in state.revisions] == [state.total]
    assert 0.95 * 400 < state.seconds < 400
    assert load_checkpoint(tmp_path).total == state.total


def test_the_number_is_on_disk_as_soon_as_it_is_known(tmp_path, monkeypatch):
    Clock(monkeypatch)
    with pytest.raises(StopError):
        loop(tmp_path, time_budget=400.0).run(until(TIMED_STEPS))
    state = load_checkpoint(tmp_path)
    assert (state.step, len(state.revisions), state.history) == (TIMED_STEPS, 1, [])


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


@pytest.mark.parametrize("pace", [0.5, 2.0, 6.0])
def test_a_change_of_pace_changes_the_number_and_the_decay_still_ends(tmp_path, monkeypatch, pace):
    clock = Clock(monkeypatch)
    run, rates = loop(tmp_path, time_budget=2000.0), []
    original = run._step
    monkeypatch.setattr(run, "_step", lambda batches, rate: rates.append(rate) or original(batches, rate))

    def change(progress):
        clock.step = pace if progress.step > 300 else 1.0

    state = run.run(change)
    assert 0.93 * 2000 < state.seconds < 2000
    assert len(state.revisions) in (2, 3)
    assert [revision.total for revision in state.revisions] == sorted((r.total for r in state.revisions), reverse=pace > 1)
    assert rates[-1] < 0.05 * max(rates)
    falls = -np.diff(rates[TIMED_STEPS:])
    assert falls.min() > 0
    assert falls.max() < 0.05 * max(rates)  # no jump where the number changes


def test_a_sudden_standstill_ends_within_one_step_of_the_budget(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    def slower(progress):
        clock.step = 90.0 if progress.step > 300 else 1.0

    state = loop(tmp_path, time_budget=400.0).run(slower)
    assert state.seconds <= 400 + 93
    assert state.step == state.total == state.history[-1].step


@pytest.mark.parametrize("budget", [0.5, 30.0, 33.0, 48.5])
def test_a_budget_too_small_for_more_steps_ends_the_run_for_good(tmp_path, monkeypatch, budget):
    Clock(monkeypatch)
    state = loop(tmp_path, time_budget=budget).run(QUIET)
    assert state.step == state.total <= TIMED_STEPS + 1
    assert state.seconds <= budget + 4 + 3
    for _ in range(3):
        again = loop(tmp_path, time_budget=budget)
        again.restore(load_checkpoint(tmp_path))
        assert again.run(QUIET).step == state.step


def test_preparation_counts_towards_the_budget_once(tmp_path, monkeypatch):
    Clock(monkeypatch)
    state = loop(tmp_path, time_budget=100.0).run(QUIET, spent=1000.0)
    assert state.step == 1
    assert state.seconds == 1004 + 3


def test_an_epoch_shows_every_case_once(tmp_path):
    state = loop(tmp_path, epochs=3, optimiser={"accumulate": 2}).run(QUIET)
    assert state.step == state.total == 3  # three cases, two patches in each of two batches
    state = loop(tmp_path, epochs=3).run(QUIET)
    assert state.step == 6


@pytest.mark.parametrize(("total", "validations"), [(160, 8), (10, 3), (7, 20), (1, 1), (100, 7)])
def test_milestones_lie_evenly_and_the_last_step_is_one(tmp_path, monkeypatch, total, validations):
    Clock(monkeypatch)
    steps = [0] + [m.step for m in loop(tmp_path, steps=total, validations=validations).run(QUIET).history]
    assert steps[-1] == total
    assert len(steps) - 1 == min(total, validations)
    assert max(np.diff(steps)) - min(np.diff(steps)) <= 1


def test_progress_tells_the_time_left(tmp_path, monkeypatch):
    Clock(monkeypatch, first=1.0, dice=0.0)
    seen = []
    loop(tmp_path, steps=20).run(seen.append)
    assert seen[1].seconds_left is None
    assert seen[9].seconds_left == pytest.approx(10, rel=0.7)
    assert seen[-1].seconds_left == 0
    seen.clear()
    loop(tmp_path, time_budget=100.0).run(seen.append)
    assert seen[4].seconds_left == 95


def test_a_checkpoint_is_written_by_time_too(tmp_path, monkeypatch):
    Clock(monkeypatch, first=1.0, dice=0.0)
    with pytest.raises(StopError):
        loop(tmp_path, steps=2000, validations=1).run(until(700))
    state = load_checkpoint(tmp_path)
    assert (state.step, state.losses) == (600, (600.0, 600))


def test_accumulated_batches_are_one_large_batch(tmp_path):
    """Their mean gradient: compared where the loss is a mean over patches (one-patch batches, and both in one)."""
    apart = loop(tmp_path, steps=1, optimiser={"accumulate": 2, "name": "sgd", "clip": 1e9})
    batches = [apart.loader.sampler(number) for number in (0, 1)]
    apart.network.train()
    for image, classes in batches:
        apart._gradients(image, classes, 0)
    together = loop(tmp_path, steps=1)
    together.network.train()
    losses = [together.criterion(together.network(image), classes) for image, classes in batches]
    (sum(losses) / 2).backward()
    for one, other in zip(apart.network.parameters(), together.network.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_the_kept_weights_are_the_average(tmp_path):
    run = loop(tmp_path, steps=6, optimiser={"ema": 0.5})
    seen = []
    run.run(lambda progress: seen.append(weights(run).clone()))
    average, start = None, weights(loop(tmp_path / "x", steps=6))
    average = start.clone()
    for step, now in enumerate(seen, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * now
    torch.testing.assert_close(weights(run), average)


def test_training_ends_early_and_keeps_the_best_weights(tmp_path, monkeypatch):
    scores = iter([0.2, 0.5, 0.4, None, 0.5, 0.3, 0.9])
    monkeypatch.setattr(module.PseudoDice, "__call__", lambda *_: dict.fromkeys(NAMES, next(scores)))
    run, kept = loop(tmp_path, steps=20, validations=10, patience=3), {}
    state = run.run(lambda progress: kept.setdefault(progress.step, weights(run).clone()))
    assert (state.step, state.total, len(state.history)) == (12, 12, 6)
    assert torch.equal(weights(run), kept[4])
    again = loop(tmp_path, steps=20, validations=10, patience=3)
    again.restore(load_checkpoint(tmp_path))
    assert again.run(QUIET).step == 12
    assert torch.equal(weights(again), kept[4])


def test_whole_cases_are_validated_as_often_as_their_share_of_time_allows(tmp_path, monkeypatch):
    clock, asked = Clock(monkeypatch, first=1.0, dice=0.0), []

    def validate(network, seconds):
        assert not network.training
        assert seconds == run.state.seconds
        asked.append(run.state.step)
        torch.rand(5)
        clock.now += 3.0
        return 0.5

    run = loop(tmp_path, steps=200, validations=10, validate=validate)
    state = run.run(QUIET)
    assert asked == [20, 80, 140, 200]  # 3 of 20 seconds, so every third milestone
    assert [m.validation for m in state.history] == [0.5, None, None, 0.5, None, None, 0.5, None, None, 0.5]
    assert load_checkpoint(tmp_path).validation_interval == 3


def test_validation_changes_no_loss(tmp_path):
    histories = []
    for name, more in (("a", {}), ("b", {"validate": lambda network, seconds: float(torch.rand(1))})):
        run = loop(tmp_path / name, steps=6, **more)
        drop_out(run.network)
        histories.append([m.loss for m in run.run(QUIET).history])
    assert histories[0] == histories[1]


def test_averaged_weights_are_what_milestones_measure(tmp_path, monkeypatch):
    """By pseudo-Dice and on whole cases, and training goes on with its own."""
    measured = []

    def keep(network, *_):
        measured.append(torch.cat([tensor.flatten().clone() for tensor in network.state_dict().values()]))
        return 0.5

    monkeypatch.setattr(module.PseudoDice, "__call__", lambda _, network, *more: keep(network) and dict.fromkeys(NAMES))
    run = loop(tmp_path, steps=4, validations=1, optimiser={"ema": 0.9}, validate=keep)
    trained = []
    run.run(lambda progress: trained.append(weights(run).clone()))
    assert len(measured) == 2
    assert all(torch.equal(each, weights(run)) for each in measured)  # the kept weights are the average
    assert not torch.equal(measured[0], trained[-1])


def test_every_step_has_its_line(tmp_path):
    state = loop(tmp_path, steps=5, validations=1).run(QUIET)
    lines = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert sum(line["loss"] for line in lines) / 5 == state.history[0].loss
    assert lines[-1]["learning_rate"] == state.history[0].learning_rate


def test_batches_may_be_changed_on_the_device(tmp_path):
    seen = []

    def blank(image, classes, number):
        seen.append(number)
        return image, torch.full_like(classes, -1)

    run = loop(tmp_path, steps=2, augment=blank, optimiser={"accumulate": 2, "weight_decay": 0})
    before = weights(run).clone()
    run.run(QUIET)
    assert seen == [0, 1, 2, 3]
    assert torch.equal(weights(run), before)


def test_another_number_of_threads_is_set_back(tmp_path):
    threads = torch.get_num_threads()
    try:
        with pytest.raises(StopError):
            loop(tmp_path, steps=4).run(until(3))
        torch.set_num_threads(threads + 1)
        rest = loop(tmp_path, steps=4)
        rest.restore(load_checkpoint(tmp_path))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)


def test_a_run_goes_on_where_losses_are_scaled(tmp_path):
    begun = loop(tmp_path, steps=4)
    begun.run(lambda _: None)
    rest = loop(tmp_path, steps=4)
    rest.scaler = torch.amp.GradScaler("cpu")  # as on a GPU without bfloat16
    rest.restore(load_checkpoint(tmp_path))
    assert rest.state.step == 4
    assert rest.scaler.get_scale() == 2.0**16
