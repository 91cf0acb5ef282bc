"""Time budgets: the seconds of a command become one value per network, kept as `time_budget` of the run's recipe.

A recipe's own time budget is of one network and stays as it is. A command's (`--time-budget`) is of all networks that it trains:
`share_time_budget` divides it evenly and puts the share into the recipe. Everything else reads `Config.time_budget`:
`training.throughput` fits the network's width to it, `training.length` turns it into steps, `training.estimate` predicts from it.
"""

from __future__ import annotations

import time
from dataclasses import replace

from voxelry.recipes.recipe import Config, changed
from voxelry.training.options import RunOptions


def share_time_budget(options: RunOptions, networks: int) -> RunOptions:
    """The options with each network's share of the command's time budget in the recipe.

    Args:
        options: options of the run; without a time budget of the command they come back unchanged.
        networks: number of networks that the command trains.
    """
    if options.time_budget is None:
        return options
    return replace(options, config=changed(options.config, time_budget=options.time_budget / networks))


def seconds_spent(options: RunOptions, number: int, began: float, last: float) -> float:
    """Seconds of a network's time budget that are gone before its training starts.

    Where the command has a time budget, a network that starts later than its share of the time begins is charged the delay; one
    that starts early gets what the networks before it left. Elsewhere a network is charged what followed the one before it.

    Args:
        options: after `share_time_budget`.
        number: number of the network, from 0, in the order of training.
        began: monotonic time at which the command began.
        last: monotonic time at which the network before it was finished; `began` for the first.
    """
    now = time.monotonic()
    if options.time_budget is None or options.config.time_budget is None:
        return now - last
    return max(0.0, now - began - number * options.config.time_budget)


def fitting_steps(config: Config, step_seconds: float) -> int | None:
    """Steps of `step_seconds` each that fit a network's time budget; None without one."""
    return None if config.time_budget is None else int(config.time_budget / step_seconds)
