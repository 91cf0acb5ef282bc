"""The thread pool that all compiled loops share, and the division of a range among its threads.

Kernels release the interpreter's lock and work on one slab each, so several callers (two predictors in two Python threads, say)
may use the pool at once: their slabs queue up behind each other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

_NAME = "voxelry"


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


MOST_THREADS = 8
"""Threads of the pool at most; more would wait for memory."""

THREADS = int(os.environ.get("VOXELRY_THREADS", 0)) or min(MOST_THREADS, processors())
"""Threads of the pool. Workers of a batch get their share by the variable."""


@cache
def pool() -> ThreadPoolExecutor:
    """The thread pool that all kernels share; started on first use."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix=_NAME)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a forked process inherits the pool, but not its threads


def slabs(size: int, pieces: int = THREADS) -> list[tuple[int, int]]:
    """Cut ``range(size)`` into up to `pieces` stretches ``(start, stop)`` of nearly equal length."""
    pieces = max(1, min(pieces, size))
    edges = [size * number // pieces for number in range(pieces + 1)]
    return [(start, stop) for start, stop in pairwise(edges) if stop > start]


def run_slabs(work: Callable[[int, int], object], size: int, pieces: int = THREADS) -> None:
    """Call ``work(start, stop)`` for stretches that make up ``range(size)``, in parallel on the pool.

    Returns when all are done. A call from within the pool runs them in its own thread, so that nested calls cannot wait for each
    other.

    Args:
        work: processes one stretch; it must release the interpreter's lock to gain anything.
        size: length of the range.
        pieces: how many stretches, at most.

    Raises:
        Exception: whatever `work` raised first; stretches not yet begun are left out.
    """
    stretches = slabs(size, pieces)
    if len(stretches) == 1 or THREADS == 1 or threading.current_thread().name.startswith(_NAME):
        for start, stop in stretches:
            work(start, stop)
        return
    futures = [pool().submit(work, start, stop) for start, stop in stretches]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        for future in futures:
            if not future.cancelled():
                future.exception()  # nothing may write to the caller's arrays after this returns
