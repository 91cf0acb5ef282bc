"""What the command line draws: progress on standard error, tables on standard output.

Progress is a bar a stage where standard error is a terminal, and a line now and then where it is a file or a pipe.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

if TYPE_CHECKING:
    from voxelry.read.inspect import Found
    from voxelry.train.loop import Progress as Step

SECONDS_BETWEEN_LINES = 10.0
_NAME, _BAR, _COUNT, _NOTE = 16, 8, 11, 41
"""Widths of the columns: with the spaces between them they fit a terminal of 80."""


def progress() -> Bars | Lines:
    """Bars or lines, by what standard error is."""
    return Bars() if sys.stderr.isatty() else Lines()


class Bars:
    """One bar for each stage, one for training with loss, pseudo-Dice and time left.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console | None = None) -> None:
        columns = (
            TextColumn("{task.description}", table_column=_fixed(_NAME)),
            BarColumn(bar_width=_BAR, table_column=_fixed(_BAR)),
            TextColumn("{task.fields[count]}", justify="right", table_column=_fixed(_COUNT)),
            TextColumn("{task.fields[note]}", table_column=_fixed(_NOTE)),
        )
        self.progress = Progress(*columns, console=console or Console(stderr=True))
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        self._update(name, done, total, "")

    def report(self, step: Step) -> None:
        """Show a training step."""
        self._update("training", step.step, step.total, _note(step))

    def _update(self, name: str, done: int, total: int | None, note: str) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(escape(name), total=None, count="", note="")
        self.progress.update(self.tasks[name], completed=done, total=total, count=_count(done, total), note=note)


class Lines:
    """A line at the end of each stage, and every `SECONDS_BETWEEN_LINES` of training.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def stage(self, name: str, done: int, total: int) -> None:
        """Say that a stage is done."""
        if done == total:
            self._say(f"{name}: {_count(done, total)}")

    def report(self, step: Step) -> None:
        """Say how training goes, if it is time."""
        now = self.clock()
        if now >= self.due or step.step == step.total:
            self.due = now + SECONDS_BETWEEN_LINES
            self._say(f"training: {_count(step.step, step.total)}  {_note(step)}")

    def _say(self, text: str) -> None:
        Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)


def _fixed(width: int) -> Column:
    return Column(width=width, no_wrap=True, overflow="ellipsis")


def _count(done: int, total: int | None) -> str:
    return f"{done}/{'?' if total is None else total}"


def _note(step: Step) -> str:
    dice = "" if step.pseudo_dice is None else f" pseudo-Dice {step.pseudo_dice:.3f}"
    left = "" if step.seconds_left is None else f" {_clock(step.seconds_left)} left"
    return f"loss {step.loss:.3f}{dice}{left}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def show(what: RenderableType) -> None:
    """Draw on standard output."""
    Console().print(what)


def found_rows(found: Sequence[Found]) -> list[dict[str, Any]]:
    """What `inspect` found, as JSON can hold it."""
    return [dataclasses.asdict(row) for row in found]


def found_text(found: Sequence[Found]) -> str:
    """What `inspect` found: for each its path, and below it what reading it gives or why it is refused."""
    return "\n".join(f"{row.path}\n    {_verdict(row)}" for row in found)


def _verdict(row: Found) -> str:
    if not row.readable:
        return f"not readable: {row.reason.removeprefix(f'{row.path}: ')}"
    spacing = "" if row.spacing is None else " at " + " x ".join(f"{value:.4g}" for value in row.spacing) + " mm"
    files = f"{row.n_files} files" if row.n_files > 1 else ""
    grid = " x ".join(map(str, row.shape)) + spacing
    return "; ".join(filter(None, (f"{row.format} {row.modality}".strip(), grid, row.orientation, files, *row.remarks)))
