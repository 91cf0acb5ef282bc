"""`voxelry serve`: answers requests to segment scans over HTTP. `voxelry token`: makes tokens of those who may ask."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from voxelry.base.extras import extra
from voxelry.cli.output import say


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
    tokens: Annotated[
        Path | None, typer.Option("--tokens", help="File of tokens with scopes, as `voxelry token` writes it.")
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
    device: Annotated[
        str, typer.Option("--device", help="auto (every GPU, else cpu), cpu, or GPUs by name: cuda:0,cuda:1.")
    ] = "auto",
) -> None:
    """Serve models over HTTP: Hugging Face's image segmentation, jobs, and a web page to drop a scan on."""
    from voxelry import api

    with _log_lines():
        api.serve(
            models,
            host=host,
            port=port,
            token=token or None,
            tokens=tokens,
            device=device,
            jobs=jobs,
            max_upload=max_upload,
            network=network,
            dicom=dicom,
            dicomweb=dicomweb or [],
            pacs_token=pacs_token or None,
            on_start=lambda address: say(f"listening at {address}; Ctrl-C ends it when what runs is done"),
        )


@contextmanager
def _log_lines() -> Iterator[None]:
    """Meanwhile log to standard error, a line of JSON each, and every request with it."""
    extra("prometheus_client", "serving models")
    from voxelry.serving.request_log import JsonLines

    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(name) for name in ("voxelry", "uvicorn")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    requests = logging.getLogger("voxelry.serving")
    level = requests.level
    try:
        for logger in loggers:
            logger.handlers, logger.propagate = [handler], False
        requests.setLevel(logging.INFO)
        yield
    finally:
        requests.setLevel(level)
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


def token(
    file: Annotated[Path, typer.Argument(help="File of tokens, for `serve --tokens`; it is made where there is none.")],
    name: Annotated[str, typer.Argument(help="Whose token it is, as logs name it; one of that name is replaced.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help="segment, results or metrics; may be repeated (default: segment and results)."),
    ] = None,
) -> None:
    """Make a bearer token for `serve`: the file keeps its hash, the token itself is shown once."""
    from voxelry import api

    typer.echo(api.token(file, name, **({"scopes": scopes} if scopes else {})))
    say(f"{file} keeps its hash; it is shown this once")
