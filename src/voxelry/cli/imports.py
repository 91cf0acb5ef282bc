"""`voxelry import`: makes a model folder of a model that another tool trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxelry.cli.output import Json, print_json, say


def import_model(
    kind: Annotated[str, typer.Argument(help="What it is: nnunet or bundle (MONAI).")],
    folder: Annotated[
        list[Path],
        typer.Argument(
            help="What the tool wrote; of nnU-Net TRAINER__PLANS__CONFIGURATION (several are parts of one model), of MONAI a "
            "bundle or its zip."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The model folder to write.")],
    fold: Annotated[
        list[str] | None, typer.Option("--fold", help="Fold to take, such as 0 or all; may be repeated (default: every one).")
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(
            "--orientation",
            help="Axis codes that every training scan had, such as RAS, if scans to come may be stored otherwise.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="JSON or YAML file with the value and name of each label of several parts.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Let MONAI run the expressions of a bundle that are needed.")] = False,
    as_json: Json = False,
) -> None:
    """Make a model folder of a model that another tool trained; nothing in its files is run, unless you trust them."""
    from voxelry import api

    models = api.import_model(kind, folder, out, folds=fold or (), orientation=orientation, labels=labels, trust=trust)
    first = models[0]
    if as_json:
        print_json(
            {"model": str(out), "networks": len(models), "labels": list(first.labels.names), "plan": first.plan.configuration}
        )
    else:
        say(f"{out}: {len(models)} x {first.plan.network.name} ({first.plan.configuration}), {len(first.labels)} labels")
