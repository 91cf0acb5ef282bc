"""One network trained on the ``train`` cases and judged on the ``val`` cases, with the clean-up rules that help there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from voxelry.core.model import Model
from voxelry.core.plan import Plan
from voxelry.datasets.cases import Case
from voxelry.inference.predictor import Predictor
from voxelry.metrics.scores import Scores
from voxelry.networks.weights import save_model
from voxelry.training.checkpoint import Milestone
from voxelry.training.clean_up_choice import CleanUpChoice
from voxelry.training.fit import MODEL_FOLDER, PREDICTIONS_FOLDER, Run, Task, fit
from voxelry.training.model_card import write_model_card
from voxelry.training.predictions import Held, Predictions, predict_cases, score_cleaned
from voxelry.training.result import TrainResult
from voxelry.training.run_files import save_validation, whole_scores
from voxelry.training.tracking import track_result


def train_single(
    run: Run, plan: Plan, training: Sequence[Case], validation: Sequence[Case], *, resume: bool, began: float
) -> TrainResult:
    """Train one network, choose its clean-up rules, score it, and describe it.

    Args:
        run: recipe, dataset and folder.
        plan: of the network.
        training: cases to learn from.
        validation: cases to be judged by; may be empty.
        resume: go on from the checkpoint in the run's folder.
        began: monotonic time at which preparation began.

    Raises:
        TrainingError: nothing to resume from, another recipe, or a loss that is not finite.
    """
    task = Task(plan, training, validation, run.folder)
    model, state = fit(run, task, resume=resume, spent=time.monotonic() - began)
    scores = None
    if validation:
        model, scores = with_clean_up(run, model, validation)
    save_validation(scores, run.folder, plan.regions)
    write_model_card(run.folder / MODEL_FOLDER, (model,), run.manifest.card, scores)
    track_result(run.config, plan, run.folder, state, whole_scores(scores), run.folder / MODEL_FOLDER)
    histories: dict[str, tuple[Milestone, ...]] = {plan.configuration: tuple(state.history)}
    return TrainResult(run.folder, run.folder / MODEL_FOLDER, (model,), scores, histories, time.monotonic() - began)


def with_clean_up(run: Run, model: Model, cases: Sequence[Case]) -> tuple[Model, Scores]:
    """Judge a model, choose its clean-up rules by what they do for these cases, and keep both in its folder.

    Args:
        run: the run whose folder holds the model and gets the predictions.
        model: without rules.
        cases: to judge by.

    Returns:
        The model, and its scores as it now is.
    """
    store = Predictions(run.folder / PREDICTIONS_FOLDER, model.labels)
    held = Held(run.manifest, cases, lambda _: store)
    predict_cases(lambda: Predictor(model, run.config.device), held, run.progress)
    choice = CleanUpChoice(model.labels, model.plan.dimensions)
    scores = score_cleaned(held, run.progress, choice)
    training = {**model.card.training, "clean_up": choice.record(), "mean_dice": scores.to_dict()["mean_dice"]}
    card = model.card.model_copy(update={"clean_up": choice.rules(), "training": training})
    return save_model(replace(model, card=card), run.folder / MODEL_FOLDER), scores
