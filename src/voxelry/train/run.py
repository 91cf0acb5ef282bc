"""A whole training run: fingerprint, plan, cache, loop, model folder, validation on whole scans.

A run's folder holds `recipe.yaml`, `fingerprint.json`, `plan.yaml`, `cache/`, `checkpoint.pt`, `history.jsonl`, `model/` and
`validation.json`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from voxelry.config import Config
from voxelry.errors import ConfigError, ManifestError, UsageError
from voxelry.manifest.cases import Case
from voxelry.manifest.load import load_case
from voxelry.manifest.manifest import Manifest
from voxelry.measure.evaluate import score
from voxelry.measure.scores import Scores
from voxelry.model import Model, ModelCard
from voxelry.networks.build import build_network, choose_device, count_parameters
from voxelry.networks.weights import save_model, weights_of
from voxelry.plan import Fingerprint, Plan
from voxelry.predict.predictor import Predictor
from voxelry.prepare.augment import Augmenter
from voxelry.prepare.cache import CachedCase, cached_case
from voxelry.prepare.fingerprint import fingerprint
from voxelry.prepare.planner import make_plan
from voxelry.train.checkpoint import (
    CHECKPOINT_FILE,
    Milestone,
    RunState,
    load_checkpoint,
    load_planned,
    save_planned,
    save_recipe,
    save_validation,
)
from voxelry.train.clean_up_choice import CleanUpChoice
from voxelry.train.loop import Loop, Report
from voxelry.train.sampler import Sampler

log = logging.getLogger(__name__)

Stage = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a run left.

    Attributes:
        folder: the run's folder; the model lies in `folder`/model.
        model: the model.
        scores: of the validation cases, on their own grids; None where there are none.
        history: milestones of the run.
        seconds: wall time of preparation and training.
    """

    folder: Path
    model: Model
    scores: Scores | None
    history: tuple[Milestone, ...]
    seconds: float


def train_model(
    config: Config, manifest: Manifest, folder: Path, *, version: str, resume: bool, stage: Stage, report: Report
) -> TrainResult:
    """Train on a manifest's ``train`` cases and validate on its ``val`` cases.

    Args:
        config: the recipe.
        manifest: the dataset.
        folder: of the run; made if missing.
        version: of voxelry, for the model's card.
        resume: go on from the checkpoint in `folder`.
        stage: told of preparation and validation.
        report: told of every step.

    Returns:
        The model, its scores and history.

    Raises:
        UsageError: `folder` holds a run already and `resume` is not asked for.
        ManifestError: no labelled training cases.
        TrainingError: nothing to resume from, another recipe, or a loss that is not finite.
    """
    began = time.monotonic()
    training = labelled_cases(manifest, "train")
    validation = [case for case in manifest.split("val") if case.has_labels]
    if not resume and (folder / CHECKPOINT_FILE).exists():
        raise UsageError(f"{folder}: holds a run already", remedy="Add --resume to go on with it, or choose another --out.")
    state = load_checkpoint(folder) if resume else None
    if state is None:
        seen = look_at(manifest, training, stage)
        plan = make_plan(seen, config.plan, choose_device(config.device).type, config.overlap, config.flips)
    else:
        seen, plan = load_planned(folder)
    check_sides(plan, config, manifest)
    if state is None:
        save_recipe(config, folder)
        save_planned(seen, plan, folder)
    loop = _loop(
        config,
        manifest,
        plan,
        folder,
        _cached(manifest, plan, training, folder, stage),
        _cached(manifest, plan, validation, folder, stage),
    )
    if state is not None:
        loop.restore(state)
    final = loop.run(report, spent=time.monotonic() - began)
    model = save_model(_model(loop, config, manifest, seen, plan, final, version), folder / "model")
    scores = None
    if validation:
        model, scores = with_clean_up(model, folder / "model", manifest, validation, config.device, stage)
    save_validation(scores.to_dict() if scores else {}, folder)
    return TrainResult(folder, model, scores, tuple(final.history), time.monotonic() - began)


def labelled_cases(manifest: Manifest, split: str) -> list[Case]:
    """The cases of a split that have labels.

    Raises:
        ManifestError: there are none.
    """
    cases = [case for case in manifest.split(split) if case.has_labels]
    if not cases:
        raise ManifestError(
            f"{manifest.path}: no labelled cases in split '{split}'", remedy="Check the manifest's cases and splits."
        )
    return cases


def look_at(manifest: Manifest, cases: list[Case], stage: Stage) -> Fingerprint:
    """The fingerprint of some cases of a manifest."""
    return fingerprint(
        [partial(load_case, case, manifest) for case in cases],
        manifest.card.channels,
        manifest.card.modality,
        manifest.card.table,
        lambda done: stage("looking at cases", done, len(cases)),
    )


def check_sides(plan: Plan, config: Config, manifest: Manifest) -> None:
    """Refuse flips that would turn left into right unseen.

    Raises:
        ConfigError: volumes are flipped but not oriented, while labels have a side.
    """
    sided = any(label.mirror for label in manifest.card.table.labels)
    flipped = config.flips or config.augment.flip_axes
    if sided and flipped and plan.dimensions == 3 and plan.orientation is None:
        raise ConfigError(
            "plan.orientation is 'stored' and labels have mirror twins: a flip could not tell left from right",
            remedy="Set plan.orientation to RAS, or leave flips out.",
        )


def with_clean_up(
    model: Model, folder: Path, manifest: Manifest, cases: list[Case], device: str, stage: Stage
) -> tuple[Model, Scores]:
    """Validate a model, choose its clean-up rules by what they do for these cases, and keep both in its folder.

    Args:
        model: without rules.
        folder: of the model, replaced.
        manifest: the dataset.
        cases: to validate on.
        device: to predict on.
        stage: told of progress.

    Returns:
        The model, and its scores as it now is.
    """
    choice = CleanUpChoice(model.labels, model.plan.dimensions)
    scores = validate(model, manifest, cases, device, stage, choice)
    record = {**model.card.training, "clean_up": choice.record()}
    card = model.card.model_copy(update={"clean_up": choice.rules(), "training": record})
    model = save_model(replace(model, card=card), folder)
    return model, validate(model, manifest, cases, device, stage) if card.clean_up else scores


def validate(
    model: Model, manifest: Manifest, cases: list[Case], device: str, stage: Stage, choice: CleanUpChoice | None = None
) -> Scores:
    """Segment whole cases and score them on their own grids, one in memory at a time; `choice` tries its rules on each."""
    predictor = Predictor(model, device)
    parts = []
    for number, case in enumerate(cases, start=1):
        volume, reference = load_case(case, manifest)
        assert reference is not None
        predicted = predictor.predict(volume).labels
        parts.append(score(reference, predicted, case.id))
        if choice is not None:
            choice.add(reference, predicted)
        stage("validating", number, len(cases))
    return Scores.merge(parts)


def _cached(manifest: Manifest, plan: Plan, cases: list[Case], folder: Path, stage: Stage) -> list[CachedCase]:
    ready = []
    for done, case in enumerate(cases, start=1):
        ready.append(cached_case(case, plan, manifest.card.table, folder / "cache", partial(load_case, case, manifest)))
        stage("preparing cases", done, len(cases))
    return ready


def _loop(
    config: Config, manifest: Manifest, plan: Plan, folder: Path, training: list[CachedCase], validation: list[CachedCase]
) -> Loop:
    torch.manual_seed(config.seed)
    table = manifest.card.table
    network = build_network(plan, len(table) + 1)
    log.info("network %s with %d parameters", plan.network.name, count_parameters(network))
    augment = Augmenter(plan, config.augment, table)
    return Loop(
        network,
        config,
        Sampler(training, plan.patch_size, plan.batch_size, config.foreground, config.seed, augment),
        Sampler(validation or training, plan.patch_size, plan.batch_size, 1.0, config.seed + 1),
        table.names,
        folder,
    )


def _model(loop: Loop, config: Config, manifest: Manifest, seen: Fingerprint, plan: Plan, state: RunState, version: str) -> Model:
    card = ModelCard(
        name=manifest.card.name,
        version=version,
        labels=manifest.card.table,
        fingerprint=seen,
        licence=manifest.card.licence,
        citation=manifest.card.citation,
        training={
            "steps": state.step,
            "seconds": round(state.seconds, 1),
            "device": loop.device.type,
            "computed_in": str(loop.dtype).removeprefix("torch."),
            "seed": config.seed,
            "parameters": count_parameters(loop.network),
            "pseudo_dice": state.history[-1].pseudo_dice,
        },
    )
    return Model(plan, card, weights_of(loop.network))
