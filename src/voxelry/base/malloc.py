"""Installed memory, and control over freed memory in glibc's malloc: kept for the next step, or returned to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def installed_memory() -> int:
    """Bytes of the machine's memory; 8 GiB where the system does not report it."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8 << 30


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
