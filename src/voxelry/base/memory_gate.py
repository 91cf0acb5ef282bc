"""A gate that lets threads pass while their memory together stays within a limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class MemoryGate:
    """Memory that several threads share: each waits until what it needs is free.

    Args:
        limit: bytes in all.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, needed: int) -> Iterator[None]:
        """Wait for `needed` bytes and hold them within the block; a thread that needs more than the limit waits to be alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + needed <= self.limit)
            self._held += needed
        try:
            yield
        finally:
            with self._changed:
                self._held -= needed
                self._changed.notify_all()
