"""Throughput: the time of a training step on this machine and, on a CPU, the width of a network for its time budget.

Over few steps a narrow network learns more than a wide one, over many steps less. On a GPU the planner's rules decide by memory;
on a CPU time is the limit, and the time of a step depends on the machine: so it is measured.
"""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from voxelry.base.device import choose_device
from voxelry.base.progress import TrainingStep
from voxelry.core.architectures import architecture, is_import_path
from voxelry.core.plan import Configuration, Fingerprint, Plan
from voxelry.preparation.cache import Array, CachedCase
from voxelry.preparation.class_locations import class_locations
from voxelry.preparation.instance_targets import InstanceTargets
from voxelry.recipes.recipe import changed
from voxelry.training.fit import NetworkTask, make_loop
from voxelry.training.options import RunOptions
from voxelry.training.time_budget import fitting_steps

log = logging.getLogger(__name__)

WARMING, TIMED = 3, 8
"""Steps that are not timed, and steps that are."""
PATIENCE = 30.0
"""Seconds after which timing ends with the steps timed by then."""
FEW = 300
"""A network of which fewer steps fit its time is halved in width, as long as its first stage keeps `NARROWEST` channels."""
NARROWEST = 8


class _TimedEnoughError(Exception):
    """The steps timed so far are enough."""


def step_seconds(options: RunOptions, fingerprint: Fingerprint, plan: Plan) -> float:
    """The median time of a few steps of the training loop on noise, including the time to make batches.

    Args:
        options: options of the run.
        fingerprint: fingerprint of the dataset.
        plan: plan of the network.
    """
    marks: list[float] = []

    def mark(_: TrainingStep) -> None:
        marks.append(time.perf_counter())
        if len(marks) > 2 and marks[-1] - marks[0] > PATIENCE:
            raise _TimedEnoughError

    config = changed(options.config, steps=WARMING + TIMED, validations=1, track=(), initial=None, patience=None)
    case = _noise(plan, len(options.manifest.card.table) + 1, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        task = NetworkTask(plan, fingerprint, (), (), Path(folder), Path(folder))
        loop = make_loop(RunOptions(config, options.manifest), task, [case], [case])
        with suppress(_TimedEnoughError):
            loop.run(mark)
    steps = np.diff(marks)[:-1]  # the last is followed by the measurements at the end
    return float(np.median(steps[min(WARMING, len(steps) - 1) :]))


def narrowed_to_budget(
    options: RunOptions, fingerprint: Fingerprint, plans: dict[Configuration, Plan]
) -> dict[Configuration, Plan]:
    """The plans, their networks narrowed on a CPU until enough steps fit the time budget.

    Widths that the user, the recipe or the network's authors fix, stay. The reasons of the resulting plan name the times
    measured.

    Args:
        options: options of the run; the time budget of its recipe is that of one network.
        fingerprint: fingerprint of the dataset.
        plans: as the planner made them.
    """
    config = options.config
    on_cpu = choose_device(config.device).type == "cpu"
    if options.plan is not None or config.time_budget is None or not on_cpu or config.plan.features or config.initial:
        return plans
    return {name: _narrowed_to_budget(options, fingerprint, plan) for name, plan in plans.items()}


def _narrowed_to_budget(options: RunOptions, fingerprint: Fingerprint, plan: Plan) -> Plan:
    name = plan.network.name
    if is_import_path(name) or architecture(name).fixed_width:
        return plan
    while plan.network.features[0] > NARROWEST:
        seconds = step_seconds(options, fingerprint, plan)
        steps = fitting_steps(options.config, seconds)
        if steps is None or steps >= FEW:
            break
        plan = _narrowed(plan, seconds, steps, options.config.time_budget or 0.0)
        log.info(plan.reasons[-1])
    return plan


def _narrowed(plan: Plan, seconds: float, steps: int, budget: float) -> Plan:
    features = tuple(max(NARROWEST, width // 2) for width in plan.network.features)
    reason = (
        f"A step of the network with {', '.join(map(str, plan.network.features))} channels took {seconds:.2g} s on this CPU, so "
        f"that {steps} steps would fit the {budget:.0f} s; fewer than {FEW} are too few, so it has "
        f"{', '.join(map(str, features))}."
    )
    network = plan.network.model_copy(update={"features": features})
    return plan.model_copy(update={"network": network, "reasons": (*plan.reasons, reason)})


def _noise(plan: Plan, classes: int, seed: int) -> CachedCase:
    """A case a quarter larger than a patch, in which every class occurs."""
    random = np.random.default_rng(seed)
    shape = tuple(edge + edge // 4 for edge in plan.patch_size)
    labels = random.integers(0, classes, shape).astype(np.int16)
    image = random.normal(size=(len(plan.channels), *shape)).astype(np.float16)
    locations: dict[int, Array] = dict(class_locations(labels, classes))
    targets = InstanceTargets(*(random.integers(0, 3, shape).astype(np.int8) for _ in range(2)))
    return CachedCase("noise", image, labels, locations, first_stage=labels, targets=targets)
