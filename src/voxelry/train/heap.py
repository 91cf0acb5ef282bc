"""Keeping freed memory in the process while training on a CPU."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed blocks of up to 32 MiB instead of giving them back to the system.

    Every training step allocates and frees the same activations. By default glibc returns each large block at once, and the
    system clears its pages anew when they are asked for again: measured at 15 % of a step (docs/lab.md). Peak memory is the
    same. Elsewhere than on glibc nothing is done. See mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
