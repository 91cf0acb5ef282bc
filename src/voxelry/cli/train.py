"""The verb ``train`` of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxelry.cli.output import Json, Root, print_json, say, seconds_of, show_scores
from voxelry.errors import UsageError

if TYPE_CHECKING:
    from voxelry.training.estimate import Estimate


def train(
    config: Annotated[Path, typer.Argument(help="A recipe, see configs/.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; the model will be in its 'model'.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="How often each network sees every case.")] = None,
    time_budget: Annotated[
        str | None,
        typer.Option("--time-budget", help="Preparation and training time, as 10m; with folds, of all their networks together."),
    ] = None,
    folds: Annotated[
        str | None, typer.Option("--folds", help="Cross-validate: how many parts by patient, as 5, or a file of folds.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", help="Train this fold alone, from 0; --resume without it joins all.")
    ] = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="Take this plan, which plan --out wrote, as it is.")] = None,
    initial: Annotated[
        Path | None, typer.Option("--from", metavar="MODEL", help="Start from this model's weights, where they fit.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take (plan, memory, time), and write nothing.")
    ] = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Train a model by a recipe; with folds, cross-validate and keep the best as an ensemble."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    parts = None if folds is None else int(folds) if folds.isdigit() else Path(folds)
    choices: dict[str, Any] = {
        "changes": change or [], "epochs": epochs, "time_budget": seconds_of(time_budget), "folds": parts, "fold": fold,
        "plan": plan, "initial": initial, "root": root,
    }  # fmt: skip
    if dry_run:
        with progress() as shown:
            found = api.estimate(config, progress=shown, **choices)
        if as_json:
            print_json(found.to_dict())
        else:
            typer.echo(_in_words(found), nl=False)
        return
    if out is None:
        raise UsageError("train without --out", remedy="Say where the run is to lie, as --out run.")
    with progress() as shown:
        result = api.train(config, out, resume=resume, progress=shown, on_step=shown.on_step, **choices)
    extra = {"out": str(out), "model": str(result.path), "seconds": round(result.seconds, 1)}
    if result.scores is not None:
        show_scores(result.scores, as_json, extra)
    elif as_json:
        print_json(extra)
    say(f"\nModel: {result.path}")


def _in_words(found: Estimate) -> str:
    """An estimate for people: the plans as YAML, and what each network takes."""
    from voxelry.cli.terminal import clock
    from voxelry.planning.plan_file import plan_text

    lines = []
    for name, network in found.networks.items():
        cost = network.cost
        lines += [
            f"# {name}",
            plan_text(network.plan),
            f"parameters: {cost.parameters / 1e6:.2f} million",
            f"memory of a step: about {cost.total / 1e9:.2f} GB on {found.device} ({found.computed_in})",
            f"a step: {network.step_seconds:.3g} s; {network.steps} steps: {clock(network.seconds)}",
            "",
        ]
    count = found.copies * len(found.networks)
    each = f"{count} networks" if count > 1 else "one network"
    lines.append(f"{each}, training alone: {clock(found.seconds)} (minutes:seconds); reading and validation come on top")
    return "\n".join(lines) + "\n"
