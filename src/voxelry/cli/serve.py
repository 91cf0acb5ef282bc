"""`voxelry serve`: answers requests to segment scans over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxelry.cli.output import Device, say


def serve(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL...", help="Folders 'model' that train wrote, or names; the first answers at / too."),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; any but this machine's needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen at; 0 takes any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="VOXELRY_TOKEN", help="Bearer token that requests must carry; other users see options."),
    ] = None,
    jobs: Annotated[
        Path | None, typer.Option("--jobs", help="Folder that keeps jobs and results over a restart; else they are temporary.")
    ] = None,
    max_upload: Annotated[str | None, typer.Option("--max-upload", help="Largest body, such as 500MB (default: 2GiB).")] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Import path of the models' custom network; its code is run.")
    ] = None,
    dicom: Annotated[
        Path | None,
        typer.Option("--dicom", help="YAML file of a DICOM node: who may call, and which series go to which model."),
    ] = None,
    dicomweb: Annotated[
        list[str] | None,
        typer.Option("--dicomweb", help="Base address of DICOMweb services whose studies a job may name; may be repeated."),
    ] = None,
    pacs_token: Annotated[
        str | None, typer.Option("--pacs-token", envvar="VOXELRY_PACS_TOKEN", help="Bearer token for DICOMweb services.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Serve models over HTTP: Hugging Face's image segmentation, jobs, and a web page to drop a scan on."""
    from voxelry import api

    api.serve(
        models,
        host=host,
        port=port,
        token=token or None,
        device=device,
        jobs=jobs,
        max_upload=max_upload,
        network=network,
        dicom=dicom,
        dicomweb=dicomweb or [],
        pacs_token=pacs_token or None,
        on_start=lambda address: say(f"listening at {address}; Ctrl-C ends it when what runs is done"),
    )
