"""A whole training run: fingerprint, plans, cache, training, model folder, validation on whole scans.

A run's folder holds `recipe.yaml`, `fingerprint.json`, `plan.yaml`, `cache/`, `checkpoint.pt`, `history.jsonl`, `losses.jsonl`,
`model/`, `predictions/`, `validation.json` and `validation.csv`; `training.cross_validation` lists the files of a
cross-validation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voxelry.core.plan import Configuration, Plan
from voxelry.datasets.cases import Case
from voxelry.errors import ConfigError, TrainingError
from voxelry.networks.weights import PLAN_FILE
from voxelry.planning.plan_file import load_plan, save_plan
from voxelry.training.asked_settings import refuse_other_length, refuse_other_plan
from voxelry.training.cross_validation import CrossValidation
from voxelry.training.fit import require_checkpoint
from voxelry.training.folds import FOLDS_FILE, Folds, folds_to_train, load_folds, make_folds, save_folds
from voxelry.training.options import RunOptions
from voxelry.training.result import TrainResult
from voxelry.training.run_files import (
    FINGERPRINT_FILE,
    RECIPE_FILE,
    load_fingerprint,
    recorded_recipe,
    recorded_split,
    save_fingerprint,
    save_recipe,
    save_split,
)
from voxelry.training.run_folder import cross_validation_beginning, network_folder
from voxelry.training.setup import CONFIGURATIONS, LabelVolumes, check_sides, dataset_fingerprint, labelled_cases, make_plans
from voxelry.training.single import train_single
from voxelry.training.throughput import narrowed_to_budget
from voxelry.training.time_budget import share_time_budget


def train_model(options: RunOptions, folder: Path) -> TrainResult:
    """Train by a recipe: one network on ``train``, validated on ``val``; with folds, a cross-validation of both together.

    Args:
        options: recipe, dataset and the options of the command.
        folder: folder of the run; made if missing.

    Returns:
        The model, its scores and history.

    Raises:
        UsageError: `folder` already holds a run and `resume` is not set; a fold that does not exist.
        ConfigError: the recipe does not fit the data.
        ManifestError: no labelled training cases, or more folds than patients.
        TrainingError: nothing to resume from, another recipe, or a loss that is not finite.

    Example:
        >>> from pathlib import Path
        >>> from voxelry.datasets.manifest import load_manifest
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> from voxelry.recipes.recipe import Config
        >>> from voxelry.training import RunOptions, train_model
        >>> data = load_manifest(write_phantoms("data", "chest-xray", 2, format="png"))
        >>> plan = {"patch_size": (32, 32), "features": (4, 8), "batch_size": 1}
        >>> recipe = Config(manifest=str(data.path), steps=2, validations=1, device="cpu", plan=plan)
        >>> result = train_model(RunOptions(recipe, data), Path("run"))
        >>> result.model.card.training["steps"]
        2
    """
    return _cross_validate(options, folder) if options.config.folds else _train(options, folder)


def _train(options: RunOptions, folder: Path) -> TrainResult:
    """Train one network."""
    began = time.monotonic()
    folds_to_train(options.fold, 0)
    training = labelled_cases(options.manifest, "train")
    validation = [case for case in options.manifest.split("val") if case.has_labels]
    options = share_time_budget(options, 1)
    if options.resume:
        require_checkpoint(folder)
    with network_folder(folder, resume=options.resume):
        return _train_locked(options, folder, training, validation, began)


def _train_locked(
    options: RunOptions, folder: Path, training: Sequence[Case], validation: Sequence[Case], began: float
) -> TrainResult:
    """Train one network in a folder that no other run writes into."""
    if options.resume:
        recorded_recipe(options.config, folder)
        fingerprint, plan = load_fingerprint(folder), load_plan(folder / PLAN_FILE)
        refuse_other_plan(options, {plan.configuration: plan}, folder)
        check_sides(plan, options.config, options.manifest)
        labelled = [case for case in options.manifest.cases if case.has_labels]
        training, validation = recorded_split(labelled, folder) or (training, validation)
    else:
        fingerprint = dataset_fingerprint(options.manifest, training, options.progress)
        plans = make_plans(options, fingerprint)
        (plan,) = narrowed_to_budget(options, fingerprint, plans).values()
    _refuse_cascade(plan)
    if not options.resume:
        save_fingerprint(fingerprint, folder)
        save_split(training, validation, folder)
    return train_single(options, fingerprint, plan, training, validation, folder, began=began)


def _cross_validate(options: RunOptions, folder: Path) -> TrainResult:
    """Train the networks of all folds and choose among them, or those of one fold."""
    began = time.monotonic()
    cases = labelled_cases(options.manifest, "train", "val")
    if options.resume and not (folder / RECIPE_FILE).is_file():
        raise TrainingError(f"{folder}: no run to resume", remedy="Leave out --resume to start a new run.")
    plans = (f"{name}/{PLAN_FILE}" for name in CONFIGURATIONS)
    own_folds = () if (folder / FOLDS_FILE).is_file() else (FOLDS_FILE,)
    with cross_validation_beginning(folder, (RECIPE_FILE, FINGERPRINT_FILE, *own_folds, *plans)) as has_begun:
        if has_begun:
            refuse_other_length(options, folder)
        config = recorded_recipe(options.config, folder) if has_begun else None
        options = replace(options, config=config) if config else _begin_cross_validation(options, cases, folder)
    if has_begun:
        refuse_other_plan(options, _recorded_plans(folder), folder)
    folds = load_folds(folder / FOLDS_FILE, cases)
    numbers = folds_to_train(options.fold, len(folds))
    validation = CrossValidation(options, folder, load_fingerprint(folder), _recorded_plans(folder), folds, cases, began)
    scores = validation.train(numbers)
    return validation.finish() if options.fold is None else validation.fold_result(options.fold, scores)


def _begin_cross_validation(options: RunOptions, cases: Sequence[Case], folder: Path) -> RunOptions:
    """Fingerprint, plans and folds, saved; the recipe is written last, so that a run has begun only when all of them exist.

    Returns:
        The options, with each network's time budget in the recipe.
    """
    volumes: LabelVolumes = {}
    fingerprint = dataset_fingerprint(options.manifest, cases, options.progress, volumes)
    plans = make_plans(options, fingerprint)
    folds = _folds(options, cases, volumes, folder)
    if folds.always_trained and "3d_cascade" in plans:
        raise ConfigError(
            f"a cascade's second stage learns from predictions for held-out cases, and no fold holds out "
            f"'{folds.always_trained[0]}'",
            remedy="Set 'configurations' without 3d_cascade, or put every case into one fold's 'val'.",
        )
    options = share_time_budget(options, len(plans) * len(folds_to_train(options.fold, len(folds))))
    plans = narrowed_to_budget(options, fingerprint, plans)
    if not (folder / FOLDS_FILE).is_file():
        save_folds(folds, folder / FOLDS_FILE)
    save_fingerprint(fingerprint, folder)
    for name, plan in plans.items():
        save_plan(plan, folder / name / PLAN_FILE)
    save_recipe(options.config, folder)
    return options


def _folds(options: RunOptions, cases: Sequence[Case], volumes: LabelVolumes, folder: Path) -> Folds:
    """The folds of the file that the recipe names, those already in the run's folder, or new ones."""
    wanted, file = options.config.folds, folder / FOLDS_FILE
    if isinstance(wanted, str):
        return load_folds(Path(wanted), cases)
    if not file.is_file():
        return make_folds(cases, wanted, options.config.seed, volumes)
    folds = load_folds(file, cases)
    if len(folds) != wanted:
        raise ConfigError(f"{file}: {len(folds)} folds, the recipe has {wanted}", remedy="Delete one of the two.")
    return folds


def _recorded_plans(folder: Path) -> dict[Configuration, Plan]:
    files = {name: folder / name / PLAN_FILE for name in CONFIGURATIONS}
    return {name: load_plan(file) for name, file in files.items() if file.is_file()}


def _refuse_cascade(plan: Plan) -> None:
    """Refuse to train the second stage of a cascade by itself.

    Raises:
        ConfigError: the plan is of a second stage.
    """
    if plan.configuration == "3d_cascade":
        raise ConfigError(
            "a cascade's second stage learns from predictions for cases that its first stage has not seen",
            remedy="Cross-validate: set folds to 5 (--folds 5).",
        )
