"""NotebookProgress: how far a verb is, as bars in a notebook that are redrawn in place."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from markupsafe import Markup

from voxelry.base.progress import BatchProgress, Pace, TrainingStep

Given = ParamSpec("Given")
Result = TypeVar("Result")

_SECONDS_BETWEEN = 0.2
"""Least time between two drawings: a notebook that is sent more of them lags behind."""


@dataclass
class _Stage:
    """How far one stage is."""

    pace: Pace
    done: int
    total: int | None
    note: str = ""


class NotebookProgress:
    """Bars in the output of a notebook's cell, one a stage, with the time left; outside a notebook nothing is drawn.

    Verbs that are given no `progress` draw one by themselves in a notebook (`shows_progress`). For work of your own, call it.

    Args:
        clock: monotonic seconds.

    Example:
        >>> from voxelry import NotebookProgress
        >>> progress = NotebookProgress()
        >>> progress("segmenting", 1, 4)
        >>> "1 of 4" in progress._repr_html_()
        True
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stages: dict[str, _Stage] = {}
        self._note = ""
        self._drawn = -_SECONDS_BETWEEN
        self._handle: Any = None

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Show the progress of a stage (a `ProgressCallback`)."""
        now = self._clock()
        stage = self._stages.setdefault(what, _Stage(Pace(now, done), done, total))
        stage.done, stage.total = done, total
        left = stage.pace.left(now, done, total)
        stage.note, self._note = self._note or left, ""
        if now - self._drawn >= _SECONDS_BETWEEN or done == total:
            self._drawn = now
            self._draw()

    def on_step(self, step: TrainingStep) -> None:
        """Note loss, pseudo-Dice and time left of a training step for the bar drawn next (a `StepCallback`)."""
        self._note = step.note

    def on_batch(self, batch: BatchProgress) -> None:
        """Note what failed, the rate and the time left of a batch for the bar drawn next (a `BatchCallback`)."""
        self._note = batch.note

    def _draw(self) -> None:
        """Draw below the cell that runs; the first drawing is replaced by those after it."""
        ipython = sys.modules.get("IPython")
        if ipython is None or ipython.get_ipython() is None:
            return
        if self._handle is None:
            self._handle = importlib.import_module("IPython.display").display(self, display_id=True)
        else:
            self._handle.update(self)

    def _repr_html_(self) -> str:
        rows = [
            Markup("<tr><td>{}</td><td><progress {}></progress></td><td>{} of {}</td><td>{}</td></tr>").format(
                what,
                Markup("") if stage.total is None else Markup('value="{}" max="{}"').format(stage.done, stage.total),
                stage.done,
                "?" if stage.total is None else stage.total,
                stage.note,
            )
            for what, stage in self._stages.items()
        ]
        return str(Markup("<table>{}</table>").format(Markup("").join(rows)))


def is_notebook() -> bool:
    """Whether cells of a notebook are run here: by a kernel, not by IPython in a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def shows_progress(verb: Callable[Given, Result]) -> Callable[Given, Result]:
    """A verb that draws its progress in a notebook, where its caller names no `progress`.

    Args:
        verb: takes ``progress`` by name, and may take ``on_step`` and ``on_batch``.
    """
    names = signature(verb).parameters

    @wraps(verb)
    def shown(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        if "progress" not in kwargs and is_notebook():
            drawing = NotebookProgress()
            own = {"progress": drawing, "on_step": drawing.on_step, "on_batch": drawing.on_batch}
            kwargs.update({name: value for name, value in own.items() if name in names and name not in kwargs})
        return verb(*args, **kwargs)

    return shown
