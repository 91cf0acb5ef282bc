"""Progress callbacks: `ProgressCallback` for every verb and stage, `StepCallback` for training, `BatchCallback` for many scans.

A `ProgressCallback` is called with three values and no more, so that ``lambda what, done, total: ...`` serves everywhere.
Training passes details of a step (loss, pseudo-Dice, time left) to a separate callback, `on_step`, just before: a fourth argument
would break callbacks of three as soon as training begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ProgressCallback = Callable[[str, int, int | None], None]
"""Called with the current task (such as ``preparing cases``), the number of units done, and their total (None while unknown)."""


@dataclass(frozen=True)
class TrainingStep:
    """Progress after a training step.

    Attributes:
        step, total: steps done, and in all (None while a time budget is still being turned into steps).
        loss: running mean.
        pseudo_dice: the latest, None before the first.
        seconds_left: estimated, None while unknown.
    """

    step: int
    total: int | None
    loss: float
    pseudo_dice: float | None
    seconds_left: float | None


StepCallback = Callable[[TrainingStep], None]
"""Called after every step of training."""


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch of scans is.

    Attributes:
        done, failed, left: scans.
        per_hour: scans that ended per hour, of this run; None before the first.
        seconds_left: at this rate, None while unknown.
    """

    done: int
    failed: int
    left: int
    per_hour: float | None = None
    seconds_left: float | None = None


BatchCallback = Callable[[BatchProgress], None]
"""Called after every scan of a batch, just before its `ProgressCallback`."""


def no_batch(batch: BatchProgress) -> None:
    """Show nothing: the default of every `on_batch`."""


def no_progress(what: str, done: int, total: int | None) -> None:
    """Show nothing: the default of every `progress`."""


def no_step(step: TrainingStep) -> None:
    """Show nothing: the default of every `on_step`."""
