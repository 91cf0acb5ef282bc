import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.recipes.recipe import Config
from voxelry.training.checkpoint import Revision, RunState
from voxelry.training.length import TIMED_STEPS, TrainingLength, recipe_steps


def config(**settings):
    return Config.model_validate({"manifest": "m.yaml"} | settings)


def walk(length, state, paces, dice=0.0):
    """Steps of given seconds until the run is over; the decay at each of them."""
    length.start(state)
    decays = []
    for pace in paces:
        if state.total is not None and state.step >= state.total:
            break
        decays.append(length.decay(state))
        state.step += 1
        state.seconds += pace
        length.add_step(pace)
        length.revise(state)
    return decays


@pytest.mark.parametrize(
    ("settings", "steps"), [({"steps": 7}, 7), ({"epochs": 2}, 26), ({"time_budget": 60}, None), ({"steps": 3, "epochs": 9}, 3)]
)
def test_given_steps(settings, steps):
    assert recipe_steps(config(**settings), cases=51, patches=4) == steps


@pytest.mark.parametrize(("total", "warm_up"), [(1, 0), (2, 1), (10, 5), (48, 24), (400, 24)])
def test_the_decay_of_a_given_number_is_a_line_after_the_warm_up(total, warm_up):
    length = TrainingLength(config(steps=total), total)
    assert length.warm_up == warm_up
    decays = walk(length, RunState(), [1.0] * total)
    np.testing.assert_allclose(decays, np.maximum(0, np.arange(total) - warm_up) / (total - warm_up))


@given(
    st.lists(st.floats(0.02, 5.0), min_size=1, max_size=6),
    st.floats(20.0, 600.0),
    st.integers(0, 60),
)
def test_a_budget_is_kept_however_the_pace_changes(paces, budget, warm_up):
    """The decay never falls, and only a standstill at the very end keeps it from ending."""
    length = TrainingLength(config(time_budget=budget, validations=1, optimiser={"warm_up": warm_up}), None)
    state = RunState()
    every = max(1, int(budget / 6 / np.mean(paces)))
    run = (pace for _ in range(10_000) for pace in paces for _ in range(every))
    decays = walk(length, state, run)
    assert state.step == state.total
    assert state.seconds <= budget + max(paces)
    assert (np.diff(decays) >= -1e-12).all()
    assert 0 <= min(decays) <= max(decays) < 1


@given(st.floats(0.05, 1.0), st.floats(0.8, 1.25))
def test_an_even_pace_sets_the_number_once(pace, noise):
    length = TrainingLength(config(time_budget=300.0, validations=1), None)
    state = RunState()
    random = np.random.default_rng(0)
    walk(length, state, (pace * random.uniform(min(noise, 1), max(noise, 1)) for _ in range(100_000)))
    assert len(state.revisions) <= 2
    assert 0.9 * 300 < state.seconds <= 300


def test_a_budget_beside_a_number_only_shortens():
    length = TrainingLength(config(steps=1000, time_budget=100.0, validations=1), 1000)
    state = RunState()
    walk(length, state, iter(lambda: 1.0, None))
    assert 90 < state.step < 100
    fast = RunState()
    walk(TrainingLength(config(steps=1000, time_budget=100.0), 1000), fast, iter(lambda: 0.01, None))
    assert (fast.step, len(fast.revisions)) == (1000, 1)


def test_revisions_are_all_that_a_resumed_run_needs():
    state = RunState(step=50, revisions=[Revision(0, 100, 0.0, 0.0), Revision(40, 60, 0.25, 9.0)], seconds=10.0)
    assert state.total == 60
    length = TrainingLength(config(steps=100), 100)
    length.start(state)
    assert length.decay(state) == 0.25 + 0.75 * 10 / 20
    length.end(state)
    assert state.revisions[-1] == Revision(50, 50, 0.625, 10.0)


def test_the_time_left():
    length, state = TrainingLength(config(time_budget=100.0, validations=1), None), RunState(seconds=30.0)
    assert length.seconds_left(state) == 70
    state.revisions.append(Revision(24, 124, 0.0, 30.0))
    state.step = 24
    assert length.seconds_left(state) is None
    for _ in range(TIMED_STEPS):
        length.add_step(0.5)
    length.add_milestone(4.0)
    assert length.seconds_left(state) == pytest.approx(100 * 0.5 + 4.0)
    assert TrainingLength(config(steps=5), 5).seconds_left(RunState()) is None
