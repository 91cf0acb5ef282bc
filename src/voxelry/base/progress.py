"""Progress of long work: the one type of callback that every verb and every stage takes, and what training tells besides.

A `ProgressCallback` is called with three values and no more, so that ``lambda what, done, total: ...`` serves everywhere.
Training knows more of a step (loss, pseudo-Dice, time left) and tells it to a callback of its own, `on_step`, just before: a
fourth argument would break callbacks of three as soon as training begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ProgressCallback = Callable[[str, int, int | None], None]
"""Called with what is being done (such as ``preparing cases``), how much of it is done, and how much there is in all (None while
that is not known)."""


@dataclass(frozen=True)
class TrainingStep:
    """What is known after a step of training.

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


def no_progress(what: str, done: int, total: int | None) -> None:
    """Show nothing: the default of every `progress`."""


def no_step(step: TrainingStep) -> None:
    """Show nothing: the default of every `on_step`."""
