"""RateLimit: how many requests a client may send a second."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CLIENTS = 10_000
"""Clients that are remembered; the one that was silent longest is forgotten first."""


class RateLimit:
    """A bucket of tokens for each client: it fills by `rate` a second up to `burst`, and each request takes one.

    Args:
        rate: requests a second, on average.
        burst: requests at once.
        clock: seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Take a token of a client's bucket.

        Args:
            client: whose.

        Returns:
            0 where there was one, else the seconds until there is.
        """
        now = self._clock()
        left, since = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._buckets[client] = (left if wait else left - 1, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return wait
