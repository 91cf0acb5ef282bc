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

    @property
    def note(self) -> str:
        """Loss, pseudo-Dice and time left in words."""
        dice = "" if self.pseudo_dice is None else f" pseudo-Dice {self.pseudo_dice:.3f}"
        left = "" if self.seconds_left is None else f" {clock(self.seconds_left)} left"
        return f"loss {self.loss:.3f}{dice}{left}"


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

    @property
    def note(self) -> str:
        """What failed, the rate and the time left in words."""
        failed = f"{self.failed} failed" if self.failed else ""
        rate = "" if self.per_hour is None else f"{self.per_hour:.0f}/h"
        left = "" if self.seconds_left is None else f"{duration(self.seconds_left)} left"
        return ", ".join(filter(None, (failed, rate, left)))


BatchCallback = Callable[[BatchProgress], None]
"""Called after every scan of a batch, just before its `ProgressCallback`."""


def no_batch(batch: BatchProgress) -> None:
    """Show nothing: the default of every `on_batch`."""


def no_progress(what: str, done: int, total: int | None) -> None:
    """Show nothing: the default of every `progress`."""


def no_step(step: TrainingStep) -> None:
    """Show nothing: the default of every `on_step`."""


def clock(seconds: float) -> str:
    """Minutes and seconds, such as ``3:05``."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def duration(seconds: float) -> str:
    """Minutes and seconds, or of more than an hour its hours, such as ``26.1 h``."""
    return f"{seconds / 3600:.1f} h" if seconds > 3600 else clock(seconds)


class Pace:
    """How long a stage still takes at the rate since it began; one that begins anew counts anew.

    Args:
        now: seconds.
        done: units done when it began.
    """

    def __init__(self, now: float, done: int) -> None:
        self._began, self._before, self._last = now, done, done

    @property
    def began(self) -> float:
        """Seconds at which the stage began."""
        return self._began

    def left(self, now: float, done: int, total: int | None) -> str:
        """The time left in words, as of `time_left`, after another unit.

        Args:
            now: seconds.
            done: units done.
            total: units in all.
        """
        if done < self._last:
            self._began, self._before = now, done
        self._last = done
        return time_left(now - self._began, done - self._before, None if total is None else total - self._before)


def time_left(seconds: float, done: int, total: int | None) -> str:
    """The time that a stage still takes at the rate so far, such as ``3:05 left``; empty where that is not known.

    Args:
        seconds: since the stage began.
        done: units done since then.
        total: units in all.
    """
    return f"{duration(seconds / done * (total - done))} left" if done > 0 and total is not None and done < total else ""
