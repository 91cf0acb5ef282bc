"""The public verbs of training, `voxelry.train` and `voxelry.estimate`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelry.base.notebook_progress import shows_progress
from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, StepCallback, no_progress, no_step
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import UsageError
from voxelry.recipes.recipe import LENGTHS, Config, changed, load_config

if TYPE_CHECKING:
    from voxelry.core.plan import Plan
    from voxelry.training.estimate import Estimate
    from voxelry.training.options import RunOptions
    from voxelry.training.result import TrainResult

__all__ = ["estimate", "train"]

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]


@shows_progress
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
    report: StepCallback | None = None,
) -> TrainResult:
    """Train a model by a recipe; with folds, cross-validate, and the best configuration's networks become one ensemble.

    The run's folder gets the model with a model card (``model/README.md``), `curves.html` and `curves.svg`, and the scores of
    every held-out case (`validation.json`, `validation.csv`), and a page of all this (`report.html`).

    Args:
        config: a recipe (see `configs/`).
        out: the run's folder; the model is written to its ``model``.
        changes: ``KEY=VALUE`` changes of the recipe.
        epochs: epochs of each network, in place of the recipe's length.
        time_budget: seconds of preparation and training of all networks together, in place of the recipe's length.
        folds: number of folds of a cross-validation, or a file of folds, in place of the recipe's.
        fold: train only this fold, from 0, e.g. one per machine; a final run with `resume` combines them.
        plan: a plan file to use unchanged (see `voxelry.plan`).
        initial: a model folder to start from, in place of the recipe's.
        resume: continue the run in `out`.
        root: folder that the manifest's relative paths start from.
        progress: called as ``progress(what, done, total)`` as cases are prepared and validated, and at every step.
        on_step: called at every step with its loss, pseudo-Dice and time left.
        report: the former name of `on_step`, which still works, with a warning.

    Returns:
        The model, its scores on held-out cases, and the history of training.

    Raises:
        UsageError: a time budget not above 0, a fold that does not exist, or `out` already holds a run.
        ConfigError: recipe or plan cannot be used.
        ManifestError: the dataset cannot be used.
        TrainingError: training cannot start or continue.

    Example:
        >>> from pathlib import Path
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> _ = write_phantoms("data", "chest-xray", 2, format="png")
        >>> recipe = (
        ...     "{manifest: data/manifest.yaml, steps: 2, validations: 1, device: cpu, "
        ...     "plan: {patch_size: [32, 32], features: [4, 8], batch_size: 1}}"
        ... )
        >>> _ = Path("recipe.yaml").write_text(recipe)
        >>> result = voxelry.train("recipe.yaml", "run")
        >>> result.path.as_posix(), result.model.card.training["steps"]
        ('run/model', 2)
    """
    from voxelry.api.report_verb import leave_report
    from voxelry.training.options import RunOptions

    if report is not None:
        log.warning("train: 'report' is the former name of 'on_step'")
        on_step = report
    recipe = _recipe(config, changes, {"epochs": epochs, "folds": folds, "initial": initial}, time_budget)
    data = load_manifest(recipe.manifest, root)
    length = names_length(changes, epochs, time_budget)
    options = RunOptions(recipe, data, resume, fold, time_budget, _plan(plan), length, progress, on_step)
    result = trained(options, Path(out))
    leave_report(out, manifest=data, progress=progress)
    return result


def trained(options: RunOptions, out: Path) -> TrainResult:
    """Train by a recipe, and draw the curves of its networks.

    Args:
        options: options of the run.
        out: the run's folder; made if missing.
    """
    from voxelry.reports.learning import write_curves
    from voxelry.training.run import train_model
    from voxelry.training.run_files import CURVE_FILES

    if not options.resume:
        out.mkdir(parents=True, exist_ok=True)
    result = train_model(options, out)
    card = options.manifest.card
    with OutputFolder(out, "train").writing([out / name for name in CURVE_FILES]):
        write_curves(result.histories, out, f"Training on {card.title or card.name}")
    return result


@shows_progress
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
    """Estimate the plans, parameters, memory and time of `train` with the same arguments. Nothing is written.

    Args:
        config: a recipe.
        changes: ``KEY=VALUE`` changes of the recipe.
        epochs: epochs of each network, in place of the recipe's length.
        time_budget: seconds of all networks together, in place of the recipe's length.
        folds: number of folds of a cross-validation, or a file of folds, in place of the recipe's.
        fold: the only fold that would be trained.
        plan: a plan file to use unchanged.
        initial: a model folder to start from, in place of the recipe's.
        root: folder that the manifest's relative paths start from.
        progress: called as ``progress(what, done, total)`` as cases are looked at and steps are timed.

    Raises:
        UsageError: a time budget not above 0, or a fold without folds.
        ConfigError: recipe or plan cannot be used.
        ManifestError: the dataset cannot be used.

    Example:
        >>> from pathlib import Path
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> _ = write_phantoms("data", "chest-xray", 2, format="png")
        >>> recipe = (
        ...     "{manifest: data/manifest.yaml, steps: 2, validations: 1, device: cpu, "
        ...     "plan: {patch_size: [32, 32], features: [4, 8], batch_size: 1}}"
        ... )
        >>> _ = Path("recipe.yaml").write_text(recipe)
        >>> voxelry.estimate("recipe.yaml").networks["2d"].steps
        2
    """
    from voxelry.training.estimate import estimate as estimate_run
    from voxelry.training.options import RunOptions

    recipe = _recipe(config, changes, {"epochs": epochs, "folds": folds, "initial": initial}, time_budget)
    data = load_manifest(recipe.manifest, root)
    return estimate_run(RunOptions(recipe, data, False, fold, time_budget, _plan(plan), progress=progress))


def check_budget(seconds: float) -> None:
    """Refuse a time budget that is not above 0, or without end.

    Raises:
        UsageError: it is so.
    """
    if not 0 < seconds < inf:
        raise UsageError(f"a time budget of {seconds:g} s", remedy="Give a duration above 0, as 10m.")


def _recipe(config: PathLike, changes: Sequence[str], values: Mapping[str, Any], time_budget: float | None) -> Config:
    """The recipe with other values; None leaves the recipe's, paths are relative to the working folder."""
    if time_budget is not None:
        check_budget(time_budget)
        if values["epochs"] is not None:
            raise UsageError(f"{values['epochs']} epochs beside a time budget", remedy="Give one of the two.")
    _refuse_both(changes, {**values, "time_budget": time_budget})
    recipe = _with_named_start(load_config(config, tuple(changes)), Path(config).resolve().parent)
    if values["initial"] is not None:
        from voxelry.zoo.model_names import find_model

        values = {**values, "initial": find_model(values["initial"])}
    plain = {
        key: value if isinstance(value, int) else str(Path(value).resolve()) for key, value in values.items() if value is not None
    }
    return changed(recipe, **plain) if plain else recipe


def _with_named_start(recipe: Config, folder: Path) -> Config:
    """A recipe that starts from a model by its name, where its own folder holds nothing of that name."""
    start = None if recipe.initial is None else Path(recipe.initial)
    if start is None or start.exists() or start.parent != folder:
        return recipe
    from voxelry.zoo.model_names import named_models

    named = named_models().get(start.name)
    return recipe if named is None else recipe.model_copy(update={"initial": str(named)})


def names_length(changes: Sequence[str], epochs: int | None, time_budget: float | None) -> bool:
    """Whether the command itself names the length of training."""
    return epochs is not None or time_budget is not None or bool(changed_keys(changes) & set(LENGTHS))


def changed_keys(changes: Sequence[str]) -> set[str]:
    """The keys that ``KEY=VALUE`` changes set."""
    return {_key(change) for change in changes}


def _key(change: str) -> str:
    return change.partition("=")[0].strip()


def _refuse_both(changes: Sequence[str], values: Mapping[str, Any]) -> None:
    """Refuse a change of a key that an argument sets too.

    Raises:
        UsageError: there is one.
    """
    for name in (name for name, value in values.items() if value is not None):
        keys = LENGTHS if name in LENGTHS else (name,)
        change = next((change for change in changes if _key(change) in keys), None)
        if change is not None:
            raise UsageError(f"'{change}' is set beside {name} {values[name]}", remedy="Give one of the two.")


def _plan(file: PathLike | None) -> Plan | None:
    from voxelry.planning.plan_file import load_plan

    return None if file is None else load_plan(file)
