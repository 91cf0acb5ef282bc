"""RunOptions: the inputs of a training run or of its estimate: recipe, dataset, and the options of the command."""

from __future__ import annotations

from dataclasses import dataclass

from voxelry.base.progress import ProgressCallback, StepCallback, no_progress, no_step
from voxelry.core.plan import Plan
from voxelry.datasets.manifest import Manifest
from voxelry.recipes.recipe import Config


@dataclass(frozen=True)
class RunOptions:
    """Recipe, dataset and options of a run; `train_model` and `estimate` take the same.

    Attributes:
        config: the recipe. Its `time_budget`, if any, is of one network (see `voxelry.training.time_budget`).
        manifest: the dataset.
        resume: continue the run in its folder; an estimate ignores it.
        fold: the one fold of a cross-validation to train, from 0; None trains all and chooses among configurations.
        time_budget: seconds for all networks that the command trains, in place of the recipe's length; None keeps the recipe's.
        plan: a plan to use unchanged, in place of the planner's.
        names_length: the command, not the recipe's file, names the length of training.
        progress: called as cases are measured, prepared and validated, and at every step.
        on_step: called at every step with loss, pseudo-Dice and time left.

    Example:
        >>> from voxelry.recipes.recipe import Config
        >>> from voxelry.datasets.manifest import load_manifest
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> from voxelry.training import RunOptions
        >>> data = load_manifest(write_phantoms("data", "chest-xray", 1, format="png"))
        >>> options = RunOptions(Config(manifest=str(data.path), epochs=2), data, time_budget=60)
        >>> options.resume
        False
    """

    config: Config
    manifest: Manifest
    resume: bool = False
    fold: int | None = None
    time_budget: float | None = None
    plan: Plan | None = None
    names_length: bool = False
    progress: ProgressCallback = no_progress
    on_step: StepCallback = no_step
