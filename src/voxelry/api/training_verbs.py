"""The verbs of training, `voxelry.train` and `voxelry.estimate`, each a few lines that join rooms."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelry.base.progress import ProgressCallback, StepCallback, no_progress, no_step
from voxelry.base.version import version
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import UsageError
from voxelry.recipes.recipe import Config, changed, load_config

if TYPE_CHECKING:
    from voxelry.training.estimate import Estimate
    from voxelry.training.result import TrainResult

PathLike = str | os.PathLike[str]


def train(
    config: PathLike,
    out: PathLike,
    *,
    changes: Sequence[str] = (),
    epochs: int | None = None,
    time_budget: float | None = None,
    folds: int | PathLike | None = None,
    fold: int | None = None,
    plan: PathLike | None = None,
    initial: PathLike | None = None,
    resume: bool = False,
    root: PathLike | None = None,
    progress: ProgressCallback = no_progress,
    on_step: StepCallback = no_step,
) -> TrainResult:
    """Train a model by a recipe; with folds, cross-validate and keep the best configuration's networks together as the model.

    The run's folder gets the model with a card in words (``model/README.md``), `curves.html` and `curves.svg`, and the scores of
    every case that was held out (`validation.json`, `validation.csv`).

    Args:
        config: a recipe (see `configs/`).
        out: the run's folder; the model lies in its ``model``.
        changes: ``KEY=VALUE`` over the recipe.
        epochs: of each network, in place of the recipe's length.
        time_budget: seconds of preparation and training of all networks together, in place of the recipe's length of each.
        folds: parts of a cross-validation, or a file that says who is in which, in place of the recipe's.
        fold: train this fold alone, from 0, as on one of several machines; a last run with `resume` then joins them.
        plan: a plan file to take as it is (see `voxelry.plan`).
        initial: a model folder to start from, in place of the recipe's.
        resume: go on with the run in `out`.
        root: where the manifest's relative paths start.
        progress: called as ``progress(what, done, total)`` as cases are prepared and validated, and at every step.
        on_step: called at every step with its loss, pseudo-Dice and time left.

    Returns:
        The model, its scores on the cases that were held out, and the course of training.

    Raises:
        UsageError: a time budget that is no time, a fold that there is not, or `out` holds a run already.
        ConfigError: recipe or plan cannot be used.
        ManifestError: the dataset cannot be used.
        TrainingError: training cannot start or go on.
    """
    from voxelry.planning.plan_file import load_plan
    from voxelry.reports.learning import write_curves
    from voxelry.training.run import Order, train_model

    recipe = _recipe(config, changes, epochs, time_budget, folds, initial)
    data = load_manifest(recipe.manifest, root)
    order = Order(resume, fold, time_budget, None if plan is None else load_plan(plan))
    if not resume:
        Path(out).mkdir(parents=True, exist_ok=True)
    result = train_model(recipe, data, Path(out), version=version(), progress=progress, on_step=on_step, order=order)
    write_curves(result.histories, Path(out), f"Training on {data.card.title or data.card.name}")
    return result


def estimate(
    config: PathLike,
    *,
    changes: Sequence[str] = (),
    epochs: int | None = None,
    time_budget: float | None = None,
    folds: int | PathLike | None = None,
    fold: int | None = None,
    plan: PathLike | None = None,
    initial: PathLike | None = None,
    root: PathLike | None = None,
    progress: ProgressCallback = no_progress,
) -> Estimate:
    """What `train` would take with the same arguments: plans, numbers of parameters, memory and time. Nothing is written.

    Args:
        config: a recipe.
        changes: ``KEY=VALUE`` over the recipe.
        epochs: of each network, in place of the recipe's length.
        time_budget: seconds of all networks together, in place of the recipe's length of each.
        folds: parts of a cross-validation, or a file of them, in place of the recipe's.
        fold: the one fold that would be trained.
        plan: a plan file to take as it is.
        initial: a model folder to start from, in place of the recipe's.
        root: where the manifest's relative paths start.
        progress: called as ``progress(what, done, total)`` as cases are looked at and steps are timed.

    Raises:
        UsageError: a time budget that is no time, or a fold without folds.
        ConfigError: recipe or plan cannot be used.
        ManifestError: the dataset cannot be used.
    """
    from voxelry.planning.plan_file import load_plan
    from voxelry.training.estimate import estimate as estimated

    recipe = _recipe(config, changes, epochs, time_budget, folds, initial)
    data = load_manifest(recipe.manifest, root)
    given = None if plan is None else load_plan(plan)
    return estimated(recipe, data, progress, plan=given, budget=time_budget, fold=fold)


def check_budget(seconds: float) -> None:
    """Refuse a time budget that is no time.

    Raises:
        UsageError: not above 0.
    """
    if not seconds > 0:
        raise UsageError(f"a time budget of {seconds:g} s", remedy="Give a duration above 0, as 10m.")


def _recipe(
    config: PathLike,
    changes: Sequence[str],
    epochs: int | None,
    time_budget: float | None,
    folds: int | PathLike | None,
    initial: PathLike | None,
) -> Config:
    """The recipe as the arguments change it."""
    if time_budget is not None:
        check_budget(time_budget)
        if epochs is not None:
            raise UsageError(f"{epochs} epochs beside a time budget", remedy="Give one of the two.")
    recipe = load_config(config, tuple(changes))
    values: dict[str, Any] = {"epochs": epochs, "time_budget": time_budget}
    values["folds"] = folds if isinstance(folds, int | None) else str(Path(folds).resolve())
    values["initial"] = None if initial is None else str(Path(initial).resolve())
    given = {key: value for key, value in values.items() if value is not None}
    return changed(recipe, **given) if given else recipe
