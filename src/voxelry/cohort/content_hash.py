"""Stamps and content hashes of files and folders: whether an input or an output is still the same."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from voxelry.base.files import sha256_of
from voxelry.formats.dicom.archive import archive_of


def stamp_of(paths: Sequence[str | os.PathLike[str]]) -> str:
    """A digest of names, sizes and times of files, and of all files in folders: equal stamps spare reading them.

    A path that is not there has a stamp of its own; of one that leads into a zip archive the archive is stamped.

    Args:
        paths: files and folders, in order.

    Example:
        >>> from pathlib import Path
        >>> size = Path("scan.txt").write_text("a")
        >>> stamp_of([Path("scan.txt")]) == stamp_of([Path("scan.txt")])
        True
    """
    lines: list[str] = []
    for number, path in enumerate(paths):
        try:
            status = os.stat(path)  # noqa: PTH116 - a hundred thousand of them when a run is resumed
        except OSError:
            archive = archive_of(Path(path))
            lines.append(f"{number}\0\0gone\0" if archive is None else _line(number, os.path.relpath(path, archive), archive))
            continue
        if stat.S_ISDIR(status.st_mode):
            lines.extend(_line(number, name, file) for name, file in _files(Path(path)))
        else:
            lines.append(f"{number}\0\0{status.st_size}\0{status.st_mtime_ns}\0")
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def _line(number: int, name: str, file: Path) -> str:
    """What a stamp says of a file in a folder."""
    try:
        status = file.stat()
    except OSError:
        return f"{number}\0{name}\0gone\0"
    return f"{number}\0{name}\0{status.st_size}\0{status.st_mtime_ns}\0"


def hash_of(paths: Sequence[Path]) -> str:
    """SHA-256 of the content of files, and of names and content of all files in folders.

    A file's own name and time do not count: a copy has the same hash.

    Args:
        paths: files and folders, in order.

    Raises:
        OSError: one cannot be read.

    Example:
        >>> from pathlib import Path
        >>> size = Path("scan.txt").write_text("a"), Path("copy.txt").write_text("a")
        >>> hash_of([Path("scan.txt")]) == hash_of([Path("copy.txt")])
        True
    """
    digest = hashlib.sha256()
    for number, path in enumerate(paths):
        for name, file in _files(path):
            digest.update(os.fsencode(f"{number}\0{name}\0"))
            digest.update(_digest(file))
    return digest.hexdigest()


def _digest(file: Path) -> bytes:
    if not file.is_file():  # opening a pipe would wait for a writer
        raise OSError(errno.ENOENT, "no regular file", str(file))
    return bytes.fromhex(sha256_of(file))


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """A file, under no name; of a folder all files, by their paths in it, without hidden ones."""
    if not path.is_dir():
        yield "", path
        return
    for folder, inner, names in os.walk(path):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                file = Path(folder, name)
                yield file.relative_to(path).as_posix(), file
