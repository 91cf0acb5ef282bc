from typing import get_args

import pytest

from helpers.plans import tiny_plan
from helpers.training_cases import loop
from voxelry.base import extras
from voxelry.errors import MissingExtraError, TrainingError
from voxelry.recipes.recipe import Config
from voxelry.training import tracking as module
from voxelry.training.checkpoint import RunState, load_checkpoint
from voxelry.training.tracking import EVERY, Tracking, flat, track_result


class Notes:
    """A tracker that remembers."""

    def __init__(self):
        self.texts, self.parameters, self.values, self.facts, self.closed = {}, {}, [], {}, 0

    def describe(self, texts, parameters):
        self.texts, self.parameters = texts, parameters

    def measure(self, step, values):
        self.values += [(step, name, value) for name, value in values.items()]

    def flush(self):
        self.values.append("flushed")

    def finish(self, facts):
        self.facts = facts

    def close(self):
        self.closed += 1


@pytest.fixture
def notes(monkeypatch):
    kept = Notes()
    for name in module.TRACKERS:
        monkeypatch.setitem(module.TRACKERS, name, lambda *_: kept)
    return kept


def test_every_tracker_that_a_recipe_may_name_has_its_row():
    names = get_args(get_args(Config.model_fields["track"].annotation)[0])
    assert set(module.TRACKERS) == set(names)


def test_what_is_tracked(notes, tmp_path):
    run = loop(tmp_path, steps=2 * EVERY, validations=2, track=["mlflow"], validate=lambda network, seconds: 0.5)
    losses = []
    state = run.run(lambda progress: losses.append(progress.loss))
    assert "optimiser:" in notes.texts["recipe"]
    assert "patch_size:" in notes.texts["plan"]
    assert (notes.parameters["optimiser.name"], notes.parameters["steps"]) == ("adamw", "20")
    got = [value for value in notes.values if value != "flushed"]
    assert [value for value in got if value[1] == "loss"] == [(10, "loss", losses[9]), (20, "loss", losses[19])]
    first = state.history[0]
    assert (10, "learning_rate", first.learning_rate) in got
    assert (10, "pseudo_dice", first.pseudo_dice) in got
    assert (10, "pseudo_dice/spine", first.per_label["spine"]) in got
    assert (10, "validation", 0.5) in got
    assert (10, "milestone/loss", first.loss) in got
    assert notes.values.count("flushed") == 2
    assert notes.closed == 1
    track_result(run.config, run.plan, tmp_path, state, {"dice/spine": 0.9}, tmp_path / "model")
    assert notes.values[-1] == (20, "validation/dice/spine", 0.9)
    assert notes.facts == {"model": str(tmp_path / "model")}
    assert notes.closed == 2


def test_a_resumed_run_does_not_describe_itself_again(notes, tmp_path):
    loop(tmp_path, steps=4, track=["tensorboard"]).run(lambda _: None)
    notes.texts = {}
    rest = loop(tmp_path, steps=4, track=["tensorboard"])
    rest.restore(load_checkpoint(tmp_path))
    rest.run(lambda _: None)
    assert notes.texts == {}


def test_trackers_are_closed_when_training_fails(notes, tmp_path):
    with pytest.raises(ZeroDivisionError):
        loop(tmp_path, steps=4, track=["tensorboard"]).run(lambda _: 1 / 0)
    assert notes.closed == 1


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_tracker_that_is_not_installed_names_its_extra(name, monkeypatch, tmp_path):
    def missing(module):
        raise ImportError(module)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    config = Config(manifest="m.yaml", steps=1, track=(name,))
    with pytest.raises(MissingExtraError, match=rf"track: {name} needs '{name}'.*pip install 'voxelry\[track\]'"):
        Tracking(config, tiny_plan(), tmp_path, RunState()).__enter__()


def test_nothing_is_opened_where_nothing_is_asked_for(tmp_path):
    with Tracking(Config(manifest="m.yaml", steps=1), tiny_plan(), tmp_path, RunState()) as tracking:
        assert tracking.trackers == {}
    assert list(tmp_path.iterdir()) == []


def test_settings_are_flattened_by_their_names():
    assert flat({"a": 1, "b": {"c": [1, 2], "d": {"e": None}}}) == {"a": "1", "b.c": "[1, 2]", "b.d.e": "None"}


def test_a_tracker_that_cannot_record_ends_in_one_error_with_its_cause(notes, tmp_path, monkeypatch):
    def full(step, values):
        try:
            raise ValueError("database or disk is full")
        except ValueError as error:
            raise RuntimeError("wrapped by the service\nin many lines") from error

    monkeypatch.setattr(notes, "measure", full)
    run = loop(tmp_path, steps=EVERY, validations=1, track=["mlflow"])
    with pytest.raises(TrainingError, match=r"mlflow cannot record the run \(database or disk is full\).*--resume"):
        run.run(lambda progress: None)
    assert notes.closed == 1
