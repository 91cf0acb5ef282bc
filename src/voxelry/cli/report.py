"""`voxelry report`: the page of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxelry.cli.output import Json, Root, print_json, say


def report(
    run: Annotated[Path, typer.Argument(help="A folder that train, predict or evaluate wrote by --out.")],
    other: Annotated[
        Path | None, typer.Argument(help="Scores of another model on the same cases, to compare RUN with (evaluate --out).")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="The dataset card, or the folder of scans (default: what the run names).")
    ] = None,
    root: Root = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", help="Folder of predicted masks (default: what the run names).")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The page to write (default: report.html in RUN).")] = None,
    cases: Annotated[int, typer.Option("--cases", help="At most so many cases can be looked at, the worst first.")] = 20,
    embed: Annotated[
        str | None,
        typer.Option("--embed", metavar="SIZE", help="Put the scans into the page, up to this size, such as 50MB: one file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the page of a run: scores, curves, failures, doubtful cases, and a viewer; it needs no network."""
    from voxelry import api
    from voxelry.cli.terminal import progress
    from voxelry.recipes.settings import parse_memory

    size = None if embed is None else parse_memory(embed)
    with progress() as shown:
        page = api.report(run, other, data=data, root=root, masks=masks, out=out, cases=cases, embed=size, progress=shown)
    if as_json:
        print_json({"page": str(page)})
    else:
        say(f"Open {page}")
