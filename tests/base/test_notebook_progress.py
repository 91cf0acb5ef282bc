"""Progress in a notebook: what IPython is sent, and the time left."""

import re
from inspect import signature

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import voxelry as vx
from voxelry.base.notebook_progress import NotebookProgress, shows_progress
from voxelry.base.progress import ProgressCallback, StepCallback, TrainingStep, no_progress, no_step, time_left


class Kernel(InteractiveShell):
    """A shell that a kernel runs, as in a notebook."""

    kernel = object()


@pytest.fixture
def cell(request):
    """What a cell displays: ``(html, whether it replaces the drawing before)``."""
    shell = getattr(request, "param", InteractiveShell).instance(config=Config({"HistoryManager": {"enabled": False}}))
    before, shell.display_pub = shell.display_pub, CapturingDisplayPublisher(shell=shell)
    yield lambda: [(each["data"]["text/html"], each["update"]) for each in shell.display_pub.outputs]
    shell.display_pub = before
    type(shell).clear_instance()


def test_a_cell_has_one_drawing_that_is_replaced(cell):
    now = iter(range(100))
    progress = NotebookProgress(lambda: float(next(now)))
    for done in range(5):
        progress("segmenting <b>", done, 4)
    drawings = cell()
    assert [update for _, update in drawings] == [False, True, True, True, True]
    assert 'value="1" max="4"' in drawings[1][0]
    assert "0:03 left" in drawings[1][0]  # one a second, three to go
    assert "left" not in drawings[4][0]
    assert "segmenting &lt;b&gt;" in drawings[0][0]


def test_a_notebook_is_not_flooded(cell):
    now = iter(number / 100 for number in range(1000))
    progress = NotebookProgress(lambda: next(now))
    for done in range(101):
        progress("patches", done, 100)
    assert 5 <= len(cell()) <= 8
    assert "100 of 100" in cell()[-1][0]


def test_a_step_of_training_has_its_own_note_and_unknown_totals_a_question_mark():
    progress = NotebookProgress()
    progress.on_step(TrainingStep(1, None, 0.5, 0.25, 65.0))
    progress("training", 1, None)
    html = progress._repr_html_()
    assert "loss 0.500 pseudo-Dice 0.250 1:05 left" in html
    assert "1 of ?" in re.sub("<[^>]*>", "", html)


@pytest.mark.parametrize(
    ("seconds", "done", "total", "text"),
    [(10, 1, 4, "0:30 left"), (10, 0, 4, ""), (10, 4, 4, ""), (10, 1, None, ""), (3600, 1, 26, "25.0 h left")],
)
def test_the_time_left_is_that_of_the_rest_at_the_rate_so_far(seconds, done, total, text):
    assert time_left(seconds, done, total) == text


# ---- verbs


def job(*, progress: ProgressCallback = no_progress, on_step: StepCallback = no_step) -> str:
    on_step(TrainingStep(1, 2, 0.5, None, None))
    progress("training", 1, 2)
    return "done"


@pytest.mark.parametrize("cell", [Kernel], indirect=True)
def test_a_verb_draws_by_itself_in_a_notebook(cell):
    assert shows_progress(job)() == "done"
    [(html, _)] = cell()
    assert "1 of 2" in html
    assert "loss 0.500" in html


@pytest.mark.parametrize("cell", [Kernel], indirect=True)
def test_the_callers_own_progress_is_called_in_place_of_the_drawing(cell):
    calls = []
    shows_progress(job)(progress=lambda *call: calls.append(call))
    assert calls == [("training", 1, 2)]
    assert cell() == []


def test_outside_of_notebooks_nothing_is_drawn(cell):
    assert shows_progress(job)() == "done"  # IPython in a terminal
    assert cell() == []


def test_every_verb_with_progress_draws_it():
    verbs = [getattr(vx, name) for name in dir(vx)]
    progressing = [verb for verb in verbs if callable(verb) and not isinstance(verb, type) and "progress" in _names(verb)]
    assert len(progressing) > 10
    assert [verb.__name__ for verb in progressing if not hasattr(verb, "__wrapped__")] == []


def _names(verb) -> list[str]:
    try:
        return [*signature(verb).parameters]
    except (TypeError, ValueError):
        return []
