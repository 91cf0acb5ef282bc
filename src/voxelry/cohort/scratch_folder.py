"""Scratch folders: temporary folders that are removed with their process, whatever ends it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from voxelry.errors import ReadError

_PREFIX = "voxelry-scratch-"
_LOCK = ".lock"
_NEW = 60.0
"""Seconds within which a folder that nobody has locked may be one that is being made."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty temporary folder, removed at the end of the block.

    A process that is killed cannot remove its folder: the next one on this machine does, as nobody holds its lock any more.

    Example:
        >>> with scratch_folder() as folder:
        ...     folder.is_dir()
        True
        >>> folder.exists()
        False
    """
    _sweep()
    root = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with (root / _LOCK).open("wb") as lock:
            _try_lock(lock.fileno())
            inner = root / "files"
            inner.mkdir()
            yield inner
    finally:
        shutil.rmtree(root, ignore_errors=True)


def check_room(folder: Path, needed: int, what: str) -> None:
    """Refuse to write more into a folder than its disk has room for.

    Raises:
        ReadError: the room does not suffice.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ReadError(
            f"{what}: {needed} bytes do not fit on the disk of {folder.parent.parent}, which has {free} left",
            remedy="Free some, or name a folder on a larger disk by the environment variable TMPDIR.",
        )


def _sweep() -> None:
    """Remove what processes left that were killed."""
    for root in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = root.stat()
            if (
                time.time() - status.st_mtime > _NEW
                and (not hasattr(os, "getuid") or status.st_uid == os.getuid())
                and _is_left(root)
            ):
                shutil.rmtree(root, ignore_errors=True)


def _is_left(root: Path) -> bool:
    try:
        with (root / _LOCK).open("rb") as lock:
            return _try_lock(lock.fileno())
    except FileNotFoundError:
        return True


def _try_lock(descriptor: int) -> bool:
    """Lock a file for as long as it is open; whether nobody else has it. Where files cannot be locked, somebody may."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
