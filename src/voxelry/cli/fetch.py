"""`voxelry fetch`: finds series in an archive and copies them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxelry.cli.output import AeTitle, Authority, Certificate, Json, Key, Token, list_failures, print_json, tell

if TYPE_CHECKING:
    from voxelry.pacs.archive_copy import FetchedSeries


def fetch(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The archive: https://HOST/dicom-web or dicom://AE_TITLE@HOST:PORT.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the copies; without it the series are listed.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="StudyInstanceUID.")] = None,
    series: Annotated[str | None, typer.Option("--series", help="SeriesInstanceUID.")] = None,
    patient: Annotated[str | None, typer.Option("--patient", help="Id of the patient.")] = None,
    accession: Annotated[str | None, typer.Option("--accession", help="Accession number.")] = None,
    modality: Annotated[str | None, typer.Option("--modality", help="Modality of the series, such as CT.")] = None,
    date: Annotated[str | None, typer.Option("--date", help="Date of the study, 20260131, or 20260101-20260131.")] = None,
    ae_title: AeTitle = "VOXELRY",
    move_port: Annotated[
        int | None, typer.Option("--move-port", min=1, max=65535, help="Retrieve by C-MOVE to this port, in place of C-GET.")
    ] = None,
    token: Token = None,
    certificate: Certificate = None,
    key: Key = None,
    authority: Authority = None,
    as_json: Json = False,
) -> None:
    """Find series in an archive and copy them; a copy appears when it is complete and checked."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    with progress() as shown:
        results = api.fetch(
            source,
            out,
            study=study,
            series=series,
            patient=patient,
            accession=accession,
            modality=modality,
            date=date,
            ae_title=ae_title,
            move_port=move_port,
            token=token,
            certificate=certificate,
            key=key,
            authority=authority,
            progress=shown,
        )
    if as_json:
        print_json({"series": [_row(each) for each in results]})
    else:
        for each in results:
            tell(_line(each))
    list_failures([(each.record.series, each.error) for each in results if each.error])


def _row(result: FetchedSeries) -> dict[str, Any]:
    folder = None if result.folder is None else str(result.folder)
    return {**asdict(result.record), "folder": folder, "files": len(result.files), "error": result.error}


def _line(result: FetchedSeries) -> str:
    record = result.record
    count = "?" if record.count is None else record.count
    what = f"{record.modality or '?'} {record.date} {record.description!r} {count} instances"
    return f"{record.study} {record.series}: {what}" + (f" -> {result.folder}" if result.folder else "")
