"""The public verbs of models by name: list, verify, push and pull."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxelry.zoo.model_check import CheckedModel
    from voxelry.zoo.model_row import ModelRow
    from voxelry.zoo.model_travel import MovedModel

__all__ = ["models", "pull_model", "push_model", "verify_model"]

PathLike = str | os.PathLike[str]


def models() -> list[ModelRow]:
    """List the models that can be called by name: starter models and those in the local cache.

    Returns:
        A row for each: name, folder, bytes, labels, licence of its data, scores of held-out cases with intervals. One that cannot
        be read has the reason as ``error``.

    Example:
        >>> import voxelry
        >>> all(row.folder.name == row.name for row in voxelry.models())
        True
    """
    from voxelry.zoo.model_row import list_models

    return list_models()


def verify_model(model: PathLike, *, network: str | None = None) -> CheckedModel:
    """Check a model: every file against its SHA-256, version, weights against plan, and that each network computes.

    Args:
        model: a model folder, or a name of `models`.
        network: import path of the model's custom network, whose code is run; without it that network is not computed.

    Returns:
        What the folder holds.

    Raises:
        ModelError: it cannot be used.

    Example:
        >>> import voxelry
        >>> try:
        ...     voxelry.verify_model("hipocampus")
        ... except voxelry.VoxelryError as error:
        ...     print(error.problem)
        hipocampus: no model folder, and no model of that name
    """
    from voxelry.zoo.model_check import check_model
    from voxelry.zoo.model_names import find_model

    return check_model(find_model(model), network)


def push_model(model: PathLike, target: PathLike) -> MovedModel:
    """Copy a model to where others can fetch it: a folder, a zip file, an HTTP(S) URL, the Hugging Face hub.

    Args:
        model: a model folder, or a name of `models`.
        target: a new folder; a new file that ends in ``.zip``; an HTTP(S) URL, which gets the zip file by PUT; or
            ``hf://owner/name`` (extra ``hub``).

    Returns:
        Where it is now, and what `pull_model` takes to fetch it, with its SHA-256 or commit.

    Raises:
        ModelError: the model is damaged, or the server refuses.
        UsageError: the target exists, or is of no known kind.
        MissingExtraError: the extra ``hub`` is not installed.

    Example:
        >>> import voxelry
        >>> try:
        ...     voxelry.push_model("runs/liver/model", "ftp://host/liver.zip")
        ... except voxelry.VoxelryError as error:
        ...     print(error.problem)
        ftp://host/liver.zip: models do not travel by such URLs
    """
    from voxelry.zoo import model_travel

    return model_travel.push_model(model, target)


def pull_model(source: PathLike, out: PathLike | None = None) -> MovedModel:
    """Fetch a model, check it, and put it into a folder or the local cache.

    Args:
        source: a folder, a zip file, an HTTP(S) URL of one with ``#sha256=...``, ``hf://owner/name`` (``@revision``; extra
            ``hub``), or the name of a starter model.
        out: a new folder; None for the cache, where the model is then called by the name of its source.

    Returns:
        Where it is now.

    Raises:
        ModelError: it cannot be fetched, is damaged or no model, or has another SHA-256.
        ReadError: a zip file that is damaged or unsafe to unpack.
        UsageError: `out` exists, or a URL without SHA-256.
        MissingExtraError: the extra ``hub`` is not installed.

    Example:
        >>> import voxelry
        >>> try:
        ...     voxelry.pull_model("https://host/liver.zip", "liver")
        ... except voxelry.VoxelryError as error:
        ...     print(error.remedy)
        Add it, as 'voxelry models push' printed it: https://host/liver.zip#sha256=...
    """
    from voxelry.zoo import model_travel

    return model_travel.pull_model(source, out)
