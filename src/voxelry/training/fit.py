"""Training of one network, from cases and a plan to a model folder, for single runs and each fold of a cross-validation."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from voxelry.augmentation.augmenter import Augmenter
from voxelry.base.device import choose_device
from voxelry.base.progress import TrainingStep
from voxelry.base.version import version
from voxelry.core.label_combinations import LabelCombinations
from voxelry.core.labels import LabelTable
from voxelry.core.model import Model, ModelCard
from voxelry.core.plan import Fingerprint, Plan
from voxelry.core.volume import LabelMap
from voxelry.datasets.cases import Case
from voxelry.datasets.duplicates import LEAK_REMEDY
from voxelry.datasets.load import load_image
from voxelry.errors import SplitLeakError, TrainingError
from voxelry.networks.build import build_network, count_parameters, head_channels, input_channels
from voxelry.networks.classes import class_members
from voxelry.networks.cost import network_cost, training_dtype
from voxelry.networks.transfer import NetworkEnds, load_matching
from voxelry.networks.weights import PLAN_FILE, load_models, save_model, weights_of
from voxelry.planning.plan_file import save_plan
from voxelry.preparation.cache import CachedCase, with_first_stage
from voxelry.recipes.recipe import Config
from voxelry.training.checkpoint import CHECKPOINT_FILE, RunState, load_checkpoint
from voxelry.training.device_batches import DeviceAugmentation
from voxelry.training.distillation import Teacher
from voxelry.training.full_volume_validation import FullVolumeValidation
from voxelry.training.loop import TrainingLoop
from voxelry.training.options import RunOptions
from voxelry.training.predictions import HeldOutCases
from voxelry.training.run_files import MODEL_FOLDER, PREDICTIONS_FOLDER, save_recipe
from voxelry.training.sampler import Sampler
from voxelry.training.setup import prepare_cases

CACHE_FOLDER = "cache"
FEW_STEPS = 50
"""Below this number of steps a time budget is too short to learn anything, of which a warning is logged."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkTask:
    """One network to train.

    Attributes:
        plan: plan of the network.
        fingerprint: fingerprint of the dataset, kept in the model's card.
        training: cases to learn from.
        validation: cases that are never learnt from: patches of them are scored during training, whole scans at the end.
        folder: folder of checkpoint, history and model.
        cache: folder of prepared cases.
        first_stage: of a cascade's second stage the network of the first that has not seen `validation`; None elsewhere.
        first_stage_masks: of a cascade's second stage the first stage's masks of all cases, each by a network that had not seen
            the case; None elsewhere.
    """

    plan: Plan
    fingerprint: Fingerprint
    training: Sequence[Case]
    validation: Sequence[Case]
    folder: Path
    cache: Path
    first_stage: Model | None = None
    first_stage_masks: HeldOutCases | None = None


def require_checkpoint(folder: Path) -> None:
    """Refuse to resume where there is no checkpoint.

    Raises:
        TrainingError: there is no checkpoint.
    """
    if not (folder / CHECKPOINT_FILE).is_file():
        raise TrainingError(f"{folder}: no {CHECKPOINT_FILE} to resume from", remedy="Leave out --resume to start a new run.")


def fit(options: RunOptions, task: NetworkTask, *, resume: bool, spent: float) -> tuple[Model, RunState]:
    """Train one network and keep it as a model folder.

    Args:
        options: options of the run.
        task: the network.
        resume: continue from the checkpoint in the task's folder.
        spent: seconds of its time budget that are gone already; preparation here is added to them.

    Returns:
        The model, without clean-up rules, and the final state.

    Raises:
        TrainingError: nothing to resume from, another recipe, or a loss that is not finite.
    """
    entered = time.monotonic()
    config = options.config
    state = load_checkpoint(task.folder) if resume else None
    if state is None:
        for name in (MODEL_FOLDER, PREDICTIONS_FOLDER):
            shutil.rmtree(task.folder / name, ignore_errors=True)
        save_recipe(config, task.folder)
        save_plan(task.plan, task.folder / PLAN_FILE)
    training, validation = (_prepared(options, task, cases) for cases in (task.training, task.validation))
    if state is None:
        _refuse_shared_images(training, validation)
        _warn_of_time(config, spent + time.monotonic() - entered)
    initial = load_models(config.initial, config.plan.network)[0] if config.initial and state is None else None
    loop = make_loop(options, task, training, validation, initial)
    if state is not None:
        loop.restore(state)

    def on_step(step: TrainingStep) -> None:
        options.on_step(step)
        options.progress("training", step.step, step.total)

    final = loop.run(on_step, spent=spent + time.monotonic() - entered)
    _warn_of_few_steps(config, final.step, loop.length.fixed)
    record = {
        "steps": final.step,
        "seconds": round(final.seconds, 1),
        "device": loop.device.type,
        "computed_in": str(loop.dtype).removeprefix("torch."),
        "seed": config.seed,
        "parameters": count_parameters(loop.network),
        "cases": len(task.training),
        "pseudo_dice": final.history[-1].pseudo_dice,
        **({} if loop.teacher is None else {"teacher_networks": len(loop.teacher.networks)}),
    }
    return save_model(make_model(options, task, loop.network, record), task.folder / MODEL_FOLDER), final


def _refuse_shared_images(training: Sequence[CachedCase], validation: Sequence[CachedCase]) -> None:
    """Refuse to validate on an image that is learnt from under another id.

    Raises:
        SplitLeakError: naming the two cases.
    """
    learnt = {case.checksum: case for case in training}
    for case in validation:
        other = None if case.checksum is None else learnt.get(case.checksum)
        if other is not None and _is_same_image(case, other):
            raise SplitLeakError(
                f"cases '{other.id}' (training) and '{case.id}' (validation) are the same image", remedy=LEAK_REMEDY
            )


def _is_same_image(case: CachedCase, other: CachedCase) -> bool:
    """The prepared images are equal, and not of a single value."""
    image, others = np.asarray(case.image), np.asarray(other.image)
    return image.shape == others.shape and bool((image == others).all()) and bool((image != image.flat[0]).any())


def _warn_of_time(config: Config, spent: float) -> None:
    """Warn where a time budget is gone before the first step."""
    if config.time_budget is not None and spent >= config.time_budget:
        log.warning(
            "the time budget of %.3g s is over before training begins: reading and preparing took %.3g s. One step is trained, "
            "from which no network learns. Give more time; prepared cases are kept in the run's cache.",
            config.time_budget,
            spent,
        )


def _warn_of_few_steps(config: Config, steps: int, asked: int | None) -> None:
    """Warn where a time budget ended training after so few steps that nothing was learnt; `asked` is the recipe's own number."""
    if config.time_budget is not None and 1 < steps < min(FEW_STEPS, asked or FEW_STEPS):
        log.warning(
            "only %d steps fitted the time budget of %.3g s: a network hardly learns from so few", steps, config.time_budget
        )


def _prepared(options: RunOptions, task: NetworkTask, cases: Sequence[Case]) -> list[CachedCase]:
    """Cases from the cache; for a cascade's second stage with the masks of a first stage that has not seen them."""
    ready = prepare_cases(options.manifest, task.plan, cases, task.cache, options.progress)
    masks = task.first_stage_masks
    if masks is None:
        return ready
    return [
        with_first_stage(cached, task.plan, masks.store(case).identity(case.id), partial(_first_stage_mask, masks, case))
        for cached, case in zip(ready, cases, strict=True)
    ]


def _first_stage_mask(masks: HeldOutCases, case: Case) -> LabelMap:
    """The first stage's mask of a case."""
    return masks.store(case).load(case.id, load_image(case, masks.manifest.card).geometry)


def make_loop(
    options: RunOptions,
    task: NetworkTask,
    training: list[CachedCase],
    validation: list[CachedCase],
    initial: Model | None = None,
) -> TrainingLoop:
    """The training loop of a network.

    Args:
        options: options of the run.
        task: the network.
        training: prepared cases to learn from.
        validation: prepared cases for pseudo-Dice; the training cases serve where there are none.
        initial: a model whose weights to start from, where they fit; None starts from random ones.
    """
    config, plan, table = options.config, task.plan, options.manifest.card.table
    torch.manual_seed(config.seed)
    network = build_network(plan, len(table) + 1)
    dtype = training_dtype(network, plan, len(table) + 1, choose_device(config.device), config.mixed_precision)
    cost = network_cost(network, plan, len(table) + 1, dtype=dtype, moments=config.optimiser.moments)
    options.progress(f"{plan.network.name}: {cost}", 1, 1)
    if initial is not None:
        ends = NetworkEnds.of(initial.plan, initial.labels), NetworkEnds.of(plan, table)
        options.progress(f"from {config.initial}: {load_matching(network, plan, initial.weights, *ends)}", 1, 1)
    device = choose_device(config.device).type
    augment = Augmenter(plan, config.augment.chosen(options.manifest.card.modality, plan.dimensions, device), table)
    make_sampler = partial(
        Sampler,
        patch=plan.patch_size,
        batch=plan.batch_size,
        regions=tuple(class_members(plan, table).values()) if plan.regions else (),
        previous=input_channels(plan, len(table) + 1) - len(plan.channels),
        head_classes=LabelCombinations(table).count if head_channels(plan) else 0,
    )
    sampler = make_sampler(
        training, foreground=config.oversample_foreground, seed=config.seed, augment=augment, on_device=device == "cuda"
    )
    return TrainingLoop(
        network,
        config,
        plan,
        table,
        sampler,
        make_sampler(validation or training, foreground=1.0, seed=config.seed + 1),
        task.folder,
        augment=DeviceAugmentation(sampler) if sampler.on_device else None,
        validate=FullVolumeValidation(options.manifest, task.validation, partial(make_model, options, task), config.device)
        if task.validation
        else None,
        teacher=_teacher(config, plan, table, dtype),
    )


def _teacher(config: Config, plan: Plan, table: LabelTable, dtype: torch.dtype) -> Teacher | None:
    """The model whose answers are learnt; None where the recipe names none."""
    if config.teacher is None:
        return None
    return Teacher(load_models(config.teacher), plan, table, choose_device(config.device), dtype, config.seed)


def make_model(options: RunOptions, task: NetworkTask, network: nn.Module, record: dict[str, Any] | None = None) -> Model:
    """A network as a model, without clean-up rules; `record` is kept in its card."""
    dataset = options.manifest.card
    card = ModelCard(
        name=dataset.name,
        version=version(),
        labels=dataset.table,
        fingerprint=task.fingerprint,
        licence=dataset.licence,
        citation=dataset.citation,
        training=record or {},
    )
    return Model(task.plan, card, weights_of(network), previous=task.first_stage)
