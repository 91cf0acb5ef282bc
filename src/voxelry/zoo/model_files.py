"""The files of a model folder that travel: those of the format, the model card, a licence; links and everything else are not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from voxelry.errors import ModelError

LARGEST_MODEL = 32 << 30
"""Most bytes of a model that is fetched; nnU-Net's largest, of five folds, has 2 GiB."""

MOST_FILES = 1000

_OF_FORMAT = frozenset(
    {"model.json", "plan.yaml", "card.json", "weights.safetensors", "quality.json", "ensemble.yaml", "README.md"}
)
_LICENCE = re.compile(r"(LICEN[CS]E|NOTICE)(\.(md|txt))?")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DEEPEST = 3
"""Levels of a folder: the first stage of a member of an ensemble."""


def is_model_file(name: str) -> bool:
    """A path in a model folder is of a file that travels.

    Args:
        name: with ``/`` between folders.

    Example:
        >>> [is_model_file(name) for name in ("member_1/plan.yaml", "../plan.yaml", "run.py")]
        [True, False, False]
    """
    *folders, file = name.split("/")
    known = file in _OF_FORMAT or _LICENCE.fullmatch(file) is not None
    return known and len(folders) < _DEEPEST and all(map(_FOLDER.fullmatch, folders))


def files_of(folder: Path) -> list[str]:
    """The paths in a model folder of all files that travel, sorted.

    Raises:
        ModelError: one of them is a link or no regular file.
    """
    names = []
    for parent, folders, files in os.walk(folder):
        folders.sort()
        below = Path(parent).relative_to(folder)
        for name in (PurePosixPath(below.as_posix(), file).as_posix() for file in files):
            if not is_model_file(name):
                continue
            path = folder / name
            if path.is_symlink() or not path.is_file():
                raise ModelError(f"{path}: a link, and no file", remedy="Put the file itself in its place.")
            names.append(name)
    return sorted(names)


def check_names(names: Iterable[tuple[str, int]], source: str) -> None:
    """Refuse what cannot be a model's files, before any is fetched.

    Args:
        names: path and bytes of each.
        source: where they are, for the message.

    Raises:
        ModelError: a name that no model folder has, too many files or too many bytes, or no model.
    """
    files = list(names)
    for name, _ in files:
        if not is_model_file(name):
            raise ModelError(f"{source}: holds {name!r}, which no model folder has", remedy="Do not trust it.")
    total = sum(size for _, size in files)
    if len(files) > MOST_FILES or total > LARGEST_MODEL:
        raise ModelError(
            f"{source}: {len(files)} files of {total} bytes",
            remedy=f"A model has at most {MOST_FILES}, of {LARGEST_MODEL} bytes.",
        )
    if not {"plan.yaml", "ensemble.yaml"} & {name for name, _ in files}:
        raise ModelError(f"{source}: holds no model (no plan.yaml, no ensemble.yaml)", remedy="Give a pushed model.")
