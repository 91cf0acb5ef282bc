"""Progress and tables fit a terminal of 80 columns, and a file of lines stays short."""

import io

import pytest
from rich.console import Console

from voxelry.base.progress import BatchProgress, TrainingStep
from voxelry.cli import terminal
from voxelry.formats.inspection import InspectRow

LATE = TrainingStep(step=12345, total=20000, loss=12.345, pseudo_dice=0.8125, seconds_left=7384.0)
EARLY = TrainingStep(step=1, total=None, loss=1.5, pseudo_dice=None, seconds_left=None)


def test_nothing_is_squeezed_in_80_columns():
    file = io.StringIO()
    bars = terminal.Bars(Console(file=file, width=80, force_terminal=True, color_system=None, legacy_windows=False))
    with bars as shown:
        for name in ("making phantoms", "looking at cases", "preparing cases", "validating", "segmenting"):
            shown(name, 1000, 1000)
        for step in (EARLY, LATE):
            shown.on_step(step)
            shown("training", step.step, step.total)
        shown.on_batch(BatchProgress(100000, 12345, 100000, 12345.6, 444000.0))
        shown("segmenting", 112345, 212345)
    last = file.getvalue()
    assert "…" not in last
    for words in (
        "looking at cases",
        "1000/1000",
        "12345/20000",
        "loss 12.345 pseudo-Dice 0.812 123:04 left",
        "12345 failed, 12346/h, 123.3 h left",
    ):
        assert words in last


def test_before_the_steps_are_known_nothing_is_claimed():
    assert terminal._count(EARLY.step, EARLY.total) == "1/?"
    assert EARLY.note == "loss 1.500"


def test_lines_are_few(capsys):
    clock = iter(range(100))
    with terminal.Lines(lambda: next(clock)) as shown:
        shown("preparing cases", 1, 2)
        shown("preparing cases", 2, 2)
        for step in range(1, 31):
            shown.on_step(TrainingStep(step=step, total=30, loss=0.5, pseudo_dice=0.25, seconds_left=30.0 - step))
            shown("training", step, 30)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "preparing cases: 2/2",
        "training: 1/30  loss 0.500 pseudo-Dice 0.250 0:29 left",
        "training: 11/30  loss 0.500 pseudo-Dice 0.250 0:19 left",
        "training: 21/30  loss 0.500 pseudo-Dice 0.250 0:09 left",
        "training: 30/30  loss 0.500 pseudo-Dice 0.250 0:00 left",
    ]


def test_a_long_stage_says_how_it_goes_every_few_seconds(capsys):
    clock = iter([0, 4, 8, 12, 16, 20, 24, 28])
    with terminal.Lines(lambda: next(clock)) as shown:
        for case in range(1, 8):
            shown("scoring", case, 7)
        shown("patches", 1, 50)
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 4/7  0:12 left",
        "scoring: 7/7",
    ]


def test_a_line_of_a_batch_says_how_it_goes(capsys):
    with terminal.Lines(lambda: 100.0) as shown:
        shown.on_batch(BatchProgress(1, 0, 3, 60.0, 180.0))
        shown("segmenting", 1, 4)
        shown.on_batch(BatchProgress(2, 1, 1, 60.0, 60.0))
        shown("segmenting", 3, 4)  # soon after the last line
    assert capsys.readouterr().err.splitlines() == ["segmenting: 1/4  60/h, 3:00 left"]


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, terminal.Bars), (False, terminal.Lines)])
def test_bars_are_for_terminals(monkeypatch, is_terminal, kind):
    monkeypatch.setattr("sys.stderr", type("Stream", (io.StringIO,), {"isatty": lambda _: is_terminal})())
    assert type(terminal.progress()) is kind


def test_what_was_found_is_a_table():
    grid = {"shape": (1, 2, 3, 4), "spacing": (0.5, 1, 2), "readable": True, "reason": "3D"}
    volume = InspectRow("/d/[red]/a b.nii", "nifti", orientation="RAS", remarks=("r",), **grid)
    facts = {"facts": {"echo": "2"}, "tilt": -14.0, "gaps": 3, "duplicates": 1}
    series = InspectRow("/d/s", "dicom", key="1.2/echo=2", patient="patient-1", modality="CT", n_files=4, **facts, **grid)
    bad = InspectRow("/d/c.nii", "", reason="no image")
    junk = InspectRow("/d/junk.txt", "", kind="other", reason="text")
    console = Console(width=200, file=io.StringIO())
    console.print(terminal.inspect_table([volume, series, bad, junk]))
    text = console.file.getvalue()
    for shown in (
        "[red]/a b.nii", "0.5 x 1 x 2", "RAS", "yes: 3D", "--series 1.2/echo=2", "patient-1", "echo 2", "tilt -14 degrees",
        "3 missing", "1 duplicates", "4 files", "no: no image", "in /d; 1 other files that are no scans",
    ):  # fmt: skip
        assert shown in text
    assert "junk.txt" not in text
