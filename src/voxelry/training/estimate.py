"""Estimates a run before it starts: plans, parameters, memory, and training time from a few timed steps.

Nothing is written: cases are read but not prepared, and the timed steps train on noise of the size of a case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxelry.base.device import choose_device
from voxelry.core.plan import Configuration, Fingerprint, Plan
from voxelry.datasets.cases import Case
from voxelry.networks.build import build_network
from voxelry.networks.cost import NetworkCost, network_cost, training_dtype
from voxelry.recipes.recipe import Config
from voxelry.training.folds import folds_to_train, load_folds, make_folds
from voxelry.training.length import recipe_steps
from voxelry.training.options import RunOptions
from voxelry.training.setup import dataset_fingerprint, labelled_cases, make_plans
from voxelry.training.throughput import narrowed_to_budget, step_seconds
from voxelry.training.time_budget import fitting_steps, share_time_budget


@dataclass(frozen=True)
class NetworkEstimate:
    """The cost of one network of a configuration.

    Attributes:
        plan: plan of the network.
        cost: its parameters and bytes.
        computed_in: type in which it would be computed.
        step_seconds: seconds of one step, making its batch included.
        steps: steps that the recipe asks for, or that fit the time budget.
        seconds: seconds of training; reading, preparation and validation are not included.
    """

    plan: Plan
    cost: NetworkCost
    computed_in: str
    step_seconds: float
    steps: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """The cost of a run.

    Attributes:
        fingerprint: fingerprint of the dataset.
        device: device that would train.
        copies: networks of each configuration: one, or one per fold.
        networks: one of each configuration.
    """

    fingerprint: Fingerprint
    device: str
    copies: int
    networks: dict[Configuration, NetworkEstimate]

    @property
    def seconds(self) -> float:
        """Seconds of training all networks, one after the other."""
        return self.copies * sum(network.seconds for network in self.networks.values())

    def to_dict(self) -> dict[str, object]:
        """All of it as plain JSON values."""
        networks = {
            name: {
                "plan": network.plan.model_dump(mode="json", exclude_none=True),
                "parameters": network.cost.parameters,
                "memory_bytes": network.cost.total,
                "computed_in": network.computed_in,
                "step_seconds": round(network.step_seconds, 4),
                "steps": network.steps,
                "seconds": round(network.seconds, 1),
            }
            for name, network in self.networks.items()
        }
        facts = {"device": self.device, "copies": self.copies, "seconds": round(self.seconds, 1)}
        return {**facts, "networks": networks, "fingerprint": self.fingerprint.model_dump(mode="json")}


def estimate(options: RunOptions) -> Estimate:
    """Plan as a run would, and time a few steps of each network.

    Args:
        options: options of the run.

    Raises:
        ConfigError: the recipe does not fit the data.
        ManifestError: no labelled training cases, or folds that do not fit them.
        UsageError: a fold that does not exist.
    """
    cases = labelled_cases(options.manifest, *(("train", "val") if options.config.folds else ("train",)))
    folds = _fold_count(options.config, cases)
    copies = len(folds_to_train(options.fold, folds)) or 1
    fingerprint = dataset_fingerprint(options.manifest, cases, options.progress)
    plans = make_plans(options, fingerprint)
    options = share_time_budget(options, copies * len(plans))
    plans = narrowed_to_budget(options, fingerprint, plans)
    training = len(cases) - (len(cases) // folds if folds else 0)
    networks = {}
    for number, (name, plan) in enumerate(plans.items(), start=1):
        networks[name] = _network_estimate(options, fingerprint, plan, training)
        options.progress("timing steps", number, len(plans))
    return Estimate(fingerprint, choose_device(options.config.device).type, copies, networks)


def _fold_count(config: Config, cases: Sequence[Case]) -> int:
    """The number of folds, 0 without cross-validation."""
    if isinstance(config.folds, str):
        return len(load_folds(Path(config.folds), cases))
    return len(make_folds(cases, config.folds, config.seed)) if config.folds else 0


def _network_estimate(options: RunOptions, fingerprint: Fingerprint, plan: Plan, cases: int) -> NetworkEstimate:
    config, classes = options.config, len(options.manifest.card.table) + 1
    network = build_network(plan, classes)
    dtype = training_dtype(network, plan, classes, choose_device(config.device), config.mixed_precision)
    cost = network_cost(network, plan, classes, dtype=dtype, moments=config.optimiser.moments)
    seconds = step_seconds(options, fingerprint, plan)
    fitting = fitting_steps(config, seconds)
    asked_for = recipe_steps(config, cases, plan.batch_size * config.optimiser.accumulate)
    limits = (asked_for, None if fitting is None else max(1, fitting))
    steps = min(limit for limit in limits if limit is not None)
    return NetworkEstimate(plan, cost, str(dtype).removeprefix("torch."), seconds, steps, steps * seconds)
