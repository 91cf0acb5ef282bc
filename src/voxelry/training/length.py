"""How many steps a run has: given, by epochs, or as many as fit a time budget, which the machine's pace tells.

The number is recorded each time it is set (`Revision`), so that a resumed run ends where the whole one would have ended.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from voxelry.recipes.recipe import Config
from voxelry.training.checkpoint import Revision, RunState

TIMED_STEPS = 24
"""Steps after which a time budget is turned into a number of steps; the first third, which warms caches up, is not timed."""
AIM = 0.98
"""Share of a time budget that is planned for: a run that is cut off misses the end of its learning rate's decay."""
LATE, EARLY = 1.0, 0.95
"""The number of steps is set anew where the run would end after, or before, these shares of its budget."""
RECENT = 50
"""Steps by whose pace the time left is told."""
CHECKS = 8
"""The pace is looked at anew whenever this part, one in so many, of the remaining time has gone by."""


def given_steps(config: Config, cases: int, windows: int) -> int | None:
    """Steps that a recipe asks for by itself, None where only a time budget ends it.

    Args:
        config: the recipe.
        cases: training cases.
        windows: of a step. An epoch is as many steps as show every case once.
    """
    if config.steps is not None:
        return config.steps
    return None if config.epochs is None else config.epochs * math.ceil(cases / windows)


class Length:
    """The number of steps of a run, and how far its learning rate's decay is.

    Args:
        config: the recipe.
        given: steps that it asks for, None where only its time budget ends it.
    """

    def __init__(self, config: Config, given: int | None) -> None:
        self.budget, self.given = config.time_budget, given
        self.validations = config.validations
        self.warm_up = config.optimiser.warm_up if given is None else min(config.optimiser.warm_up, given // 2)
        self.steps: deque[float] = deque(maxlen=10 * TIMED_STEPS)
        self.milestones: list[float] = []
        self.looked_at: tuple[int, float] | None = None

    def start(self, state: RunState) -> None:
        """Record the number of steps where it is given."""
        if self.given is not None and not state.revisions:
            state.revisions.append(Revision(0, self.given, 0.0, 0.0))

    def decay(self, state: RunState) -> float:
        """How much of the learning rate's decay is done, 0..1."""
        if not state.revisions:
            return 0.0
        last = state.revisions[-1]
        first = max(last.step, self.warm_up)
        return last.share + (1 - last.share) * max(0, state.step - first) / max(1, last.total - first)

    def timed(self, seconds: float) -> None:
        """A step took so long."""
        self.steps.append(seconds)

    def timed_milestone(self, seconds: float) -> None:
        """The measurements of a milestone took so long."""
        self.milestones.append(seconds)

    def revise(self, state: RunState) -> bool:
        """Set the number of steps, anew where the pace has changed; True where it was set."""
        if self.budget is None or state.step == state.total:
            return False
        if state.seconds > self.budget:
            return self._set(state, state.step)
        if self.looked_at is None:
            self.looked_at = state.step - len(self.steps), state.seconds - sum(self.steps)
        if state.total is None:
            return len(self.steps) >= TIMED_STEPS and self._set(state, self._fitting(state, TIMED_STEPS * 2 // 3))
        since = state.step - self.looked_at[0]
        if since < TIMED_STEPS or CHECKS * (state.seconds - self.looked_at[1]) < self.budget - state.seconds:
            return False
        self.looked_at = state.step, state.seconds
        end = state.seconds + self._pace(since) * (state.total - state.step) + self._measuring(state, since)
        if end > LATE * self.budget or (end < EARLY * self.budget and state.total != self.given):
            return self._set(state, self._fitting(state, since))
        return False

    def end(self, state: RunState) -> None:
        """Record that the run ends here."""
        self._set(state, state.step)

    def seconds_left(self, state: RunState) -> float | None:
        """Of the run, by its pace; None while unknown."""
        if state.total is None:
            return None if self.budget is None else max(0.0, self.budget - state.seconds)
        if state.step == state.total:
            return 0.0
        if len(self.steps) < 3:
            return None
        return self._pace(RECENT) * (state.total - state.step) + self._measuring(state, RECENT)

    def _set(self, state: RunState, total: int) -> bool:
        if total == state.total:
            return False
        state.revisions.append(Revision(state.step, total, self.decay(state), state.seconds))
        self.looked_at = state.step, state.seconds
        return True

    def _fitting(self, state: RunState, timed: int) -> int:
        """Steps that fit the budget by the pace of the last ones."""
        assert self.budget is not None
        left = AIM * self.budget - state.seconds - self._measuring(state, timed)
        fitting = state.step + max(1, int(left / self._pace(timed)))
        return fitting if self.given is None else min(fitting, self.given)

    def _pace(self, timed: int) -> float:
        """Seconds of a step, a mean of the last ones."""
        return max(1e-9, float(np.mean(list(self.steps)[-timed:])))

    def _measuring(self, state: RunState, timed: int) -> float:
        """Seconds that the milestones to come will take, about three steps each where none has been timed."""
        one = float(np.mean(self.milestones)) if self.milestones else 3 * self._pace(timed)
        return one * max(0, self.validations - len(state.history))
