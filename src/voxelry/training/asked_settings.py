"""Settings that cannot be obeyed: beside a given plan, a model to start from, or a run that is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxelry.core.plan import Configuration, Plan, axis_codes
from voxelry.errors import ConfigError, TrainingError
from voxelry.recipes.recipe import LENGTHS, Config
from voxelry.recipes.recipe_changes import differences
from voxelry.training.options import RunOptions
from voxelry.training.run_files import load_recipe

_UNCHECKED = ("memory", "preset")
"""Settings that a plan does not show: whether it was made with them is not known."""
_BY_THE_DATASET = {"reasons", "reference_channel", "regions"}
"""Fields of a plan that a run sets itself."""


def refuse_unmet(plan: Plan, config: Config, where: str) -> None:
    """Refuse settings of a recipe that a plan, which is used unchanged, does not meet.

    Args:
        plan: the plan.
        config: the recipe; settings that it leaves out are not asked for.
        where: where the plan comes from.

    Raises:
        ConfigError: there are some; each is named with both values.
    """
    asked = {f"plan.{name}": _asked(name, value) for name, value in config.plan if value is not None and value != {}}
    asked |= {name: getattr(config, name) for name in ("flips", "overlap") if name in config.model_fields_set}
    unmet = [
        f"{name}: {_text(value)}" + ("" if has is _UNCHECKED else f", the plan has {_text(has)}")
        for name, value in asked.items()
        if (has := _of_plan(plan, name)) != value
    ]
    if unmet:
        raise ConfigError(
            f"{where} is used unchanged, and does not meet {'; '.join(unmet)}",
            remedy="Change the plan, or leave out these settings.",
        )


def refuse_other_network(asked: str | None, start: Plan, where: str) -> None:
    """Refuse another network than that of the model whose weights training starts from.

    Raises:
        ConfigError: it is another.
    """
    if asked is not None and asked != start.network.name:
        raise ConfigError(
            f"plan.network is {asked}, but the model to start from, {where}, is a {start.network.name}",
            remedy=f"Leave out plan.network, or start from a {asked}.",
        )


def refuse_other_plan(options: RunOptions, recorded: Mapping[Configuration, Plan], folder: Path) -> None:
    """Refuse to resume a run with another plan than it began with.

    Raises:
        TrainingError: the plan that the options name differs; every key is named with both values.
    """
    if options.plan is None:
        return
    given = options.plan.model_dump(mode="json", exclude=_BY_THE_DATASET)
    own = recorded.get(options.plan.configuration)
    before = {"configuration": ", ".join(recorded)} if own is None else own.model_dump(mode="json", exclude=_BY_THE_DATASET)
    changes = differences(before, given if own is not None else {"configuration": options.plan.configuration})
    if changes:
        raise TrainingError(
            f"{folder}: the run began with another plan ({'; '.join(changes)})",
            remedy="Resume without --plan, or choose another --out.",
        )


def refuse_other_length(options: RunOptions, folder: Path) -> None:
    """Refuse another length of training than a run began with, where the command names one; left out, the run keeps its own.

    Raises:
        TrainingError: it is another; both are named.
    """
    if not options.names_length:
        return
    recorded = load_recipe(folder)
    if options.time_budget is not None and recorded.time_budget is not None:
        networks = options.time_budget / recorded.time_budget  # the budget was shared evenly among the networks
        if networks >= 0.999 and abs(networks - round(networks)) < 1e-6:
            return
    before, now = (recipe.model_dump(include=set(LENGTHS)) for recipe in (recorded, options.config))
    if options.time_budget is not None:
        now = {"time_budget": options.time_budget}
    changes = differences(before, now)
    if changes:
        raise TrainingError(
            f"{folder}: the run began with another length ({'; '.join(changes)})",
            remedy="Leave the length out, or choose another --out.",
        )


def _asked(name: str, value: Any) -> Any:
    """A setting as a plan has it."""
    if name == "orientation":
        return None if value == "stored" else axis_codes(value)
    return value


def _of_plan(plan: Plan, name: str) -> Any:
    """What a plan has for a setting."""
    key = name.removeprefix("plan.")
    if key in _UNCHECKED:
        return _UNCHECKED
    if key in ("features", "options"):
        return getattr(plan.network, key)
    if key == "instances":
        return "none" if plan.instances is None else plan.instances.decoder
    return plan.network.name if key == "network" else getattr(plan, key)


def _text(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else "not set" if value is None else str(value)
