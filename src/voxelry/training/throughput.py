"""How fast a network learns on this machine, and, on a CPU, how wide it may be for its time.

Over few steps a narrow network learns more than a wide one, over many a wide one more than a narrow one. On a GPU the planner's
rules decide by memory; on a CPU time is short first, and how much a step takes depends on the machine: so it is timed.
"""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from voxelry.base.device import choose_device
from voxelry.base.progress import TrainingStep, no_progress
from voxelry.core.architectures import architecture, is_import_path
from voxelry.core.plan import Configuration, Fingerprint, Plan
from voxelry.datasets.manifest import Manifest
from voxelry.preparation.cache import Array, CachedCase
from voxelry.preparation.class_locations import class_locations
from voxelry.recipes.recipe import Config, changed
from voxelry.training.fit import Run, Task, make_loop

log = logging.getLogger(__name__)

WARMING, TIMED = 3, 8
"""Steps that are not timed, and steps that are."""
PATIENCE = 30.0
"""Seconds after which the steps timed by then are enough."""
FEW = 300
"""A network of which fewer steps fit its time is halved in width, as long as its first stage keeps `NARROWEST` channels."""
NARROWEST = 8


class _EnoughError(Exception):
    """The steps timed so far are enough."""


def step_seconds(config: Config, manifest: Manifest, seen: Fingerprint, plan: Plan) -> float:
    """The median of a few steps of the loop itself, on noise, the data made ready included.

    Args:
        config: the recipe.
        manifest: the dataset.
        seen: what its cases look like.
        plan: of the network.
    """
    marks: list[float] = []

    def mark(_: TrainingStep) -> None:
        marks.append(time.perf_counter())
        if len(marks) > 2 and marks[-1] - marks[0] > PATIENCE:
            raise _EnoughError

    short = changed(config, steps=WARMING + TIMED, validations=1, track=(), initial=None, patience=None)
    case = _noise(plan, len(manifest.card.table) + 1, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(short, manifest, seen, Path(folder), "", no_progress, mark)
        loop = make_loop(run, Task(plan, (), (), Path(folder)), [case], [case])
        with suppress(_EnoughError):
            loop.run(mark)
    steps = np.diff(marks)[:-1]  # the last is followed by the measurements at the end
    return float(np.median(steps[min(WARMING, len(steps) - 1) :]))


def paced(
    config: Config, manifest: Manifest, seen: Fingerprint, plans: dict[Configuration, Plan], *, given: bool = False
) -> dict[Configuration, Plan]:
    """The plans, their networks narrowed on a CPU until enough steps fit the time budget.

    Widths that the recipe names, or that the network's authors fix, stay. The plan that is kept says what was timed.

    Args:
        config: the recipe; its time budget is of one network.
        manifest: the dataset.
        seen: what its cases look like.
        plans: as the planner made them.
        given: the user wrote them, and they stay as they are.
    """
    on_cpu = choose_device(config.device).type == "cpu"
    if given or config.time_budget is None or not on_cpu or config.plan.features or config.initial:
        return plans
    return {name: _paced(config, manifest, seen, plan) for name, plan in plans.items()}


def _paced(config: Config, manifest: Manifest, seen: Fingerprint, plan: Plan) -> Plan:
    assert config.time_budget is not None
    name = plan.network.name
    if is_import_path(name) or architecture(name).fixed_width:
        return plan
    while plan.network.features[0] > NARROWEST:
        pace = step_seconds(config, manifest, seen, plan)
        if config.time_budget / pace >= FEW:
            break
        plan = _narrowed(plan, pace, config.time_budget)
        log.info(plan.reasons[-1])
    return plan


def _narrowed(plan: Plan, pace: float, budget: float) -> Plan:
    features = tuple(max(NARROWEST, width // 2) for width in plan.network.features)
    reason = (
        f"A step of the network with {', '.join(map(str, plan.network.features))} channels took {pace:.2g} s on this CPU, so "
        f"that {int(budget / pace)} steps would fit the {budget:.0f} s; fewer than {FEW} are too few, so it has "
        f"{', '.join(map(str, features))}."
    )
    network = plan.network.model_copy(update={"features": features})
    return plan.model_copy(update={"network": network, "reasons": (*plan.reasons, reason)})


def _noise(plan: Plan, classes: int, seed: int) -> CachedCase:
    """A case a quarter larger than a window, in which every class occurs."""
    random = np.random.default_rng(seed)
    shape = tuple(edge + edge // 4 for edge in plan.patch_size)
    labels = random.integers(0, classes, shape).astype(np.int16)
    image = random.normal(size=(len(plan.channels), *shape)).astype(np.float16)
    places: dict[int, Array] = dict(class_locations(labels, classes))
    return CachedCase("noise", image, labels, places, first_stage=labels)
