"""`voxelry qc`: lists the cases of a run by doubt, and draws contact sheets of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxelry.cli.output import Json, print_json, say, tell


def qc(
    folder: Annotated[Path, typer.Argument(help="The --out folder of a predict.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for review.csv and contact sheets (default: DIR/qc).")] = None,
    as_json: Json = False,
) -> None:
    """List the cases of a run, the most doubtful first, and draw them on contact sheets."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    with progress() as shown:
        cases = api.qc(folder, out, progress=shown)
    review = [case for case in cases if case.review]
    target = out if out is not None else folder / "qc"
    if as_json:
        print_json({"out": str(target), "cases": [case.as_dict() for case in cases], "review": len(review)})
        return
    for case in review:
        tell(case.title)
        for note in filter(None, (case.reason, *case.flags)):
            tell(f"  {note}")
    say(f"{len(review)} of {len(cases)} cases to review; contact sheets and review.csv are in {target}")
