"""Lists every file of a folder tree once: links are followed without loops, and unreadable folders are reported."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from voxelry.errors import ReadError


@dataclass(frozen=True)
class FolderTree:
    """The files of a folder tree.

    Attributes:
        files: ``(path, bytes)`` of every regular file, sorted by path; hidden files and folders are left out.
        problems: folders and links that cannot be followed, with the error.
    """

    files: tuple[tuple[Path, int], ...]
    problems: tuple[tuple[Path, ReadError], ...]


def walk(folder: Path) -> FolderTree:
    """List the regular files at any depth of a folder.

    Links to folders and files are followed; a folder or file with several links to it is listed once, under the first path in
    sorted order, so that a loop of links ends. Pipes, sockets and devices are left out: opening one could block forever.

    Args:
        folder: the root of the tree.

    Returns:
        The files, and the folders and links that cannot be followed.
    """
    files: list[tuple[Path, int]] = []
    problems: list[tuple[Path, ReadError]] = []
    visited: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        parent = pending.pop()
        if _is_visited(parent.stat(), visited):
            continue
        folders: list[Path] = []
        for entry in _listed(parent, problems):
            status = _status(entry, problems)
            if status is None or entry.name.startswith("."):
                continue
            if stat.S_ISDIR(status.st_mode):
                folders.append(Path(entry.path))
            elif stat.S_ISREG(status.st_mode) and not _is_visited(status, visited):
                files.append((Path(entry.path), status.st_size))
        pending += reversed(folders)
    return FolderTree(tuple(sorted(files)), tuple(problems))


def _listed(folder: Path, problems: list[tuple[Path, ReadError]]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        problems.append((folder, _cannot_be_opened(folder, "folder", error)))
        return []


def _status(entry: os.DirEntry[str], problems: list[tuple[Path, ReadError]]) -> os.stat_result | None:
    """The status of an entry, links followed; None, with a problem, for a broken link."""
    try:
        return entry.stat()
    except OSError as error:
        if not entry.name.startswith("."):
            problems.append((Path(entry.path), _cannot_be_opened(Path(entry.path), "file or link", error)))
        return None


def _is_visited(status: os.stat_result, visited: set[tuple[int, int]]) -> bool:
    inode = (status.st_dev, status.st_ino)
    is_visited = inode in visited
    visited.add(inode)
    return is_visited


def _cannot_be_opened(path: Path, kind: str, error: OSError) -> ReadError:
    return ReadError(f"{path}: this {kind} cannot be opened ({error.strerror})", remedy="Check its permissions and target.")
