"""Writes results of one or several files: one file at its path, several into a folder that is written atomically."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from voxelry.base.files import atomic_folder, atomic_path
from voxelry.errors import ExportError

_ENDINGS = (".stl", ".ply", ".dcm")
"""Endings of files in such a folder."""


def save_each(path: Path, ending: str, names: Sequence[str], contents: Sequence[Callable[[Path], None]]) -> Path:
    """Write one file at `path`, or several into the folder named after it; all of them or none.

    Args:
        path: the file to write.
        ending: the required ending.
        names: a file name for each, used in the folder.
        contents: a function for each that writes the file it is given.

    Returns:
        The file, or the folder.

    Raises:
        ExportError: another ending.
    """
    _check_ending(path, ending)
    if len(contents) == 1:
        with atomic_path(path) as temporary:
            contents[0](temporary)
        return path
    folder = fresh_folder(folder_beside(path, ending))
    with atomic_folder(folder) as temporary:
        for name, write in zip(names, contents, strict=True):
            write(temporary / name)
    return folder


def folder_beside(path: Path, ending: str) -> Path:
    """The folder that several files go to in place of one: ``a_stl`` for ``a.stl``."""
    return path.with_name(path.name[: len(path.name) - len(ending)] + ending.replace(".", "_"))


def fresh_folder(path: Path) -> Path:
    """The path of a folder that may be written or replaced.

    Raises:
        ExportError: something else exists there.
    """
    strange = path.exists() and (not path.is_dir() or any(item.suffix not in _ENDINGS for item in path.iterdir()))
    if strange:
        raise ExportError(f"{path}: exists and holds other files, which would be lost", remedy="Choose another name.")
    return path


def _check_ending(path: Path, ending: str) -> None:
    if not path.name.lower().endswith(ending):
        raise ExportError(f"{path}: such a file ends in {ending}", remedy="Change the name.")
