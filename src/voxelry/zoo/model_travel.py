"""Models on their way: push to and pull from a folder, a zip file, an HTTP(S) URL or the Hugging Face hub.

What leaves is checked first, and what arrives is checked before it gets its place: it is whole and loads, or is not there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from voxelry.base.files import atomic_folder, atomic_path, sha256_of
from voxelry.base.urls import is_url
from voxelry.cohort.remote_files import public_url
from voxelry.errors import ModelError, UsageError
from voxelry.networks.weights import is_model_folder
from voxelry.zoo.model_archive import ARCHIVE_ENDING, pack_model, unpack_model
from voxelry.zoo.model_check import check_model
from voxelry.zoo.model_files import check_names, files_of
from voxelry.zoo.model_hub import fetch_from_hub, hub_name, is_hub, send_to_hub
from voxelry.zoo.model_names import STARTERS, find_model, model_cache
from voxelry.zoo.model_web import fetch_archive, is_web, send_archive


@dataclass(frozen=True)
class MovedModel:
    """A model that was pushed or pulled.

    Attributes:
        place: where it is now: a folder, a file, or a URL without its secrets.
        sha256: of the zip file; empty where there was none.
        commit: of the hub: the commit, or its URL; else empty.
        source: to pull it again: with the SHA-256 or the commit.
    """

    place: str
    sha256: str = ""
    commit: str = ""
    source: str = ""


def push_model(model: str | os.PathLike[str], target: str | os.PathLike[str]) -> MovedModel:
    """Copy a model to where others can fetch it.

    Args:
        model: a model folder, or a name of `named_models`.
        target: a new folder; a new file that ends in ``.zip``; an HTTP(S) URL, which gets the zip file by PUT; or
            ``hf://owner/name``.

    Raises:
        ModelError: the model is damaged, or the server refuses.
        UsageError: the target exists, or is of no known kind.
        MissingExtraError: the extra ``hub`` is not installed.

    Example:
        >>> from voxelry.zoo import push_model
        >>> import voxelry
        >>> try:
        ...     push_model("runs/liver/model", "ftp://host/liver.zip")
        ... except voxelry.VoxelryError as error:
        ...     print(error.problem)
        ftp://host/liver.zip: models do not travel by such URLs
    """
    text = os.fspath(target)
    _check_place(text)
    folder = find_model(model)
    check_model(folder)
    if is_hub(text):
        commit = send_to_hub(folder, text)
        return MovedModel(text, commit=commit, source=f"{text}@{PurePosixPath(commit).name}")
    if is_web(text):
        with tempfile.TemporaryDirectory(prefix="voxelry-") as scratch:
            archive = Path(scratch) / f"model{ARCHIVE_ENDING}"
            sha256 = pack_model(folder, archive)
            send_archive(archive, text)
        return MovedModel(public_url(text), sha256, source=f"{public_url(text)}#sha256={sha256}")
    place = Path(text)
    _refuse_existing(place)
    if place.suffix.lower() == ARCHIVE_ENDING:
        with atomic_path(place) as temporary:
            sha256 = pack_model(folder, temporary)
        return MovedModel(str(place), sha256, source=str(place))
    with atomic_folder(place) as temporary:
        _copy(folder, temporary)
    return MovedModel(str(place), source=str(place))


def pull_model(source: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> MovedModel:
    """Fetch a model, and check it before it gets its place.

    Args:
        source: a folder, a zip file, an HTTP(S) URL of one with ``#sha256=...``, ``hf://owner/name`` (``@revision``), or the name
            of a starter model.
        out: a new folder; None for the cache, where the model is called by the name of its source.

    Raises:
        ModelError: it cannot be fetched, is damaged or no model, or has another SHA-256.
        ReadError: a zip file that is damaged or unsafe to unpack.
        UsageError: `out` exists, a URL without SHA-256, a name that a starter model has.
        MissingExtraError: the extra ``hub`` is not installed.

    Example:
        >>> from voxelry.zoo import pull_model
        >>> import voxelry
        >>> try:
        ...     pull_model("https://host/liver.zip", "liver")
        ... except voxelry.VoxelryError as error:
        ...     print(error.remedy)
        Add it, as 'voxelry models push' printed it: https://host/liver.zip#sha256=...
    """
    text = os.fspath(source)
    _check_place(text)
    place = _in_cache(text) if out is None else Path(out)
    _refuse_existing(place)
    with tempfile.TemporaryDirectory(prefix="voxelry-") as scratch, atomic_folder(place) as temporary:
        moved = _fetch(text, temporary, Path(scratch) / f"model{ARCHIVE_ENDING}", str(place))
        check_model(temporary)
    return moved


def _fetch(source: str, folder: Path, archive: Path, place: str) -> MovedModel:
    """Write the files of a source into a folder."""
    if is_hub(source):
        commit = fetch_from_hub(source, folder)
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's library keeps notes there
        return MovedModel(place, commit=commit, source=f"{source.partition('@')[0]}@{commit}")
    if is_web(source):
        sha256 = fetch_archive(source, archive)
        unpack_model(archive, folder, public_url(source))
        return MovedModel(place, sha256, source=f"{public_url(source)}#sha256={sha256}")
    if Path(source).is_file():
        unpack_model(Path(source), folder, source)
        return MovedModel(place, sha256_of(Path(source)), source=source)
    folder_there = find_model(source)
    if not is_model_folder(folder_there):
        raise ModelError(f"{source}: no model folder, and no zip file", remedy="Give a model that was trained or pushed.")
    _copy(folder_there, folder)
    return MovedModel(place, source=source)


def _copy(source: Path, target: Path) -> None:
    """Copy the files of a model folder that travel."""
    names = files_of(source)
    check_names(((name, (source / name).stat().st_size) for name in names), str(source))
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def _check_place(text: str) -> None:
    if is_url(text) and not is_hub(text) and not is_web(text):
        raise UsageError(
            f"{public_url(text)}: models do not travel by such URLs",
            remedy="Give a folder, a file that ends in .zip, https://... or hf://owner/name.",
        )


def _refuse_existing(place: Path) -> None:
    if place.exists() or place.is_symlink():
        raise UsageError(f"{place}: exists already", remedy="Name another place, or move it away.")


def _in_cache(source: str) -> Path:
    """The folder in the cache for a source, called as it."""
    if is_hub(source):
        name = hub_name(source)
    else:
        path = PurePosixPath(urlsplit(source).path) if is_web(source) else Path(source).absolute()
        path = path.parent if path.name == "model" else path
        name = path.name.removesuffix(ARCHIVE_ENDING)
    if not name or name.startswith("."):
        raise UsageError(f"{public_url(source) if is_url(source) else source}: gives the model no name", remedy="Give --out.")
    if (STARTERS / name).is_dir():
        raise UsageError(f"'{name}' is the name of a starter model", remedy="Give --out another folder.")
    return model_cache() / name
