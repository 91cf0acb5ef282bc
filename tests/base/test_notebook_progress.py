"""Progress in a notebook: what IPython is sent, and the time left."""

import re

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from voxelry.base.notebook_progress import NotebookProgress
from voxelry.base.progress import TrainingStep, time_left


@pytest.fixture
def cell():
    """What a cell displays: ``(html, whether it replaces the drawing before)``."""
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
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
