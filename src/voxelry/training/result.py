"""What a training run gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from voxelry.core.model import Model
from voxelry.metrics.scores import Scores
from voxelry.training.checkpoint import Milestone


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a run left.

    Attributes:
        folder: the run's folder.
        path: the folder of the model, or of the ensemble.
        models: the model; of a cross-validation the members of its ensemble.
        scores: of the cases that were held out, on their own grids; None where there are none.
        histories: milestones of each network that was trained, by its name.
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
