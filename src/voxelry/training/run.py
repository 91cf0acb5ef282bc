"""A whole training run: fingerprint, plans, cache, loop, model folder, validation on whole scans.

A run's folder holds `recipe.yaml`, `fingerprint.json`, `plan.yaml`, `cache/`, `checkpoint.pt`, `history.jsonl`, `model/`,
`predictions/`, `validation.json` and `validation.csv`; what a cross-validation keeps is told in `training.cross_validation`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxelry.base.progress import ProgressCallback, StepCallback
from voxelry.core.plan import Configuration, Fingerprint, Plan
from voxelry.datasets.cases import Case
from voxelry.datasets.manifest import Manifest
from voxelry.errors import ConfigError, TrainingError
from voxelry.planning.plan_file import load_plan, save_plan
from voxelry.recipes.recipe import Config, changed
from voxelry.training.cross_validation import CrossValidation
from voxelry.training.fit import Run, refuse_begun, require_checkpoint
from voxelry.training.folds import FOLDS_FILE, Folds, chosen_folds, load_folds, make_folds, save_folds
from voxelry.training.result import TrainResult
from voxelry.training.run_files import PLAN_FILE, begun_recipe, load_fingerprint, save_fingerprint, save_recipe
from voxelry.training.setup import CONFIGURATIONS, Volumes, check_sides, labelled_cases, look_at, make_plans
from voxelry.training.single import train_single
from voxelry.training.throughput import paced


@dataclass(frozen=True)
class Order:
    """What is asked of a run beside its recipe.

    Attributes:
        resume: go on with the run in its folder.
        fold: of a cross-validation the one fold to train, from 0; None trains all and chooses among configurations.
        budget: seconds for all networks that are trained now, in place of the recipe's length of each; None keeps that.
        plan: a plan to take as it is.
    """

    resume: bool = False
    fold: int | None = None
    budget: float | None = None
    plan: Plan | None = None


def train_model(
    config: Config,
    manifest: Manifest,
    folder: Path,
    *,
    version: str,
    progress: ProgressCallback,
    on_step: StepCallback,
    order: Order | None = None,
) -> TrainResult:
    """Train by a recipe: one network on ``train``, judged on ``val``; or with folds a cross-validation of both together.

    Args:
        config: the recipe.
        manifest: the dataset.
        folder: of the run; made if missing.
        version: of voxelry, for the model's card.
        progress: called as cases are prepared and validated, and at every step.
        on_step: called at every step with its loss and what else is known.
        order: what is asked beside the recipe.

    Returns:
        The model, its scores and history.

    Raises:
        UsageError: `folder` holds a run already and going on is not asked for; a fold that there is not.
        ConfigError: the recipe does not fit the data.
        ManifestError: no labelled training cases, or more folds than patients.
        TrainingError: nothing to resume from, another recipe, or a loss that is not finite.
    """
    start = _Start(config, manifest, folder, version, progress, on_step, order or Order())
    return start.cross_validate() if config.folds else start.train()


@dataclass(frozen=True)
class _Start:
    """All that `train_model` was given."""

    config: Config
    manifest: Manifest
    folder: Path
    version: str
    progress: ProgressCallback
    on_step: StepCallback
    order: Order

    def train(self) -> TrainResult:
        """Train one network."""
        began = time.monotonic()
        order, config, folder = self.order, self.config, self.folder
        chosen_folds(order.fold, 0)
        training = labelled_cases(self.manifest, "train")
        validation = [case for case in self.manifest.split("val") if case.has_labels]
        if order.budget is not None:
            config = changed(config, time_budget=order.budget)
        if order.resume:
            require_checkpoint(folder)
            seen, plan = load_fingerprint(folder), load_plan(folder / PLAN_FILE)
            check_sides(plan, config, self.manifest)
        else:
            refuse_begun(folder)
            seen = look_at(self.manifest, training, self.progress)
            plans = make_plans(config, self.manifest, seen, order.plan)
            (plan,) = paced(config, self.manifest, seen, plans, given=order.plan is not None).values()
        _refuse_cascade(plan)
        save_fingerprint(seen, folder)
        return train_single(self._run(config, seen), plan, training, validation, resume=order.resume, began=began)

    def cross_validate(self) -> TrainResult:
        """Train the networks of all folds and choose among them, or those of one fold."""
        began = time.monotonic()
        cases = labelled_cases(self.manifest, "train", "val")
        config = begun_recipe(self.config, self.folder)
        if config is None and self.order.resume:
            raise TrainingError(f"{self.folder}: no run to resume", remedy="Leave out --resume to start anew.")
        if config is None:
            config = self._lay_out(cases)
        seen, plans = load_fingerprint(self.folder), self._plans()
        folds = load_folds(self.folder / FOLDS_FILE, cases)
        numbers = chosen_folds(self.order.fold, len(folds))
        share = None if self.order.budget is None else config.time_budget
        whole = CrossValidation(self._run(config, seen), plans, folds, cases, share, began)
        scores = whole.train(numbers, resume=self.order.resume)
        return whole.finish() if self.order.fold is None else whole.one_fold(self.order.fold, scores)

    def _lay_out(self, cases: Sequence[Case]) -> Config:
        """Look, plan and deal; the recipe is written last, so that a run has begun only when all of it is there."""
        volumes: Volumes = {}
        seen = look_at(self.manifest, cases, self.progress, volumes)
        plans = make_plans(self.config, self.manifest, seen, self.order.plan)
        folds = self._folds(cases, volumes)
        config = self.config
        if self.order.budget is not None:
            networks = len(plans) * len(chosen_folds(self.order.fold, len(folds)))
            config = changed(config, time_budget=self.order.budget / networks)
        plans = paced(config, self.manifest, seen, plans, given=self.order.plan is not None)
        save_folds(folds, self.folder / FOLDS_FILE)
        save_fingerprint(seen, self.folder)
        for name, plan in plans.items():
            save_plan(plan, self.folder / name / PLAN_FILE)
        save_recipe(config, self.folder)
        return config

    def _folds(self, cases: Sequence[Case], volumes: Volumes) -> Folds:
        """Those that lie in the run's folder, those that the recipe names, or new ones."""
        wanted, given = self.config.folds, self.folder / FOLDS_FILE
        if isinstance(wanted, str):
            return load_folds(Path(wanted), cases)
        if not given.is_file():
            return make_folds(cases, wanted, self.config.seed, volumes)
        folds = load_folds(given, cases)
        if len(folds) != wanted:
            raise ConfigError(f"{given}: {len(folds)} folds, the recipe says {wanted}", remedy="Delete one of the two.")
        return folds

    def _plans(self) -> dict[Configuration, Plan]:
        files = {name: self.folder / name / PLAN_FILE for name in CONFIGURATIONS}
        return {name: load_plan(file) for name, file in files.items() if file.is_file()}

    def _run(self, config: Config, seen: Fingerprint) -> Run:
        return Run(config, self.manifest, seen, self.folder, self.version, self.progress, self.on_step)


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
