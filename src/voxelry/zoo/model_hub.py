"""A model on the Hugging Face hub, ``hf://owner/name`` or ``hf://owner/name@revision`` (extra `hub`).

The hub's own library does the work, with its token (``HF_TOKEN``, ``hf auth login``) and its endpoint (``HF_ENDPOINT``). A
model is fetched at one commit, whose files are checked by name and size before any is fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voxelry.base.extras import extra
from voxelry.base.version import version
from voxelry.errors import ModelError, UsageError, VoxelryError
from voxelry.zoo.model_files import check_names, files_of, is_model_file

SCHEME = "hf://"
_PLACE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_LONGEST = 300


def is_hub(text: str) -> bool:
    """A text names a place on the hub."""
    return text.startswith(SCHEME)


def hub_name(place: str) -> str:
    """The name of a model, that of its repository.

    Raises:
        UsageError: no place on the hub.
    """
    return _parts(place)[0].partition("/")[2]


def send_to_hub(folder: Path, place: str) -> str:
    """Commit a model's files to a repository, which is made, private, where there is none.

    Args:
        folder: a model folder.
        place: ``hf://owner/name``.

    Returns:
        The URL of the commit.

    Raises:
        UsageError: no place on the hub, or one with a revision.
        ModelError: the hub refuses or cannot be reached.
        MissingExtraError: the extra is not installed.
    """
    repository, revision = _parts(place)
    if revision:
        raise UsageError(f"{place}: a model is pushed to the branch 'main'", remedy=f"Give {SCHEME}{repository}.")
    with _failures(place):
        api = _api()
        api.create_repo(repository, repo_type="model", private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=files_of(folder),
            commit_message=f"Upload of a model by voxelry {version()}",
        )
    return str(commit.commit_url)


def fetch_from_hub(place: str, folder: Path) -> str:
    """Fetch a model's files at one commit.

    Args:
        place: ``hf://owner/name``, with ``@`` and a branch, tag or commit where it is not ``main``.
        folder: where to; it exists.

    Returns:
        The commit.

    Raises:
        UsageError: no place on the hub.
        ModelError: the hub refuses or cannot be reached, or the repository holds no model, or too much.
        MissingExtraError: the extra is not installed.
    """
    repository, revision = _parts(place)
    with _failures(place):
        api = _api()
        commit = str(api.repo_info(repository, revision=revision or None).sha)
        tree = api.list_repo_tree(repository, recursive=True, revision=commit)
        sizes = {str(item.path): int(item.size) for item in tree if hasattr(item, "size")}
        files = {name: size for name, size in sizes.items() if is_model_file(name)}
        check_names(files.items(), place)
        for name in files:
            api.hf_hub_download(repository, name, revision=commit, local_dir=folder)
    return commit


def _parts(place: str) -> tuple[str, str]:
    match = _PLACE.fullmatch(place)
    if match is None:
        raise UsageError(f"{place}: no place on the hub", remedy="Write hf://owner/name, or hf://owner/name@revision.")
    return match[1], match[2] or ""


def _api() -> Any:
    hub = extra("huggingface_hub", "the Hugging Face hub")
    return hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="voxelry", library_version=version())


@contextmanager
def _failures(place: str) -> Iterator[None]:
    """Within the block, any failure of the hub or its library names the place."""
    try:
        yield
    except VoxelryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            raise  # of this machine's disk
        text = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
        remedy = "Check the name, the connection, and that your token (HF_TOKEN) may use it."
        raise ModelError(f"{place}: {text}", remedy=remedy) from None
