"""Terminal output: progress on standard error, tables on standard output.

Progress is one bar per stage where standard error is a terminal, and an occasional line where it is a file or a pipe.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table

from voxelry.base.progress import BatchProgress, Pace, TrainingStep, duration
from voxelry.cli.printable import PrintableContent, printable

if TYPE_CHECKING:
    from voxelry.cohort.run_status import RunStatus
    from voxelry.formats.inspection import InspectRow
    from voxelry.zoo.model_row import ModelRow

SECONDS_BETWEEN_LINES = 10.0
WIDE = 200
"""Width in characters where standard output is no terminal."""

_NAME, _BAR, _COUNT, _NOTE = 16, 6, 13, 41
"""Widths of the columns; with the spaces between them they fit a terminal of 80."""


def progress() -> Bars | Lines:
    """Bars if standard error is a terminal, else lines."""
    return Bars() if sys.stderr.isatty() else Lines()


class Bars:
    """One bar per stage with the time left; training's shows loss and pseudo-Dice too.

    Args:
        console: where to draw.
        clock: monotonic seconds.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        columns = (
            TextColumn("{task.description}", table_column=_fixed(_NAME)),
            BarColumn(bar_width=_BAR, table_column=_fixed(_BAR)),
            TextColumn("{task.fields[count]}", justify="right", table_column=_fixed(_COUNT)),
            TextColumn("{task.fields[note]}", table_column=_fixed(_NOTE)),
        )
        self.progress = Progress(*columns, console=console or Console(stderr=True))
        self.tasks: dict[str, TaskID] = {}
        self.paces: dict[str, Pace] = {}
        self.clock = clock
        self.note = ""

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Show the progress of a stage (a `ProgressCallback`)."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(escape(printable(what)), total=None, count="", note="")
            self.paces[what] = Pace(self.clock(), done)
        left = self.paces[what].left(self.clock(), done, total)
        note = self.note or left
        self.progress.update(self.tasks[what], completed=done, total=total, count=_count(done, total), note=note)
        self.note = ""

    def on_step(self, step: TrainingStep) -> None:
        """Note loss, pseudo-Dice and time left of a training step for the bar drawn next (a `StepCallback`)."""
        self.note = step.note

    def on_batch(self, batch: BatchProgress) -> None:
        """Note what failed, the rate and the time left of a batch for the bar drawn next (a `BatchCallback`)."""
        self.note = batch.note


class Lines:
    """A line at the end of each stage, and every `SECONDS_BETWEEN_LINES` of one that takes long, with the time left.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.due = 0.0
        self.paces: dict[str, Pace] = {}
        self.note = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Print that a stage is finished, or how it goes if the last line is old enough (a `ProgressCallback`)."""
        now = self.clock()
        pace = self.paces.setdefault(what, Pace(now, done))
        left = pace.left(now, done, total)
        due = self.due if self.note else max(self.due, pace.began + SECONDS_BETWEEN_LINES)
        if now >= due or done == total:
            self.due = now + SECONDS_BETWEEN_LINES if self.note or now >= due else self.due
            self._print(f"{what}: {_count(done, total)}  {self.note or left}".rstrip())
        self.note = ""

    def on_step(self, step: TrainingStep) -> None:
        """Note loss, pseudo-Dice and time left of a training step for the next line (a `StepCallback`)."""
        self.note = step.note

    def on_batch(self, batch: BatchProgress) -> None:
        """Note what failed, the rate and the time left of a batch for the next line (a `BatchCallback`)."""
        self.note = batch.note

    def _print(self, text: str) -> None:
        Console(stderr=True, soft_wrap=True, highlight=False).print(printable(text), markup=False)


def _fixed(width: int) -> Column:
    return Column(width=width, no_wrap=True, overflow="ellipsis")


def _count(done: int, total: int | None) -> str:
    return f"{done}/{'?' if total is None else total}"


def show(content: RenderableType) -> None:
    """Draw on standard output, `WIDE` characters wide in a file or pipe."""
    Console(width=None if sys.stdout.isatty() else WIDE).print(PrintableContent(content))


def status_table(status: RunStatus) -> Table:
    """How far a run is, in rows."""
    table = Table(show_header=False)
    for state, count in status.counts.items():
        table.add_row(state, str(count))
    if status.per_hour is not None:
        table.add_row("scans per hour", f"{status.per_hour:.0f}")
    if status.seconds_left is not None:
        table.add_row("time left", duration(status.seconds_left))
    if status.review:
        table.add_row("to review", str(status.review))
    for case, (worker, seconds) in status.running.items():
        table.add_row(f"running: {escape(case)}", escape(f"{worker}, for {duration(seconds)}"))
    for kind, count in status.error_classes.items():
        table.add_row(f"failed: {kind}", str(count))
    return table


def models_table(rows: Sequence[ModelRow]) -> Table:
    """Models by name, with their scores, size and licence."""
    heads = ("name", "kind", "scans", "labels", "scores of held-out cases", "MB", "licence of the data")
    table = Table(*(Column(head, overflow="fold") for head in heads))
    for row in rows:
        cases = [] if row.cases is None else [f"{row.cases} cases"]
        cells = (
            row.name,
            row.kind,
            f"{row.modality} {row.dimensions}D" if row.dimensions else "",
            ", ".join(row.labels),
            "\n".join([*(score.describe() for score in row.scores), *cases]) if not row.error else row.error,
            f"{row.bytes / 1e6:.1f}" if row.bytes else "",
            row.licence,
        )
        table.add_row(*map(escape, cells))
    return table


def inspect_rows(rows: Sequence[InspectRow]) -> list[dict[str, Any]]:
    """The rows of `inspect` as plain JSON values."""
    return [dataclasses.asdict(row) for row in rows]


def inspect_table(rows: Sequence[InspectRow]) -> Table:
    """The rows of `inspect` as a table of volumes and objects; files that are no scan are counted below it."""
    scans = [row for row in rows if row.kind != "other"]
    start = os.path.commonpath([row.path for row in scans]) if len({row.path for row in scans}) > 1 else ""
    names = any(row.name for row in scans)
    heads = ("where", "patient", "what", "size", "mm", "axes", "notes", "reading it")
    table = Table(*(Column(head, overflow="fold") for head in heads), caption=_caption(rows, start))
    for row in scans:
        where = os.path.relpath(row.path, start) if start else row.path
        cells = (
            f"{where}\n--series {row.key}" if row.key else where,
            f"{row.patient} {row.name}" if names else row.patient,
            " ".join(filter(None, (row.modality or row.format, row.description, *row.syntax))),
            " x ".join(map(str, row.shape[1:])),
            "" if row.spacing is None else " x ".join(f"{value:.4g}" for value in row.spacing),
            row.orientation or "",
            "\n".join(_notes(row)),
            _verdict(row),
        )
        table.add_row(*map(escape, cells))
    return table


def _caption(rows: Sequence[InspectRow], start: str) -> str | None:
    """The common start of the paths, and the number of files left out."""
    others = sum(row.kind == "other" for row in rows)
    notes = ([f"in {start}"] if start else []) + ([f"{others} other files that are no scans"] if others else [])
    return escape("; ".join(notes)) or None


def _notes(row: InspectRow) -> list[str]:
    """Irregularities of a volume, and facts that tell it from the others of its series."""
    counts = {"files": row.n_files if row.n_files > 1 else 0, "missing": row.gaps, "duplicates": row.duplicates}
    notes = [f"{name} {value}" for name, value in row.facts.items()]
    notes += [f"{count} {name}" for name, count in counts.items() if count]
    return notes + ([f"tilt {row.tilt:.3g} degrees"] if row.tilt else [])


def _verdict(row: InspectRow) -> str:
    if row.readable:
        return "\n".join((f"yes: {row.reason}", *row.remarks))
    return f"no: {row.reason}"
