"""`voxelry train`: trains a model by a recipe, or estimates its memory and time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxelry.cli.output import Json, Root, print_json, say, seconds_of, show_scores, tell
from voxelry.errors import UsageError

if TYPE_CHECKING:
    from voxelry.training.estimate import Estimate


def train(
    config: Annotated[Path, typer.Argument(help="A recipe (see configs/).")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; the model is written into its folder 'model'.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Epochs of each network, in place of the recipe's length.")
    ] = None,
    time_budget: Annotated[
        str | None,
        typer.Option("--time-budget", help="Preparation and training time of all networks together, such as 10m."),
    ] = None,
    folds: Annotated[
        str | None, typer.Option("--folds", help="Cross-validate: number of folds by patient, such as 5, or a file of folds.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", help="Train only this fold, from 0; a final --resume without it combines all.")
    ] = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="Use this plan (written by plan --out) unchanged.")] = None,
    initial: Annotated[
        Path | None, typer.Option("--from", metavar="MODEL", help="Start from this model's weights, where they fit.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate plan, memory and time, and write nothing.")] = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Train a model by a recipe; with folds, cross-validate and keep the best networks as an ensemble."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    fold_choice = None if folds is None else int(folds) if folds.isdigit() else Path(folds)
    choices: dict[str, Any] = {
        "changes": change or [], "epochs": epochs, "time_budget": seconds_of(time_budget), "folds": fold_choice, "fold": fold,
        "plan": plan, "initial": initial, "root": root,
    }  # fmt: skip
    if dry_run and resume:
        raise UsageError("--dry-run estimates a new run, and --resume continues an old one", remedy="Give one of the two.")
    if dry_run:
        with progress() as shown:
            estimate = api.estimate(config, progress=shown, **choices)
        if as_json:
            print_json(estimate.to_dict())
        else:
            tell(_estimate_text(estimate), newline=False)
        return
    if out is None:
        raise UsageError("train without --out", remedy="Name a folder for the run, as --out run.")
    with progress() as shown:
        result = api.train(config, out, resume=resume, progress=shown, on_step=shown.on_step, **choices)
    extra = {"out": str(out), "model": str(result.path), "seconds": round(result.seconds, 1)}
    if result.scores is not None:
        show_scores(result.scores, as_json, extra)
    elif as_json:
        print_json(extra)
    say(f"\nModel: {result.path}")


def _estimate_text(estimate: Estimate) -> str:
    """An estimate as text: plans as YAML, and the cost of each network."""
    from voxelry.base.memory import short_memory
    from voxelry.base.progress import clock
    from voxelry.planning.plan_file import plan_text

    lines = []
    for name, network in estimate.networks.items():
        cost = network.cost
        lines += [
            f"# {name}",
            plan_text(network.plan),
            f"parameters: {cost.parameters / 1e6:.2f} million",
            f"memory of a step: about {short_memory(cost.total)} on {estimate.device} ({network.computed_in})",
            f"a step: {network.step_seconds:.3g} s; {network.steps} steps: {clock(network.seconds)}",
            "",
        ]
    count = estimate.copies * len(estimate.networks)
    networks = f"{count} networks" if count > 1 else "one network"
    lines.append(f"{networks}, training only: {clock(estimate.seconds)} (minutes:seconds); reading and validation not included")
    return "\n".join(lines) + "\n"
