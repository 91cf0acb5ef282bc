"""Atomic writing of files and folders, and reading of text, YAML and JSON.

A file appears under its final name only when it is complete: it is written beside its target, brought to the disk (`fsync`) and
renamed (POSIX `rename` is atomic within a file system), so that a loss of power leaves the old file or the new one, whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from voxelry.base.plain_data import parse_json, parse_yaml
from voxelry.errors import ConfigError, MissingFileError, UsageError

_TRIES = 20
_PAUSE = 0.05
"""Seconds between attempts to replace a folder that other processes replace too."""

_LONGEST_NAME = 255
"""Bytes of a file name on nearly every file system."""

LARGEST_TEXT = 1 << 26
"""Most bytes of a text that is read whole; a card that lists 100 000 cases has a quarter of that."""

_LONGEST_REASON = 500
"""Characters of a parser's message that are shown."""

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
"""Errors of file systems that know no `fsync`."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to it when the block ends without an error.

    The temporary name keeps the file's endings, since writers choose a format by them.

    Args:
        path: the final file; its folder is created if missing.

    Yields:
        The path to write to. On an error it is removed and `path` is left as it was.

    Raises:
        UsageError: `path` is a folder, a pipe or a device, in whose place no file is put.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise irregular(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target, ".tmp-")
    try:
        with _naming(target, temporary):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # the system takes the umask off
            yield temporary
            _sync(temporary)
            temporary.replace(target)
            _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_paths(path: Path, beside: Path) -> Iterator[tuple[Path, Path]]:
    """Temporary paths of two files that belong together: when the block ends without an error both are replaced, else neither.

    Args:
        path: one file; its folder is created if missing.
        beside: the other, in the same folder, which is replaced first.

    Yields:
        The paths to write to. On an error both files are left as they were.

    Raises:
        UsageError: as `atomic_path`.
    """
    former, existed, replaced = _beside(beside, ".old-"), beside.exists(), False
    try:
        with atomic_path(path) as own:
            with atomic_path(beside) as other:
                yield own, other
                if existed:
                    shutil.copy2(beside, former)
            replaced = True
    except BaseException:
        if replaced and existed:
            former.replace(beside)
        elif replaced:
            beside.unlink(missing_ok=True)
        raise
    finally:
        former.unlink(missing_ok=True)


@contextmanager
def _naming(target: Path, temporary: Path) -> Iterator[None]:
    """Errors of the system name the final file, in place of a temporary one or none."""
    try:
        yield
    except OSError as error:
        name = None if error.filename is None else Path(os.fsdecode(error.filename))
        if name is None and error.errno is not None:
            error.filename = str(target)
        elif name is not None and name.is_relative_to(temporary):
            error.filename, error.filename2 = str(target / name.relative_to(temporary)), None
        raise


@contextmanager
def atomic_folder(path: str | os.PathLike[str], keep: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """A temporary folder beside `path`, which replaces it when the block ends without an error.

    Args:
        path: the final folder. If it exists it is replaced as a whole.
        keep: called with a folder that exists when the block ends, since another process may have written the same meanwhile: if
            it returns True, that folder stays and the new one is dropped.

    Yields:
        The folder to write into. On an error it is removed and `path` is left as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target, ".tmp-")
    try:
        with _naming(target, temporary):
            temporary.mkdir()
            yield temporary
            _sync_tree(temporary)
            if keep is None:
                _replace_folder(temporary, target)
            else:
                _settle(temporary, target, keep)
            _sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _settle(temporary: Path, target: Path, keep: Callable[[Path], bool]) -> None:
    """Replace a folder unless the existing one may stay, while other processes do the same."""
    for attempts_left in reversed(range(_TRIES)):
        if target.exists() and keep(target):
            return
        try:
            _replace_folder(temporary, target)
        except OSError:
            if not attempts_left:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _replace_folder(temporary: Path, target: Path) -> None:
    if target.exists():
        retired = _beside(target, ".old-")
        retired.mkdir()
        try:
            target.replace(retired / target.name)
            try:
                temporary.replace(target)
            except OSError:
                if not target.exists():
                    (retired / target.name).replace(target)
                raise
        finally:
            shutil.rmtree(retired, ignore_errors=True)
    else:
        temporary.replace(target)


def _beside(target: Path, prefix: str) -> Path:
    """A new hidden name in the folder of `target` with the end of its name, as much of it as file systems allow."""
    start = f"{prefix}{secrets.token_hex(4)}"
    end = target.name
    while len(os.fsencode(start + end)) > _LONGEST_NAME:
        end = end[1:]
    return target.with_name(start + end)


def _sync(file: Path) -> None:
    """Bring a file's content to the disk.

    Raises:
        OSError: the disk is full or fails.
    """
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Bring the names of a folder to the disk, where the system can; what it holds is there already."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sync_tree(folder: Path) -> None:
    """Bring every file and name below a folder to the disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(parent, name))
        _sync_folder(Path(parent))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON atomically, indented, keys in the order given; NaN is refused (it is not JSON)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_yaml(path: str | os.PathLike[str], value: Any) -> None:
    """Write YAML atomically, keys in the order given."""
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110))


def read_text(path: str | os.PathLike[str]) -> str:
    """Read UTF-8 text, with or without a byte order mark.

    Raises:
        MissingFileError: no such file.
        ConfigError: not UTF-8 text, or more than `LARGEST_TEXT` of it.
    """
    file = Path(path)
    if not file.is_file():
        raise no_such_file(file, "file")
    if file.stat().st_size > LARGEST_TEXT:
        raise ConfigError(f"{file}: more than {LARGEST_TEXT} bytes of text", remedy="Is it another file?")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def irregular(path: Path) -> UsageError:
    """The error for an output whose place a folder, a pipe or a device has."""
    return UsageError(f"{path}: is there already, and is no regular file", remedy="Name another file to write.")


def no_such_file(path: Path, what: str = "file or folder") -> MissingFileError:
    """The error for a path that is no regular file: nothing, a link that leads nowhere, a pipe.

    Args:
        path: a path of the user.
        what: what was looked for.
    """
    if path.is_symlink() and not path.exists():
        target = os.readlink(path)  # noqa: PTH115 - as it is written
        return MissingFileError(f"{path}: a link to {target}, which leads to no file", remedy="Correct the link.")
    if path.is_dir():
        return MissingFileError(f"{path}: a folder, where a file is needed", remedy="Name a file.")
    if path.exists():
        return MissingFileError(f"{path}: a pipe, socket or device, and no file", remedy="Name a file.")
    return MissingFileError(f"{path}: no such {what}", remedy="Check the path.")


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML mapping; see `plain_data.parse_yaml` for what is refused.

    Raises:
        MissingFileError: no such file.
        ConfigError: not YAML, or not a mapping.
    """
    return _mapping(Path(path), "YAML", parse_yaml)


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object; see `plain_data.parse_json` for what is refused.

    Raises:
        MissingFileError: no such file.
        ConfigError: not JSON, or not an object.
    """
    return _mapping(Path(path), "JSON", parse_json)


_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number"}
"""What is no mapping, in words."""


def _mapping(file: Path, kind: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    text = read_text(file)
    try:
        value = parse(text)
    except ValueError as error:
        raise ConfigError(f"{file}: not valid {kind}: {' '.join(str(error).split())[:_LONGEST_REASON]}") from error
    if not isinstance(value, dict):
        content = "is empty" if value is None else f"holds {_KINDS.get(type(value), 'a single value')} at the top"
        raise ConfigError(f"{file}: {content}", remedy=f"A {kind} mapping of keys to values is expected.")
    return value


def leads_outside(name: str) -> bool:
    """Whether a path, as an archive or a record names it, leaves the folder that it starts from, on whatever system.

    Example:
        >>> [leads_outside(name) for name in ("a/b.txt", "../b.txt", "a/../../b.txt", "/b.txt", "C:b.txt")]
        [False, True, True, True, True]
    """
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0] or "\0" in name


def free_name(name: str) -> str:
    """Check that `name` can be a file name on any system.

    Raises:
        UsageError: it is empty, hidden, or holds a path separator or control character.
    """
    if not name or name.startswith(".") or any(c in '/\\:*?"<>|' or ord(c) < 32 for c in name):
        raise UsageError(f"case id {name!r} cannot be a file name", remedy="Use letters, digits, '.', '-' and '_'.")
    return name
