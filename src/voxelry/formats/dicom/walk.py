"""Every file of a folder tree, once: links are followed but never round in circles, and what cannot be opened is said."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from voxelry.errors import ReadError


@dataclass(frozen=True)
class FolderTree:
    """What a walk found.

    Attributes:
        files: ``(path, bytes)`` of every regular file, sorted by path; hidden files and folders are left out.
        problems: what could not be looked at.
    """

    files: tuple[tuple[Path, int], ...]
    problems: tuple[tuple[Path, ReadError], ...]


def walk(folder: Path) -> FolderTree:
    """List the regular files at any depth of a folder.

    Links to folders and files are followed; a folder or file that several links lead to is listed once, by the first path in
    sorted order, so that a loop of links ends. Pipes, sockets and devices are passed over: opening one could wait for ever.

    Args:
        folder: where to start.

    Returns:
        The files, and the folders and links that cannot be followed.
    """
    files: list[tuple[Path, int]] = []
    problems: list[tuple[Path, ReadError]] = []
    seen: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        here = pending.pop()
        if _is_known(here.stat(), seen):
            continue
        folders: list[Path] = []
        for entry in _listed(here, problems):
            status = _status(entry, problems)
            if status is None or entry.name.startswith("."):
                continue
            if stat.S_ISDIR(status.st_mode):
                folders.append(Path(entry.path))
            elif stat.S_ISREG(status.st_mode) and not _is_known(status, seen):
                files.append((Path(entry.path), status.st_size))
        pending += reversed(folders)
    return FolderTree(tuple(sorted(files)), tuple(problems))


def _listed(folder: Path, problems: list[tuple[Path, ReadError]]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        problems.append((folder, _closed(folder, "folder", error)))
        return []


def _status(entry: os.DirEntry[str], problems: list[tuple[Path, ReadError]]) -> os.stat_result | None:
    """What an entry is, links followed; None, and a problem, for a link to nowhere."""
    try:
        return entry.stat()
    except OSError as error:
        if not entry.name.startswith("."):
            problems.append((Path(entry.path), _closed(Path(entry.path), "file or link", error)))
        return None


def _is_known(status: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    place = (status.st_dev, status.st_ino)
    known = place in seen
    seen.add(place)
    return known


def _closed(path: Path, what: str, error: OSError) -> ReadError:
    return ReadError(f"{path}: this {what} cannot be opened ({error.strerror})", remedy="Check its permissions and target.")
