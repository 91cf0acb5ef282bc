"""The result of a training run: model, scores, history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from voxelry.core.model import Model
from voxelry.metrics.scores import Scores
from voxelry.training.checkpoint import Milestone


@dataclass(frozen=True, eq=False)
class TrainResult:
    """The result of a training run.

    Attributes:
        folder: the run's folder.
        path: the folder of the model, or of the ensemble.
        models: the model; for a cross-validation the members of its ensemble.
        scores: scores of the held-out cases, on their own grids; None where there are none.
        histories: milestones of each network, by its name.
        seconds: wall time of preparation, training and validation.
    """

    folder: Path
    path: Path
    models: tuple[Model, ...]
    scores: Scores | None
    histories: Mapping[str, tuple[Milestone, ...]]
    seconds: float

    @property
    def model(self) -> Model:
        """The model, the first of an ensemble."""
        return self.models[0]

    @property
    def history(self) -> tuple[Milestone, ...]:
        """Milestones of the first network."""
        return next(iter(self.histories.values()))
