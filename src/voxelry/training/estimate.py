"""What a run would take, before it takes it: plans, numbers of parameters, memory, and time by a few steps that are timed.

Nothing of it is kept: cases are looked at and not prepared, and the steps that are timed learn from noise as large as a case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxelry.base.device import choose_device, compute_dtype
from voxelry.base.progress import ProgressCallback
from voxelry.core.plan import Configuration, Fingerprint, Plan
from voxelry.datasets.cases import Case
from voxelry.datasets.manifest import Manifest
from voxelry.networks.build import build_network
from voxelry.networks.cost import NetworkCost, network_cost
from voxelry.recipes.recipe import Config, changed
from voxelry.training.folds import chosen_folds, load_folds, make_folds
from voxelry.training.length import given_steps
from voxelry.training.setup import labelled_cases, look_at, make_plans
from voxelry.training.throughput import paced, step_seconds


@dataclass(frozen=True)
class NetworkEstimate:
    """What one network of a configuration would take.

    Attributes:
        plan: of the network.
        cost: its parameters and bytes.
        step_seconds: of one step, the data made ready included.
        steps: that its length of training is, or that fit its time.
        seconds: of training; reading, preparation and validation come on top.
    """

    plan: Plan
    cost: NetworkCost
    step_seconds: float
    steps: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        seen: what the cases look like.
        device: that would train.
        computed_in: type in which it would compute.
        copies: networks of each configuration: one, or one a fold.
        networks: one of each configuration.
    """

    seen: Fingerprint
    device: str
    computed_in: str
    copies: int
    networks: dict[Configuration, NetworkEstimate]

    @property
    def seconds(self) -> float:
        """Of training all networks, one after the other."""
        return self.copies * sum(network.seconds for network in self.networks.values())

    def to_dict(self) -> dict[str, object]:
        """All of it as JSON can hold it."""
        networks = {
            name: {
                "plan": one.plan.model_dump(mode="json", exclude_none=True),
                "parameters": one.cost.parameters,
                "memory_bytes": one.cost.total,
                "step_seconds": round(one.step_seconds, 4),
                "steps": one.steps,
                "seconds": round(one.seconds, 1),
            }
            for name, one in self.networks.items()
        }
        facts = {"device": self.device, "computed_in": self.computed_in, "copies": self.copies, "seconds": round(self.seconds, 1)}
        return {**facts, "networks": networks, "fingerprint": self.seen.model_dump(mode="json")}


def estimate(
    config: Config,
    manifest: Manifest,
    progress: ProgressCallback,
    *,
    plan: Plan | None = None,
    budget: float | None = None,
    fold: int | None = None,
) -> Estimate:
    """Plan as a run would, and time a few steps of each network.

    Args:
        config: the recipe.
        manifest: the dataset.
        progress: called as cases are looked at and steps are timed.
        plan: a plan to take as it is.
        budget: seconds for all networks together, in place of the recipe's length of each.
        fold: of a cross-validation the one fold that would be trained; None is all.

    Raises:
        ConfigError: the recipe does not fit the data.
        ManifestError: no labelled training cases, or folds that do not fit them.
        UsageError: a fold that there is not.
    """
    cases = labelled_cases(manifest, *(("train", "val") if config.folds else ("train",)))
    parts = _parts(config, cases)
    copies = len(chosen_folds(fold, parts)) or 1
    seen = look_at(manifest, cases, progress)
    plans = make_plans(config, manifest, seen, plan)
    if budget is not None:
        config = changed(config, time_budget=budget / (copies * len(plans)))
    plans = paced(config, manifest, seen, plans, given=plan is not None)
    learnt = len(cases) - (len(cases) // parts if parts else 0)
    networks = {}
    for number, (name, one) in enumerate(plans.items(), start=1):
        networks[name] = _network(config, manifest, seen, one, learnt)
        progress("timing steps", number, len(plans))
    device = choose_device(config.device)
    dtype = str(compute_dtype(device, config.mixed_precision)).removeprefix("torch.")
    return Estimate(seen, device.type, dtype, copies, networks)


def _parts(config: Config, cases: Sequence[Case]) -> int:
    """How many folds, 0 without."""
    if isinstance(config.folds, str):
        return len(load_folds(Path(config.folds), cases))
    return len(make_folds(cases, config.folds, config.seed)) if config.folds else 0


def _network(config: Config, manifest: Manifest, seen: Fingerprint, plan: Plan, cases: int) -> NetworkEstimate:
    classes = len(manifest.card.table) + 1
    dtype = compute_dtype(choose_device(config.device), config.mixed_precision)
    cost = network_cost(build_network(plan, classes), plan, classes, dtype=dtype, moments=config.optimiser.moments)
    pace = step_seconds(config, manifest, seen, plan)
    given = given_steps(config, cases, plan.batch_size * config.optimiser.accumulate)
    fitting = None if config.time_budget is None else max(1, int(config.time_budget / pace))
    steps = min(number for number in (given, fitting) if number is not None)
    return NetworkEstimate(plan, cost, pace, steps, steps * pace)
