"""`voxelry deidentify`: writes copies of DICOM files that do not name the patient."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from voxelry.cli.output import Json, list_failures, print_json, say, tell


def deidentify(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="DICOM files, and folders of them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the copies.")],
    key: Annotated[
        Path | None, typer.Option("--key", help="File with the secret; made where there is none (default: OUT.key, beside OUT).")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            help="Option of the profile: uids, device, institution, characteristics, full-dates, modified-dates, descriptors, "
            "structured-content or safe-private; may be repeated.",
        ),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", help="Copy in spite of a risk of the pixels: burnt-in-text or faces; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write copies of DICOM files without what identifies the patient (PS3.15 Annex E, Basic Profile)."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    with progress() as shown:
        files = api.deidentify(inputs, out, key=key, options=option or [], accept=accept or [], progress=shown)
    failed = [(str(each.path), each.reason) for each in files.failed]
    if as_json:
        print_json(
            {
                "out": str(out),
                "written": {str(source): str(copy) for source, copy in files.written.items()},
                "held": {str(each.path): each.reason for each in files.held},
                "left_out": {str(each.path): each.reason for each in files.left_out},
                "failed": dict(failed),
            }
        )
    else:
        for each in files.held:
            tell(f"held back: {each.path}: {each.reason}")
        for reason, count in Counter(each.reason for each in files.left_out).items():
            say(f"{count} left out ({reason})")
        say(f"{len(files.written)} de-identified copies in {out}, {len(files.held)} held back, {len(failed)} failed")
    list_failures(failed)
