"""Event files read back by TensorBoard itself."""

import pytest

from helpers.full_disk import fill, small_disk
from helpers.training_cases import loop
from training.test_loop import StopError, stop_before_checkpoint
from voxelry.training.checkpoint import load_checkpoint
from voxelry.training.tracking import track_result
from voxelry.training.tracking_tensorboard import TensorBoard

QUIET = lambda progress: None  # noqa: E731


def read_back(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def scalars(folder):
    events = read_back(folder)
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_a_run_read_back(tmp_path):
    run = loop(tmp_path, steps=20, validations=4, track=["tensorboard"])
    state = run.run(QUIET)
    track_result(run.config, run.plan, tmp_path, state, {"dice/spine": 0.75}, tmp_path / "model")
    got = scalars(tmp_path)
    assert [step for step, _ in got["loss"]] == [10, 20]
    assert got["pseudo_dice"] == [(m.step, pytest.approx(m.pseudo_dice)) for m in state.history]
    assert got["pseudo_dice/left kidney"] == [(m.step, pytest.approx(m.per_label["left kidney"])) for m in state.history]
    assert got["learning_rate"][1] == (20, pytest.approx(state.history[-1].learning_rate))
    assert got["validation/dice/spine"] == [(20, 0.75)]
    events = read_back(tmp_path)
    recipe, model = (events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0] for name in ("recipe", "model"))
    assert b"optimiser:" in recipe
    assert str(tmp_path / "model").encode() == model


def test_a_resumed_run_goes_on_without_duplicates(tmp_path, monkeypatch):
    settings = {"steps": 40, "validations": 4, "track": ["tensorboard"]}
    loop(tmp_path / "whole", **settings).run(QUIET)
    with monkeypatch.context() as patch:
        stop_before_checkpoint(patch, 30)
        with pytest.raises(StopError):
            loop(tmp_path / "parts", **settings).run(QUIET)
    rest = loop(tmp_path / "parts", **settings)
    rest.restore(load_checkpoint(tmp_path / "parts"))
    assert rest.state.step == 20
    rest.run(QUIET)
    got, expected = scalars(tmp_path / "parts"), scalars(tmp_path / "whole")
    for times in (got, expected):
        times.pop("milestone/seconds"), times.pop("milestone/waited")
    assert got == expected


def test_a_full_disk_is_raised_and_not_printed(tmp_path, capfd):
    with small_disk(tmp_path / "disk", 64) as folder:
        board = TensorBoard(folder, 0)
        board.measure(0, {"loss": 1.0})
        board.flush()
        fill(folder)
        with pytest.raises(OSError, match="No space left"):  # noqa: PT012
            for step in range(100):
                board.measure(step, {"loss": 1.0})
                board.flush()
        with pytest.raises(OSError, match="No space left"):
            board.close()
    assert "Traceback" not in capfd.readouterr().err
