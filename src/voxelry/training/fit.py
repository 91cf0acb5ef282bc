"""One network, from cases and a plan to a model folder: what single runs and every fold of a cross-validation do."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from voxelry.augmentation.augmenter import Augmenter
from voxelry.base.device import choose_device, compute_dtype
from voxelry.base.progress import ProgressCallback, StepCallback, TrainingStep
from voxelry.core.model import Model, ModelCard
from voxelry.core.plan import Fingerprint, Plan
from voxelry.core.volume import LabelMap
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_image
from voxelry.datasets.manifest import Manifest
from voxelry.errors import TrainingError, UsageError
from voxelry.networks.build import build_network, count_parameters, input_channels
from voxelry.networks.classes import class_members
from voxelry.networks.cost import network_cost
from voxelry.networks.transfer import NetworkEnds, load_matching
from voxelry.networks.weights import load_models, save_model, weights_of
from voxelry.planning.plan_file import save_plan
from voxelry.preparation.cache import CachedCase, with_first_stage
from voxelry.recipes.recipe import Config
from voxelry.training.checkpoint import CHECKPOINT_FILE, RunState, load_checkpoint
from voxelry.training.device_batches import OnDevice
from voxelry.training.full_volume_validation import WholeCases
from voxelry.training.loop import Loop
from voxelry.training.predictions import Held
from voxelry.training.run_files import PLAN_FILE, save_recipe
from voxelry.training.sampler import Sampler
from voxelry.training.setup import prepared

CACHE_FOLDER = "cache"
MODEL_FOLDER = "model"
PREDICTIONS_FOLDER = "predictions"


@dataclass(frozen=True)
class Run:
    """What all networks of a run share.

    Attributes:
        config: the recipe.
        manifest: the dataset.
        seen: what the cases look like.
        folder: of the run.
        version: of voxelry, for cards.
        progress: called as cases are prepared and validated, and at every step.
        on_step: called at every step with its loss and what else is known.
    """

    config: Config
    manifest: Manifest
    seen: Fingerprint
    folder: Path
    version: str
    progress: ProgressCallback
    on_step: StepCallback


@dataclass(frozen=True)
class Task:
    """One network to train.

    Attributes:
        plan: of the network.
        training: cases to learn from.
        validation: cases of which windows are looked at now and then, and which are segmented at the end; never learnt from.
        folder: of checkpoint, history and model.
        first: of a cascade's second stage the first stage's network that has not seen `validation`; None elsewhere.
        found: what first stages found in all cases, each by a network that had not seen it; None elsewhere.
    """

    plan: Plan
    training: Sequence[Case]
    validation: Sequence[Case]
    folder: Path
    first: Model | None = None
    found: Held | None = None


def refuse_begun(folder: Path) -> None:
    """Refuse to train where a run has begun.

    Raises:
        UsageError: there is a checkpoint.
    """
    if (folder / CHECKPOINT_FILE).exists():
        raise UsageError(f"{folder}: holds a run already", remedy="Add --resume to go on with it, or choose another --out.")


def require_checkpoint(folder: Path) -> None:
    """Refuse to go on where nothing has begun.

    Raises:
        TrainingError: there is no checkpoint.
    """
    if not (folder / CHECKPOINT_FILE).is_file():
        raise TrainingError(f"{folder}: no {CHECKPOINT_FILE} to resume from", remedy="Leave out --resume to start anew.")


def fit(run: Run, task: Task, *, resume: bool, spent: float) -> tuple[Model, RunState]:
    """Train one network and keep it as a model folder.

    Args:
        run: what it shares with others.
        task: the network.
        resume: go on from the checkpoint in the task's folder.
        spent: seconds of its time budget that are gone already; preparation here comes on top.

    Returns:
        The model, without clean-up rules, and the final state.

    Raises:
        TrainingError: nothing to resume from, another recipe, or a loss that is not finite.
    """
    entered = time.monotonic()
    state = load_checkpoint(task.folder) if resume else None
    if state is None:
        for name in (MODEL_FOLDER, PREDICTIONS_FOLDER):
            shutil.rmtree(task.folder / name, ignore_errors=True)
        save_recipe(run.config, task.folder)
        save_plan(task.plan, task.folder / PLAN_FILE)
    training, validation = (_prepared(run, task, cases) for cases in (task.training, task.validation))
    initial = load_models(run.config.initial, run.config.plan.network)[0] if run.config.initial and state is None else None
    loop = make_loop(run, task, training, validation, initial)
    if state is not None:
        loop.restore(state)
    final = loop.run(partial(_tell, run), spent=spent + time.monotonic() - entered)
    record = {
        "steps": final.step,
        "seconds": round(final.seconds, 1),
        "device": loop.device.type,
        "computed_in": str(loop.dtype).removeprefix("torch."),
        "seed": run.config.seed,
        "parameters": count_parameters(loop.network),
        "cases": len(task.training),
        "pseudo_dice": final.history[-1].pseudo_dice,
    }
    return save_model(model_of(run, task, loop.network, record), task.folder / MODEL_FOLDER), final


def _tell(run: Run, step: TrainingStep) -> None:
    run.on_step(step)
    run.progress("training", step.step, step.total)


def _prepared(run: Run, task: Task, cases: Sequence[Case]) -> list[CachedCase]:
    """Cases from the cache; in a cascade's second stage with what a first stage that has not seen them found there."""
    ready = prepared(run.manifest, task.plan, cases, run.folder / CACHE_FOLDER, run.progress)
    if task.found is None:
        return ready
    return [
        with_first_stage(one, task.plan, task.found.store(case).identity(case.id), partial(_found, task.found, case))
        for one, case in zip(ready, cases, strict=True)
    ]


def _found(held: Held, case: Case) -> LabelMap:
    """What the first stage found in a case."""
    return held.store(case).load(case.id, load_image(case, held.manifest.card).geometry)


def make_loop(
    run: Run, task: Task, training: list[CachedCase], validation: list[CachedCase], initial: Model | None = None
) -> Loop:
    """The loop of a task.

    Args:
        run: what it shares with others.
        task: the network.
        training: prepared cases to learn from.
        validation: prepared cases for pseudo-Dice; where there are none those of training take their place.
        initial: whose weights to start from, where they fit; None starts from fresh ones.
    """
    config, plan, table = run.config, task.plan, run.manifest.card.table
    torch.manual_seed(config.seed)
    network = build_network(plan, len(table) + 1)
    dtype = compute_dtype(choose_device(config.device), config.mixed_precision)
    run.progress(
        f"{plan.network.name}: {network_cost(network, plan, len(table) + 1, dtype=dtype, moments=config.optimiser.moments)}", 1, 1
    )
    if initial is not None:
        ends = NetworkEnds.of(initial.plan, initial.labels), NetworkEnds.of(plan, table)
        run.progress(f"from {config.initial}: {load_matching(network, plan, initial.weights, *ends)}", 1, 1)
    device = choose_device(config.device).type
    augment = Augmenter(plan, config.augment.chosen(run.manifest.card.modality, plan.dimensions, device), table)
    draws = partial(
        Sampler,
        patch=plan.patch_size,
        batch=plan.batch_size,
        regions=tuple(class_members(plan, table).values()) if plan.regions else (),
        previous=input_channels(plan, len(table) + 1) - len(plan.channels),
    )
    learnt = draws(training, foreground=config.oversample_foreground, seed=config.seed, augment=augment, boxed=device == "cuda")
    return Loop(
        network,
        config,
        plan,
        table,
        learnt,
        draws(validation or training, foreground=1.0, seed=config.seed + 1),
        task.folder,
        augment=OnDevice(learnt) if learnt.boxed else None,
        validate=WholeCases(run.manifest, task.validation, partial(model_of, run, task), config.device)
        if task.validation
        else None,
    )


def model_of(run: Run, task: Task, network: nn.Module, record: dict[str, Any] | None = None) -> Model:
    """A network as a model, without clean-up rules; `record` is kept in its card."""
    card = ModelCard(
        name=run.manifest.card.name,
        version=run.version,
        labels=run.manifest.card.table,
        fingerprint=run.seen,
        licence=run.manifest.card.licence,
        citation=run.manifest.card.citation,
        training=record or {},
    )
    return Model(task.plan, card, weights_of(network), previous=task.first)
