"""What a run leaves on disk while it trains: checkpoint, history, recipe. Each appears whole or not at all."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from voxelry.config import Config
from voxelry.errors import TrainingError
from voxelry.files import atomic_path, read_json, read_yaml, write_json, write_text, write_yaml
from voxelry.plan import Fingerprint, Plan
from voxelry.schema import parse

CHECKPOINT_FILE = "checkpoint.pt"
FINGERPRINT_FILE = "fingerprint.json"
PLAN_FILE = "plan.yaml"
HISTORY_FILE = "history.jsonl"


@dataclass(frozen=True)
class Milestone:
    """One measurement in the course of a run.

    Attributes:
        step: optimiser steps done.
        loss: mean loss since the last milestone.
        pseudo_dice: Dice over windows of the validation cases (of the training cases where there are none), mean of labels.
        per_label: the same by label name.
        seconds: spent training so far.
        learning_rate: at this step.
    """

    step: int
    loss: float
    pseudo_dice: float | None
    per_label: dict[str, float | None]
    seconds: float
    learning_rate: float


@dataclass
class RunState:
    """All that a run needs to go on where it was.

    Attributes:
        step: optimiser steps done.
        total: steps the run has, None until a time budget has been turned into steps.
        seconds: spent so far.
        history: milestones so far.
        network, optimiser, scaler: state dicts.
        recipe: the recipe as JSON text, compared on resume.
        random: torch's random state.
    """

    step: int = 0
    total: int | None = None
    seconds: float = 0.0
    history: list[Milestone] = field(default_factory=list)
    network: dict[str, Any] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""
    random: Any = None


def save_checkpoint(state: RunState, folder: Path) -> None:
    """Write the checkpoint and the history beside it."""
    content = {name: getattr(state, name) for name in RunState.__dataclass_fields__ if name != "history"}
    content["history"] = [asdict(milestone) for milestone in state.history]
    with atomic_path(folder / CHECKPOINT_FILE) as temporary:
        torch.save(content, temporary)
    write_text(folder / HISTORY_FILE, "".join(json.dumps(asdict(milestone)) + "\n" for milestone in state.history))


def load_checkpoint(folder: Path) -> RunState:
    """Read the checkpoint of a run; nothing in it can execute.

    Raises:
        TrainingError: there is none, or it is damaged or another version's.
    """
    file = folder / CHECKPOINT_FILE
    if not file.is_file():
        raise TrainingError(f"{folder}: no {CHECKPOINT_FILE} to resume from", remedy="Leave out --resume to start anew.")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        history = [Milestone(**milestone) for milestone in content.pop("history")]
        return RunState(history=history, **content)
    except (RuntimeError, OSError, pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(f"{file}: damaged ({reason})", remedy="Start the run anew.") from error


def save_recipe(config: Config, folder: Path) -> None:
    """Keep the recipe as it was used."""
    write_yaml(folder / "recipe.yaml", config.model_dump(mode="json", exclude_none=True))


def save_planned(seen: Fingerprint, plan: Plan, folder: Path) -> None:
    """Keep the fingerprint and the plan, which a resumed run goes on with."""
    write_json(folder / FINGERPRINT_FILE, seen.model_dump(mode="json"))
    write_yaml(folder / PLAN_FILE, plan.model_dump(mode="json", exclude_none=True))


def load_planned(folder: Path) -> tuple[Fingerprint, Plan]:
    """The fingerprint and the plan of a run."""
    seen = parse(Fingerprint, read_json(folder / FINGERPRINT_FILE), str(folder / FINGERPRINT_FILE))
    return seen, parse(Plan, read_yaml(folder / PLAN_FILE), str(folder / PLAN_FILE))


def save_validation(scores: dict[str, Any], folder: Path) -> None:
    """Keep the scores of the validation cases."""
    write_json(folder / "validation.json", scores)
