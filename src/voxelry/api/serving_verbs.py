"""The verbs that serve models over HTTP, and that make the tokens of those who may ask."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from voxelry.base.extras import extra
from voxelry.errors import UsageError

__all__ = ["serve", "token"]

PathLike = str | os.PathLike[str]


def no_address(address: str) -> None:
    """Say nothing: the default of `on_start`."""


def serve(
    models: PathLike | Sequence[PathLike],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    tokens: PathLike | None = None,
    device: str = "auto",
    jobs: PathLike | None = None,
    max_upload: str | int | None = None,
    network: str | None = None,
    dicom: PathLike | None = None,
    dicomweb: Sequence[str] = (),
    pacs_token: str | None = None,
    on_start: Callable[[str], None] = no_address,
) -> None:
    """Serve models over HTTP until the process is told to end: Hugging Face's image segmentation, jobs, and a web page.

    Args:
        models: model folders; each answers at ``/models/<name>``, the first at ``/`` too.
        host: address to listen at; any but this machine's own needs a token.
        port: port to listen at; 0 takes any that is free.
        token: bearer token that requests must carry; it lets its holder ask for everything.
        tokens: file of tokens with their scopes, as `token` writes it; read again when it changes.
        device: ``auto`` and ``cuda`` for every GPU, ``cpu``, or GPUs by name: ``cuda:0,cuda:1``.
        jobs: folder that keeps jobs and results over a restart; None for a temporary one.
        max_upload: largest body, such as ``500MB``; 2 GiB where it is not given.
        network: import path of the models' custom network, ``package.module:Class``; its code is run.
        dicom: YAML file of a DICOM node, which takes series, and sends what is segmented to an archive.
        dicomweb: base addresses of DICOMweb services; a job may name a study or series of theirs in place of a scan.
        pacs_token: bearer token for DICOMweb services.
        on_start: called with the server's address once it listens.

    Raises:
        ConfigError: the file of the DICOM node or of the tokens is wrong.
        UsageError: an address that others reach without a token, a token that could be guessed, two models of one name.
        ModelError: a model cannot be used.
        MissingExtraError: the extra ``serve`` is not installed.

    Example:
        >>> import voxelry
        >>> try:
        ...     voxelry.serve("run/model", host="0.0.0.0")
        ... except voxelry.VoxelryError as error:
        ...     print(error.remedy)
        Set VOXELRY_TOKEN or --tokens, or leave --host at 127.0.0.1.
    """
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        extra(module, "serving models")
    from voxelry.pacs.pacs_address import WebAddress, parse_address
    from voxelry.recipes.settings import parse_memory
    from voxelry.serving.node_settings import read_node_settings
    from voxelry.serving.serve_limits import ServeLimits
    from voxelry.serving.served_archives import ServedArchives
    from voxelry.serving.server import run_server
    from voxelry.zoo.model_names import find_model

    if dicom is not None:
        extra("pynetdicom", "the DICOM node")
    for address in dicomweb:
        extra("dicomweb_client", "DICOMweb")
        if not isinstance(parse_address(address), WebAddress):
            raise UsageError(f"{address} is no address of DICOMweb services", remedy="Use https://HOST/dicom-web.")

    def archives(names: tuple[str, ...]) -> ServedArchives:
        return ServedArchives(None if dicom is None else read_node_settings(Path(dicom), names), tuple(dicomweb), pacs_token)

    run_server(
        [find_model(model) for model in ([models] if isinstance(models, str | os.PathLike) else models)],
        host,
        port,
        token=token,
        tokens=None if tokens is None else Path(tokens),
        device=device,
        jobs=None if jobs is None else Path(jobs),
        limits=ServeLimits() if max_upload is None else ServeLimits(upload=parse_memory(max_upload)),
        network=network,
        archives=archives,
        on_start=on_start,
    )


def token(file: PathLike, name: str, *, scopes: Sequence[str] = ("segment", "results")) -> str:
    """Make a bearer token for `serve`, and keep its SHA-256, name and scopes in a file.

    Args:
        file: YAML file of tokens, which is made where there is none; whose rows are removed may ask no more.
        name: whose it is, as logs name it; a token of that name is replaced.
        scopes: what it lets its holder ask for: ``segment`` sends scans and deletes jobs, ``results`` reads jobs, ``metrics``
            reads the server's counts.

    Returns:
        The token, which is kept nowhere.

    Raises:
        ConfigError: a wrong name or scope, or a file that is none of tokens.
        UsageError: others than its owner can change the file.

    Example:
        >>> import voxelry
        >>> len(voxelry.token("tokens.yaml", "ward-3", scopes=["segment"]))
        43
    """
    from voxelry.serving.access_tokens import make_token

    return make_token(Path(file), name, scopes)
