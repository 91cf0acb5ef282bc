"""`voxelry follow-up`: compares the dates of each patient."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxelry.cli.output import Json, list_failures, print_json, refuse_beside, say


def follow_up(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Scans as for predict, or one CSV with columns image, mask, patient, date."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for tables, numbered masks and DICOM reports.")],
    masks: Annotated[
        Path | None, typer.Option("--masks", help="Folder of the scans' masks, named by case id as predict writes them.")
    ] = None,
    lesion: Annotated[
        list[str] | None, typer.Option("--lesion", help="Label of lesions; may be repeated (default: labels of kind thing).")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", help="How names of scans tell patient and date (default: {patient}_{date}, or DICOM)."),
    ] = None,
    transform: Annotated[str, typer.Option("--transform", help="Registration: rigid, or affine after a rigid one.")] = "affine",
    tolerance: Annotated[float, typer.Option("--tolerance", help="Distance in mm by which one lesion may miss itself.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Follow lesions of patients over dates: register scans, match lesions, write tables and DICOM reports."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    refuse_beside(
        "--pattern", pattern is not None and masks is None, "without --masks", "Give the list columns patient and date."
    )
    with progress() as shown:
        courses = api.follow_up(
            inputs,
            out,
            masks=masks,
            lesions=lesion or [],
            pattern=pattern,
            transform=transform,  # type: ignore[arg-type]
            tolerance=tolerance,
            progress=shown,
        )
    failed = [(course.patient, course.error) for course in courses if course.error]
    summaries = [course.summary for course in courses if course.summary is not None]
    if as_json:
        files = {course.patient: [str(path) for path in course.files] for course in courses if course.files}
        print_json({"patients": summaries, "failed": dict(failed), "files": files, "out": str(out)})
    else:
        for summary in summaries:
            kinds = [change["change"] for change in summary["changes"]]
            counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "no lesions"
            say(f"{summary['patient']}: {len(summary['examinations'])} dates: {counts}")
        say(f"{len(summaries)} of {len(courses)} patients followed up into {out}")
    list_failures(failed)
