"""The verb that serves models over HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from voxelry.base.extras import extra

__all__ = ["serve"]

PathLike = str | os.PathLike[str]


def no_address(address: str) -> None:
    """Say nothing: the default of `on_start`."""


def serve(
    models: PathLike | Sequence[PathLike],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    device: str = "auto",
    jobs: PathLike | None = None,
    max_upload: str | int | None = None,
    network: str | None = None,
    on_start: Callable[[str], None] = no_address,
) -> None:
    """Serve models over HTTP until the process is told to end: Hugging Face's image segmentation, jobs, and a web page.

    Args:
        models: model folders; each answers at ``/models/<name>``, the first at ``/`` too.
        host: address to listen at; any but this machine's own needs a token.
        port: port to listen at; 0 takes any that is free.
        token: bearer token that requests must carry.
        device: ``auto``, ``cpu``, ``cuda``...
        jobs: folder that keeps jobs and results over a restart; None for a temporary one.
        max_upload: largest body, such as ``500MB``; 2 GiB where it is not given.
        network: import path of the models' custom network, ``package.module:Class``; its code is run.
        on_start: called with the server's address once it listens.

    Raises:
        UsageError: an address that others reach without a token, a token that could be guessed, two models of one name.
        ModelError: a model cannot be used.
        MissingExtraError: the extra ``serve`` is not installed.

    Example:
        >>> import voxelry
        >>> try:
        ...     voxelry.serve("run/model", host="0.0.0.0")
        ... except voxelry.VoxelryError as error:
        ...     print(error.remedy)
        Set VOXELRY_TOKEN, or leave --host at 127.0.0.1.
    """
    for module in ("fastapi", "uvicorn"):
        extra(module, "serving models")
    from voxelry.recipes.settings import parse_memory
    from voxelry.serving.serve_limits import ServeLimits
    from voxelry.serving.server import run_server
    from voxelry.zoo.model_names import find_model

    run_server(
        [find_model(model) for model in ([models] if isinstance(models, str | os.PathLike) else models)],
        host,
        port,
        token=token,
        device=device,
        jobs=None if jobs is None else Path(jobs),
        limits=ServeLimits() if max_upload is None else ServeLimits(upload=parse_memory(max_upload)),
        network=network,
        on_start=on_start,
    )
