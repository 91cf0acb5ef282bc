"""What the command line draws: progress bars on standard error, tables on standard output."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from voxelry.read.inspect import Found
from voxelry.train.loop import Progress as Step


class Bars:
    """One bar for each stage, one for training with loss, pseudo-Dice and time left."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description:<26}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.progress = Progress(*columns, console=Console(stderr=True))
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        self.progress.update(self._task(name), completed=done, total=total)

    def report(self, step: Step) -> None:
        """Show a training step."""
        dice = "" if step.pseudo_dice is None else f"  pseudo-Dice {step.pseudo_dice:.3f}"
        left = "" if step.seconds_left is None else f"  {_clock(step.seconds_left)} left"
        self.progress.update(
            self._task("training"), completed=step.step, total=step.total, note=f"loss {step.loss:.3f}{dice}{left}"
        )

    def _task(self, name: str) -> TaskID:
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(name, total=None, note="")
        return self.tasks[name]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def show(what: RenderableType) -> None:
    """Draw on standard output."""
    Console().print(what)


def found_rows(found: Sequence[Found]) -> list[dict[str, Any]]:
    """What `inspect` found, as JSON can hold it."""
    return [{key: str(value) if key == "path" else value for key, value in dataclasses.asdict(row).items()} for row in found]


def found_table(found: Sequence[Found]) -> Table:
    """What `inspect` found, as a table."""
    table = Table("path", "format", "modality", "shape", "spacing (mm)", "axes", "files", "reading it")
    for row in found:
        spacing = "" if row.spacing is None else " x ".join(f"{value:.4g}" for value in row.spacing)
        shape = "" if row.shape is None else " x ".join(map(str, row.shape))
        verdict = "; ".join(("yes", *row.remarks)) if row.readable else row.reason
        table.add_row(
            str(row.path), row.format, row.modality or "", shape, spacing, row.orientation or "", str(row.n_files), verdict
        )
    return table
