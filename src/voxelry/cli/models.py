"""`voxelry models`: lists models that are called by name, verifies, pushes and pulls them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from voxelry.cli.output import Json, list_failures, print_json, say, tell

models_app = typer.Typer(help="List the models that can be called by name; verify, push and pull models.")

Model = Annotated[Path, typer.Argument(help="A model folder, or a name that 'voxelry models' lists.")]


@models_app.callback(invoke_without_command=True)
def list_named(context: typer.Context, as_json: Json = False) -> None:
    """List the models that can be called by name; verify, push and pull models."""
    if context.invoked_subcommand is not None:
        return
    from voxelry import api

    rows = api.models()
    if as_json:
        print_json({"models": [row.as_dict() for row in rows]})
    else:
        from voxelry.cli.terminal import models_table, show

        show(models_table(rows))
    list_failures([(row.name, row.error) for row in rows if row.error])


@models_app.command()
def verify(
    model: Model,
    network: Annotated[
        str | None, typer.Option("--network", help="Import path of the model's custom network; its code is run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a model: every file against its SHA-256, version, weights against plan, and that each network computes."""
    from voxelry import api

    checked = api.verify_model(model, network=network)
    if as_json:
        print_json({**asdict(checked), "folder": str(checked.folder)})
        return
    compared = (
        f"format {checked.format}, every file as recorded" if checked.format else "from before format 1.0: no SHA-256 to compare"
    )
    tell(f"{checked.folder}: {compared}")
    tell(f"{checked.networks} networks, {checked.numbers} numbers; labels: {', '.join(checked.labels)}")
    for name in checked.not_run:
        say(f"{name} is code outside voxelry and was not run: give --network {name}")


@models_app.command()
def push(
    model: Model,
    target: Annotated[str, typer.Argument(help="A new folder, a new file .zip, an HTTP(S) URL (by PUT), or hf://owner/name.")],
    as_json: Json = False,
) -> None:
    """Copy a model to where others can fetch it."""
    from voxelry import api

    _show(asdict(api.push_model(model, target)), as_json, "fetch it with: voxelry models pull")


@models_app.command()
def pull(
    source: Annotated[
        str,
        typer.Argument(help="A folder, a zip file, an HTTP(S) URL with #sha256=..., hf://owner/name[@revision], or a name."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder (default: the local cache, called by its name).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a model, check it, and put it into a folder or the local cache."""
    from voxelry import api

    _show(asdict(api.pull_model(source, out)), as_json, "it came from")


def _show(moved: dict[str, Any], as_json: bool, lead: str) -> None:
    if as_json:
        print_json(moved)
        return
    tell(f"the model is in {moved['place']}")
    say(f"{lead} '{moved['source']}'")
