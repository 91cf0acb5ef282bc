"""`voxelry send`: stores DICOM files in an archive, and checks the status of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxelry.cli.output import AeTitle, Authority, Certificate, Json, Key, Token, list_failures, print_json, say, tell


def send(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM files, and folders of them.")],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The archive: https://HOST/dicom-web or dicom://AE_TITLE@HOST:PORT.")
    ],
    ae_title: AeTitle = "VOXELRY",
    token: Token = None,
    certificate: Certificate = None,
    key: Key = None,
    authority: Authority = None,
    as_json: Json = False,
) -> None:
    """Store DICOM files in an archive; exit code 1 if it refuses an instance or stores one with a warning."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    keys = {"certificate": certificate, "key": key, "authority": authority}
    with progress() as shown:
        sent = api.send(files, target, ae_title=ae_title, token=token, progress=shown, **keys)
    counts = {outcome: sum(each.outcome == outcome for each in sent) for outcome in ("stored", "warned", "refused")}
    if as_json:
        rows = [{"file": str(each.path), "uid": each.uid, "outcome": each.outcome, "reason": each.reason} for each in sent]
        print_json({**counts, "instances": rows})
    else:
        tell(f"{counts['stored']} instances stored, {counts['warned']} with a warning, {counts['refused']} refused")
    list_failures([(str(each.path), f"{each.outcome}: {each.reason}") for each in sent if each.outcome != "stored"])
    say(f"sent to {target.rpartition('@')[2]}")
