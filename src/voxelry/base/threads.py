"""The few threads that all compiled loops share, and how a range is cut among them.

Kernels release the interpreter's lock and work on one slab each, so several callers (two predictors in two Python threads, say)
may use the pool at once: their slabs queue up behind each other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise

_NAME = "voxelry"


def _available() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


THREADS = min(8, _available())
"""More would wait for memory."""


@cache
def pool() -> ThreadPoolExecutor:
    """The threads that all kernels share; made when first asked for."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix=_NAME)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a forked process inherits the pool, but not its threads


def slabs(size: int, pieces: int = THREADS) -> list[tuple[int, int]]:
    """Cut ``range(size)`` into up to `pieces` stretches ``(start, stop)`` of nearly equal length."""
    pieces = max(1, min(pieces, size))
    edges = [size * number // pieces for number in range(pieces + 1)]
    return [(start, stop) for start, stop in pairwise(edges) if stop > start]


def run_slabs(work: Callable[[int, int], object], size: int, pieces: int = THREADS) -> None:
    """Call ``work(start, stop)`` for stretches that make up ``range(size)``, side by side on the pool.

    Returns when all are done. A call from within the pool works through them itself, so nested calls cannot wait for each other.

    Args:
        work: does one stretch; it must release the interpreter's lock to gain anything.
        size: length of the range.
        pieces: how many stretches, at most.

    Raises:
        Exception: whatever `work` raised first; stretches not yet begun are left out.
    """
    parts = slabs(size, pieces)
    if len(parts) == 1 or THREADS == 1 or threading.current_thread().name.startswith(_NAME):
        for start, stop in parts:
            work(start, stop)
        return
    futures = [pool().submit(work, start, stop) for start, stop in parts]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        for future in futures:
            if not future.cancelled():
                future.exception()  # nothing may write to the caller's arrays after this returns


class Room:
    """Memory that several threads share: each waits until there is room for what it needs.

    Args:
        limit: bytes in all.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, needed: int) -> Iterator[None]:
        """Wait for `needed` bytes and hold them within the block; whoever needs more than there is at all waits to be alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + needed <= self.limit)
            self._taken += needed
        try:
            yield
        finally:
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()
