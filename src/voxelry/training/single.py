"""Training of one network on the ``train`` cases: validation on the ``val`` cases, clean-up rules that help there, model card."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from voxelry.core.model import Model
from voxelry.core.plan import Fingerprint, Plan
from voxelry.core.quality_model import QualityModel
from voxelry.datasets.cases import Case
from voxelry.inference.predictor import Predictor
from voxelry.metrics.scores import Scores
from voxelry.networks.weights import save_model
from voxelry.training.checkpoint import Milestone
from voxelry.training.clean_up_choice import CleanUpChoice
from voxelry.training.fit import CACHE_FOLDER, NetworkTask, fit
from voxelry.training.model_card import write_model_card
from voxelry.training.options import RunOptions
from voxelry.training.predictions import HeldOutCases, StoredPredictions, predict_cases, score_cleaned
from voxelry.training.quality_calibration import QualityCalibration, measure_population
from voxelry.training.result import TrainResult
from voxelry.training.run_files import MODEL_FOLDER, PREDICTIONS_FOLDER, dice_by_name, save_validation
from voxelry.training.tracking import track_result


def train_single(
    options: RunOptions,
    fingerprint: Fingerprint,
    plan: Plan,
    training: Sequence[Case],
    validation: Sequence[Case],
    folder: Path,
    *,
    began: float,
) -> TrainResult:
    """Train one network, choose its clean-up rules, score it, and describe it.

    Args:
        options: options of the run.
        fingerprint: fingerprint of the dataset.
        plan: plan of the network.
        training: cases to learn from.
        validation: cases to validate on; may be empty.
        folder: folder of the run.
        began: monotonic time at which preparation began.

    Raises:
        TrainingError: nothing to resume from, another recipe, or a loss that is not finite.
    """
    task = NetworkTask(plan, fingerprint, training, validation, folder, folder / CACHE_FOLDER)
    model, state = fit(options, task, resume=options.resume, spent=time.monotonic() - began)
    scores = None
    if validation:
        model, scores = with_clean_up(options, model, validation, folder, training)
    else:
        model = _with_population(options, model, training, folder)
    save_validation(scores, folder, plan.regions)
    write_model_card(folder / MODEL_FOLDER, (model,), options.manifest.card, scores)
    track_result(options.config, plan, folder, state, dice_by_name(scores), folder / MODEL_FOLDER)
    histories: dict[str, tuple[Milestone, ...]] = {plan.configuration: tuple(state.history)}
    return TrainResult(folder, folder / MODEL_FOLDER, (model,), scores, histories, time.monotonic() - began)


def _with_population(options: RunOptions, model: Model, training: Sequence[Case], folder: Path) -> Model:
    """A model that nothing can be calibrated for: quality control compares with its training references."""
    population = measure_population(options.manifest, training, model.labels, options.progress)
    quality = None if population is None else QualityModel(population=population)
    return save_model(replace(model, quality=quality), folder / MODEL_FOLDER)


def with_clean_up(
    options: RunOptions, model: Model, cases: Sequence[Case], folder: Path, training: Sequence[Case] = ()
) -> tuple[Model, Scores]:
    """Validate a model, choose the clean-up rules that help on these cases, calibrate its quality control, and keep all of it.

    Args:
        options: options of the run.
        model: without rules.
        cases: cases to validate on.
        folder: folder of the run, which holds the model and gets the predictions.
        training: cases that the model learnt from, which quality control compares others with; without them there is none.

    Returns:
        The model with its rules, and its scores with them applied.
    """
    store = StoredPredictions(folder / PREDICTIONS_FOLDER, model.labels)
    held_out = HeldOutCases(options.manifest, cases, lambda _: store)
    predict_cases(lambda: Predictor(model, options.config.device), held_out, options.progress)
    choice = CleanUpChoice(model.labels, model.plan.dimensions)
    predictor = cache(lambda: Predictor(cleaned, options.config.device))
    calibration = QualityCalibration(held_out, lambda _: predictor())
    scores = score_cleaned(held_out, options.progress, choice, calibration.watch)
    record = {**model.card.training, "clean_up": choice.record(), "mean_dice": scores.to_dict()["mean_dice"]}
    cleaned = replace(model, card=model.card.model_copy(update={"clean_up": choice.rules(), "training": record}))
    population = measure_population(options.manifest, training, model.labels, options.progress)
    quality = None if population is None else calibration.fit(population, scores, options.progress)
    return save_model(replace(cleaned, quality=quality), folder / MODEL_FOLDER), scores
