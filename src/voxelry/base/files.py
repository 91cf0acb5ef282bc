"""Atomic writing of files and folders, and reading of text, YAML and JSON.

A file appears under its final name only when it is complete: it is written beside its target and renamed (POSIX `rename` is
atomic within a file system).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from voxelry.errors import ConfigError, MissingFileError, UsageError

_TRIES = 20
_PAUSE = 0.05
"""Seconds between attempts to replace a folder that other processes replace too."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to it when the block ends without an error.

    The temporary name keeps the file's endings, since writers choose a format by them.

    Args:
        path: the final file; its folder is created if missing.

    Yields:
        The path to write to. On an error it is removed and `path` is left as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=target.name, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


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
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-" + target.name, dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if keep is None:
            _replace_folder(temporary, target)
        else:
            _settle(temporary, target, keep)
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
        retired = Path(tempfile.mkdtemp(prefix=".old-" + target.name, dir=target.parent))
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
        ConfigError: not UTF-8 text.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file", remedy="Check the path.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader; a key given twice is refused, not overwritten.

    Raises:
        MissingFileError: no such file.
        ConfigError: not YAML, or not a mapping.
    """
    return _mapping(Path(path), "YAML", lambda text: yaml.load(text, _Loader))


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        MissingFileError: no such file.
        ConfigError: not JSON, or not an object.
    """
    return _mapping(Path(path), "JSON", json.loads)


class _Loader(yaml.SafeLoader):
    """The safe loader that refuses a key given twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as pyyaml composes it, its keys checked."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in keys:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' occurs twice", problem_mark=key.start_mark)
            keys.add(str(key.value))
        return node


def _mapping(file: Path, kind: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    text = read_text(file)
    try:
        value = parse(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a JSON error, or a YAML date such as 2026-02-30
        raise ConfigError(f"{file}: not valid {kind}: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ConfigError(
            f"{file}: holds a {type(value).__name__} at the top", remedy=f"A {kind} mapping of keys to values is expected."
        )
    return value


def free_name(name: str) -> str:
    """Check that `name` can be a file name on any system.

    Raises:
        UsageError: it is empty, hidden, or holds a path separator or control character.
    """
    if not name or name.startswith(".") or any(c in '/\\:*?"<>|' or ord(c) < 32 for c in name):
        raise UsageError(f"case id {name!r} cannot be a file name", remedy="Use letters, digits, '.', '-' and '_'.")
    return name
