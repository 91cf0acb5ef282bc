"""ModelRow: what is known of a model without loading its weights, for the list of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from voxelry.errors import VoxelryError
from voxelry.networks.weights import read_cards
from voxelry.zoo.model_files import files_of
from voxelry.zoo.model_names import STARTERS, named_models

SCORES = "held_out"
"""Key of a training record: how many held-out cases there were, and the list of scores."""


@dataclass(frozen=True)
class ModelScore:
    """A score of held-out cases.

    Attributes:
        metric: such as ``dice``.
        label: what it is of; empty for the mean over labels.
        value: the mean.
        low, high: its 95 % interval by patient; None where it was not computed.
    """

    metric: str
    label: str
    value: float
    low: float | None = None
    high: float | None = None

    def describe(self) -> str:
        """In words, as ``dice liver 0.951 (0.940-0.960)``."""
        interval = "" if self.low is None or self.high is None else f" ({self.low:.3f}-{self.high:.3f})"
        return f"{self.metric} {f'{self.label} ' if self.label else ''}{self.value:.3f}{interval}"


@dataclass(frozen=True)
class ModelRow:
    """A model.

    Attributes:
        name: by which it is called.
        kind: ``starter`` of the package, ``cache`` of the local cache.
        folder: where it lies.
        bytes: of its files.
        data: name of the dataset it was trained on.
        modality: of its scans.
        dimensions: of its scans.
        labels: their names.
        licence: of the training set.
        cases: held-out cases that the scores are of, None where that is not recorded.
        scores: of held-out cases.
        error: why it cannot be read; empty where it can.
    """

    name: str
    kind: Literal["starter", "cache"]
    folder: Path
    bytes: int = 0
    data: str = ""
    modality: str = ""
    dimensions: int = 0
    labels: tuple[str, ...] = ()
    licence: str = ""
    cases: int | None = None
    scores: tuple[ModelScore, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "folder": str(self.folder)}


def list_models() -> list[ModelRow]:
    """The starter models, then those in the local cache, each by name. One that cannot be read has its reason.

    Example:
        >>> from voxelry.zoo import list_models
        >>> {row.kind for row in list_models()} <= {"starter", "cache"}
        True
    """
    rows = [_row(name, folder) for name, folder in named_models().items()]
    return sorted(rows, key=lambda row: (row.kind != "starter", row.name))


def _row(name: str, folder: Path) -> ModelRow:
    kind: Literal["starter", "cache"] = "starter" if folder.parent == STARTERS else "cache"
    try:
        plan, card, training = read_cards(folder)
        size = sum((folder / file).stat().st_size for file in files_of(folder))
    except (VoxelryError, OSError) as error:
        return ModelRow(name, kind, folder, error=str(error))
    cases, scores = _scores(training)
    return ModelRow(
        name,
        kind,
        folder,
        size,
        card.name,
        card.fingerprint.modality,
        plan.dimensions,
        card.labels.names,
        card.licence,
        cases,
        scores,
    )


def _scores(training: Mapping[str, Any]) -> tuple[int | None, tuple[ModelScore, ...]]:
    """What a training record says; records are for people, so what has another form is passed over."""
    known = training.get(SCORES)
    try:
        if known is not None:
            return int(known["cases"]), tuple(ModelScore(**score) for score in known["scores"])
    except (KeyError, TypeError, ValueError):
        return None, ()
    ensemble = training.get("scores")
    mean = (ensemble if isinstance(ensemble, dict) else training).get("mean_dice")
    return None, (ModelScore("dice", "", float(mean)),) if isinstance(mean, int | float) else ()
