"""Checkpoints: the state of a run on disk while it trains, with its history and losses.

Each file appears whole or not at all, except the losses, to which every step appends a line; a resumed run first drops the lines
of steps after its checkpoint.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from voxelry.base.files import atomic_path, write_text
from voxelry.base.library_file import library_file
from voxelry.errors import TrainingError
from voxelry.training.run_files import HISTORY_FILE

CHECKPOINT_FILE = "checkpoint.pt"
LOSSES_FILE = "losses.jsonl"


@dataclass(frozen=True)
class Milestone:
    """One measurement in the course of a run.

    Attributes:
        step: optimiser steps done.
        loss: mean loss since the last milestone.
        pseudo_dice: Dice over patches of the validation cases (of the training cases where there are none), mean of classes.
        per_label: the same by the name of the label or, where regions are learnt, of the region.
        seconds: spent training so far.
        learning_rate: at this step.
        validation: Dice of whole validation cases; None where it was not measured.
        waited: share of the time since the last milestone that training waited for batches.
    """

    step: int
    loss: float
    pseudo_dice: float | None
    per_label: dict[str, float | None]
    seconds: float
    learning_rate: float
    validation: float | None = None
    waited: float = 0.0


@dataclass(frozen=True)
class Revision:
    """A change of the number of steps.

    Attributes:
        step: steps done by then.
        total: steps of the whole run from then on.
        share: of the learning rate's decay that was done by then, 0..1; it continues from there and ends with the last step.
        seconds: spent by then.
    """

    step: int
    total: int
    share: float
    seconds: float


@dataclass
class RunState:
    """The complete state of a run, from which it can be resumed.

    Attributes:
        step: optimiser steps done.
        revisions: the numbers of steps so far, of which the last one is valid; empty until a time budget has been turned into
            steps.
        seconds: spent so far.
        history: milestones so far.
        losses: sum and number of the losses since the last milestone.
        smooth_loss: running mean of the loss.
        network, optimiser, scaler, average: state dicts; `average` is of the weights' moving average.
        best: weights at the best milestone, with early stopping.
        validation_interval: milestones from one full-volume validation to the next, 0 until the first has been timed.
        recipe: the recipe as JSON text, compared on resume.
        random: torch's random states, by device type.
        threads: number of threads that computed; with another number, sums are rounded differently.
        tracking: the ids of the run in its trackers, by tracker.
    """

    step: int = 0
    revisions: list[Revision] = field(default_factory=list)
    seconds: float = 0.0
    history: list[Milestone] = field(default_factory=list)
    losses: tuple[float, int] = (0.0, 0)
    smooth_loss: float | None = None
    network: dict[str, Any] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    validation_interval: int = 0
    recipe: str = ""
    random: dict[str, Tensor] = field(default_factory=dict)
    threads: int = 0
    tracking: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int | None:
        """Steps of the whole run, None until a time budget has been turned into steps."""
        return self.revisions[-1].total if self.revisions else None


def save_checkpoint(state: RunState, folder: Path) -> None:
    """Write the checkpoint and the history beside it."""
    content = {name: getattr(state, name) for name in RunState.__dataclass_fields__}
    content["history"] = [asdict(milestone) for milestone in state.history]
    content["revisions"] = [asdict(revision) for revision in state.revisions]
    with atomic_path(folder / CHECKPOINT_FILE) as temporary, library_file(temporary) as file:
        torch.save(content, file)
    _write_history(state, folder)


def load_checkpoint(folder: Path) -> RunState:
    """Read the checkpoint of a run; nothing in it can execute.

    Half-written files of a killed run are removed, and the history is rewritten to match the checkpoint.

    Raises:
        TrainingError: there is none, or it is damaged or of another version.
    """
    file = folder / CHECKPOINT_FILE
    if not file.is_file():
        raise TrainingError(f"{folder}: no {CHECKPOINT_FILE} to resume from", remedy="Leave out --resume to start a new run.")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        history = [Milestone(**milestone) for milestone in content.pop("history")]
        revisions = [Revision(**revision) for revision in content.pop("revisions")]
        state = RunState(history=history, revisions=revisions, **content)
    except (RuntimeError, OSError, pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(f"{file}: damaged ({reason})", remedy="Start a new run.") from error
    for name in (CHECKPOINT_FILE, HISTORY_FILE, LOSSES_FILE):
        for temporary in folder.glob(f".tmp-*{name}"):
            temporary.unlink()
    _write_history(state, folder)
    return state


def _write_history(state: RunState, folder: Path) -> None:
    write_text(folder / HISTORY_FILE, "".join(json.dumps(asdict(milestone)) + "\n" for milestone in state.history))


class LossFile:
    """`losses.jsonl`: step, loss and learning rate of every step, appended one line at a time.

    Args:
        folder: folder of the run.
        step: steps up to the checkpoint; lines of later ones, and an incomplete line, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / LOSSES_FILE
        self.step = step

    def __enter__(self) -> Self:
        has_lines = self.step and self.path.is_file()
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if has_lines else []
        write_text(self.path, "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.step))
        self.file = self.path.open("a", encoding="utf-8", buffering=1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    def add(self, step: int, loss: float, learning_rate: float) -> None:
        """Append a step."""
        self.file.write(json.dumps({"step": step, "loss": loss, "learning_rate": learning_rate}) + "\n")
