"""WorkerSplit: processors divided among workers, few with many threads or many with few, by a short measurement."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from voxelry.cohort.worker_process import WorkerProcess

LEAST_SCANS = 16
"""Scans a processor below which a measurement, which starts every worker twice, does not pay."""

_CLOSE = 0.95
"""A split with more workers is taken at this share of the best rate: reading and writing gain from workers too."""

_LONGEST = 120.0
"""Seconds after which a measurement is given up."""


@dataclass(frozen=True, order=True)
class WorkerSplit:
    """A division of processors.

    Attributes:
        workers: processes.
        threads: of each.
    """

    workers: int
    threads: int


def possible_splits(processors: int, most: int) -> list[WorkerSplit]:
    """Splits that use all processors, or nearly: 1, 2, 4... workers, and as many as are possible.

    Args:
        processors: in all.
        most: workers at most, by memory and scans.

    Example:
        >>> [(split.workers, split.threads) for split in possible_splits(6, 16)]
        [(1, 6), (2, 3), (4, 1), (6, 1)]
    """
    most = max(1, min(most, processors))
    counts = [1 << power for power in range(most.bit_length()) if 1 << power < most]
    return [WorkerSplit(workers, processors // workers) for workers in [*counts, most]]


def best_split(rates: dict[WorkerSplit, float]) -> WorkerSplit:
    """The split with the most workers among those whose rate is close to the best.

    Example:
        >>> best_split({WorkerSplit(1, 4): 1.0, WorkerSplit(2, 2): 1.5, WorkerSplit(4, 1): 1.49})
        WorkerSplit(workers=4, threads=1)
    """
    best = max(rates.values())
    return max(split for split, rate in rates.items() if rate >= _CLOSE * best)


def measured_split(start: Callable[[int, WorkerSplit], WorkerProcess], splits: Sequence[WorkerSplit]) -> WorkerSplit:
    """Let the workers of each split segment a scan of one patch at the same time, and compare scans per second.

    Args:
        start: starts a worker of a split by its number; it measures when it is told to.
        splits: those to compare.

    Returns:
        The best; the last where they cannot be measured.
    """
    deadline = time.monotonic() + _LONGEST
    rates: dict[WorkerSplit, float] = {}
    try:
        for split in splits:
            rates[split] = _rate(start, split, deadline)
    except (EOFError, TimeoutError):  # the run itself will tell why
        return splits[-1]
    return best_split(rates)


def _rate(start: Callable[[int, WorkerSplit], WorkerProcess], split: WorkerSplit, deadline: float) -> float:
    """Scans per second of a split."""
    workers: list[WorkerProcess] = []
    try:
        workers.extend(start(number, split) for number in range(split.workers))
        _answers(workers, "ready", deadline)
        for worker in workers:
            worker.send({"do": "measure"})
        return sum(1 / seconds for seconds in _answers(workers, "measured", deadline))
    finally:
        for worker in workers:
            worker.close()


def _answers(workers: Sequence[WorkerProcess], event: str, deadline: float) -> list[float]:
    """The seconds that workers tell with an event, when all have.

    Raises:
        EOFError: a worker ended, or refused the model.
        TimeoutError: the deadline has passed.
    """
    seconds: list[float] = []
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker, selectors.EVENT_READ, worker)
        while len(seconds) < len(workers):
            if time.monotonic() > deadline:
                raise TimeoutError
            for key, _ in selector.select(1.0):
                for message in key.data.messages():
                    if message["event"] == "refused":
                        raise EOFError
                    if message["event"] == event:
                        seconds.append(message.get("seconds", 0.0))
    return seconds
