"""Length of training: the number of steps, from steps, epochs, or a time budget and the measured time of a step.

The number is recorded each time it is set (`Revision`), so that a resumed run ends where an uninterrupted one would.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from voxelry.recipes.recipe import Config
from voxelry.training.checkpoint import Revision, RunState

TIMED_STEPS = 24
"""Steps after which a time budget is turned into a number of steps; the first third, which warms up caches, is not timed."""
AIM = 0.98
"""Share of a time budget that is planned for: a run that is cut off misses the end of its learning rate's decay."""
LATE, EARLY = 1.0, 0.95
"""The number of steps is revised where the run would end after, or before, these shares of its budget."""
RECENT = 50
"""Steps from whose mean time the time left is estimated."""
CHECKS = 8
"""The time of a step is checked again whenever one part in `CHECKS` of the remaining time has passed."""


def recipe_steps(config: Config, cases: int, patches: int) -> int | None:
    """The steps that a recipe asks for, None where only a time budget ends training.

    Args:
        config: the recipe.
        cases: training cases.
        patches: patches per step. An epoch has as many steps as are needed to see every case once.
    """
    if config.steps is not None:
        return config.steps
    return None if config.epochs is None else config.epochs * math.ceil(cases / patches)


class TrainingLength:
    """The number of steps of a run, and the progress of its learning rate's decay.

    Args:
        config: the recipe.
        fixed: steps that it asks for, None where only its time budget ends training.
    """

    def __init__(self, config: Config, fixed: int | None) -> None:
        self.budget, self.fixed = config.time_budget, fixed
        self.validations = config.validations
        self.warm_up = config.optimiser.warm_up if fixed is None else min(config.optimiser.warm_up, fixed // 2)
        self.steps: deque[float] = deque(maxlen=10 * TIMED_STEPS)
        self.milestones: list[float] = []
        self.checked_at: tuple[int, float] | None = None

    def start(self, state: RunState) -> None:
        """Record the number of steps where it is fixed."""
        if self.fixed is not None and not state.revisions:
            state.revisions.append(Revision(0, self.fixed, 0.0, 0.0))

    def decay(self, state: RunState) -> float:
        """The share of the learning rate's decay that is done, 0..1."""
        if not state.revisions:
            return 0.0
        last = state.revisions[-1]
        first = max(last.step, self.warm_up)
        return last.share + (1 - last.share) * max(0, state.step - first) / max(1, last.total - first)

    def add_step(self, seconds: float) -> None:
        """Record the time of a step."""
        self.steps.append(seconds)

    def add_milestone(self, seconds: float) -> None:
        """Record the time that a milestone's measurements took."""
        self.milestones.append(seconds)

    def revise(self, state: RunState) -> bool:
        """Set the number of steps, or revise it where the time of a step has changed; True where it was set."""
        if self.budget is None or state.step == state.total:
            return False
        if state.seconds > self.budget:
            return self._set(state, state.step)
        if self.checked_at is None:
            self.checked_at = state.step - len(self.steps), state.seconds - sum(self.steps)
        if state.total is None:
            return len(self.steps) >= TIMED_STEPS and self._set(state, self._fitting(state, TIMED_STEPS * 2 // 3))
        since = state.step - self.checked_at[0]
        if since < TIMED_STEPS or CHECKS * (state.seconds - self.checked_at[1]) < self.budget - state.seconds:
            return False
        self.checked_at = state.step, state.seconds
        end = state.seconds + self._step_seconds(since) * (state.total - state.step) + self._milestone_seconds(state, since)
        if end > LATE * self.budget or (end < EARLY * self.budget and state.total != self.fixed):
            return self._set(state, self._fitting(state, since))
        return False

    def end(self, state: RunState) -> None:
        """Record that the run ends here."""
        self._set(state, state.step)

    def seconds_left(self, state: RunState) -> float | None:
        """Seconds left of the run, by the time of recent steps; None while unknown."""
        if state.total is None:
            return None if self.budget is None else max(0.0, self.budget - state.seconds)
        if state.step == state.total:
            return 0.0
        if len(self.steps) < 3:
            return None
        return self._step_seconds(RECENT) * (state.total - state.step) + self._milestone_seconds(state, RECENT)

    def _set(self, state: RunState, total: int) -> bool:
        if total == state.total:
            return False
        state.revisions.append(Revision(state.step, total, self.decay(state), state.seconds))
        self.checked_at = state.step, state.seconds
        return True

    def _fitting(self, state: RunState, timed: int) -> int:
        """The steps that fit the budget, by the mean time of the last `timed` ones."""
        assert self.budget is not None
        seconds = AIM * self.budget - state.seconds - self._milestone_seconds(state, timed)
        fitting = state.step + max(1, int(seconds / self._step_seconds(timed)))
        return fitting if self.fixed is None else min(fitting, self.fixed)

    def _step_seconds(self, timed: int) -> float:
        """Seconds of a step, a mean of the last `timed` ones."""
        return max(1e-9, float(np.mean(list(self.steps)[-timed:])))

    def _milestone_seconds(self, state: RunState, timed: int) -> float:
        """Seconds that the remaining milestones will take, about three steps each where none has been timed."""
        each = float(np.mean(self.milestones)) if self.milestones else 3 * self._step_seconds(timed)
        return each * max(0, self.validations - len(state.history))
