"""Experiment tracking with TensorBoard and MLflow, through the extra `track`, besides the run's own JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import yaml

from voxelry.core.plan import Plan
from voxelry.errors import TrainingError, VoxelryError
from voxelry.recipes.recipe import Config
from voxelry.training.checkpoint import RunState

EVERY = 10
"""Steps between tracked losses."""


class Tracker(Protocol):
    """A service or file format that training is tracked with."""

    def describe(self, texts: Mapping[str, str], parameters: Mapping[str, str]) -> None:
        """Record the run at its start: whole texts and single settings, both by name."""

    def measure(self, step: int, values: Mapping[str, float]) -> None:
        """Record values at a step, by name."""

    def flush(self) -> None:
        """Write what was recorded: a checkpoint follows."""

    def finish(self, facts: Mapping[str, str]) -> None:
        """Record the end of the run, with facts such as the model's path."""

    def close(self) -> None:
        """Release the tracker."""


class Tracking:
    """All trackers that a recipe names; none by default.

    Args:
        config: the recipe.
        plan: plan of the network.
        folder: folder of the run.
        state: state of the run; it keeps what trackers need to resume.
    """

    def __init__(self, config: Config, plan: Plan, folder: Path, state: RunState) -> None:
        self.config, self.plan, self.folder, self.state = config, plan, folder, state
        self.trackers: dict[str, Tracker] = {}
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        recipe = self.config.model_dump(mode="json", exclude_none=True)
        texts = {"recipe": _yaml(recipe), "plan": _yaml(self.plan.model_dump(mode="json", exclude_none=True))}
        with ExitStack() as stack:
            for name in dict.fromkeys(self.config.track):
                with self._recording(name):
                    tracker = TRACKERS[name](self.config, self.folder, self.state)
                    stack.callback(self._close, name)
                    self.trackers[name] = tracker
                    if not self.state.step:
                        tracker.describe(texts, flat(recipe))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stack.close()

    def step(self, state: RunState, rate: float) -> None:
        """Track a step."""
        if self.trackers and state.step % EVERY == 0 and state.smooth_loss is not None:
            self._measure(state.step, {"loss": state.smooth_loss, "learning_rate": rate})

    def milestone(self, state: RunState) -> None:
        """Track the last milestone."""
        last = state.history[-1]
        values = {"milestone/loss": last.loss, "milestone/seconds": last.seconds, "milestone/waited": last.waited}
        for name, value in (("pseudo_dice", last.pseudo_dice), ("validation", last.validation)):
            values |= {} if value is None else {name: value}
        values |= {f"pseudo_dice/{name}": value for name, value in last.per_label.items() if value is not None}
        self._measure(last.step, values)
        for name, tracker in self.trackers.items():
            with self._recording(name):
                tracker.flush()

    def finish(self, scores: Mapping[str, float], facts: Mapping[str, str]) -> None:
        """Track the end: scores of whole validation cases by name, and facts such as the model's path."""
        self._measure(self.state.step, {f"validation/{name}": value for name, value in scores.items()})
        for name, tracker in self.trackers.items():
            with self._recording(name):
                tracker.finish(facts)

    def _measure(self, step: int, values: Mapping[str, float]) -> None:
        for name, tracker in self.trackers.items():
            with self._recording(name):
                tracker.measure(step, values)

    def _close(self, name: str) -> None:
        with self._recording(name):
            self.trackers[name].close()

    @contextmanager
    def _recording(self, name: str) -> Iterator[None]:
        """Whatever keeps a tracker from recording (a full disk, a server that is down) ends in one error with its first cause."""
        try:
            yield
        except VoxelryError:
            raise
        except Exception as error:
            cause: BaseException = error
            while (deeper := cause.__cause__ or cause.__context__) is not None:
                cause = deeper
            reason = next(iter(str(cause).splitlines()), type(cause).__name__)
            raise TrainingError(
                f"{self.folder}: {name} cannot record the run ({reason})", remedy="Correct that, then continue with --resume."
            ) from error


def track_result(config: Config, plan: Plan, folder: Path, state: RunState, scores: Mapping[str, float], model: Path) -> None:
    """Track the end of a run.

    Args:
        config: the recipe.
        plan: plan of the network.
        folder: folder of the run.
        state: its final state.
        scores: scores of whole validation cases, by name, such as ``dice/left kidney``.
        model: the model's folder.
    """
    with Tracking(config, plan, folder, state) as tracking:
        tracking.finish(scores, {"model": str(model)})


def flat(tree: Mapping[str, object], above: str = "") -> dict[str, str]:
    """The leaves of a tree of settings, by their names joined by dots."""
    leaves: dict[str, str] = {}
    for name, value in tree.items():
        leaves |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: str(value)}
    return leaves


def _yaml(tree: Mapping[str, object]) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)


def _tensorboard(_: Config, folder: Path, state: RunState) -> Tracker:
    from voxelry.training.tracking_tensorboard import TensorBoard

    return TensorBoard(folder, state.step)


def _mlflow(config: Config, folder: Path, state: RunState) -> Tracker:
    from voxelry.training.tracking_mlflow import MLflow

    return MLflow(folder, Path(config.manifest).stem, state.step, state.tracking)


TRACKERS: dict[str, Callable[[Config, Path, RunState], Tracker]] = {"tensorboard": _tensorboard, "mlflow": _mlflow}
"""Opens each tracker that a recipe may name."""
