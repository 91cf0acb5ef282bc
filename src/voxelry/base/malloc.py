"""Installed memory, and control over freed memory in glibc's malloc: kept for the next step, or returned to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def installed_memory() -> int:
    """Bytes of memory of the machine, or of the container or job that limits this process; 8 GiB where no one says."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8 << 30
    return min([installed, *_group_limits(Path("/proc/self/cgroup"))])


def _group_limits(membership: Path) -> list[int]:
    """The limits of the control groups that hold this process, innermost first (cgroups(7)); none outside of Linux.

    Args:
        membership: lists its groups, as ``0::/user.slice`` or ``5:memory:/docker/1a2b``.
    """
    try:
        rows = [line.split(":", 2) for line in membership.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    limits = []
    for _, controllers, group in (row for row in rows if len(row) == 3 and (not row[1] or "memory" in row[1].split(","))):
        root = _CONTROL_GROUPS / "memory" if controllers else _CONTROL_GROUPS
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        inside = PurePosixPath(group.lstrip("/"))
        for folder in (inside, *inside.parents):
            with suppress(OSError, ValueError):  # "max" is no limit
                limits.append(int((root / folder / name).read_text(encoding="ascii")))
    return [limit for limit in limits if limit > 0]


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed blocks of up to 32 MiB instead of giving them back to the system.

    Every training step allocates and frees the same activations. By default glibc returns each large block at once, and the
    system clears its pages when they are allocated again: measured at 15 % of a step (docs/lab.md). Peak memory is the same.
    Without glibc nothing is done. See mallopt(3).
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)


def give_back_freed_memory() -> None:
    """Return unused pages to the system.

    Blocks of up to 32 MiB, freed out of order, leave holes that glibc keeps and no budget counts. Without glibc nothing is done.
    See malloc_trim(3).
    """
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


@cache
def _function(name: str) -> Any:
    """A function of the C library, None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
