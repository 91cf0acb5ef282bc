"""WorkerSplit: processors divided among workers, few with many threads or many with few, by a short measurement."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from voxelry.cohort.worker_process import WorkerProcess

LEAST_SCANS = 16
"""Scans a processor below which a measurement, some patches long, does not pay."""

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


def measured_split(
    start: Callable[[int, WorkerSplit], WorkerProcess], splits: Sequence[WorkerSplit]
) -> tuple[WorkerSplit, list[WorkerProcess]]:
    """Let workers segment a scan of one patch at the same time, as each split would, and compare scans per second.

    All are measured with the workers of the split that has the most, of which some get the threads of the others.

    Args:
        start: starts a worker of a split by its number; it measures when it is told to.
        splits: those to compare, the one with the most workers last.

    Returns:
        The best, the last where they cannot be measured; and its workers, which tell once more that they are ready, or none
        where they are to be started.
    """
    deadline = time.monotonic() + _LONGEST
    best, workers = splits[-1], list[WorkerProcess]()
    with suppress(EOFError, TimeoutError), ExitStack() as opened:  # the run itself will tell why
        for number in range(best.workers):
            workers.append(start(number, best))
            opened.callback(workers[-1].close)
        _answers(workers, "ready", deadline)
        best = best_split({split: _rate(workers[: split.workers], split.threads, deadline) for split in reversed(splits)})
        if best == splits[-1]:
            opened.pop_all()
            for worker in workers:
                worker.send({"do": "keep", "threads": best.threads})
            return best, workers
    return best, []


def _rate(workers: Sequence[WorkerProcess], threads: int, deadline: float) -> float:
    """Scans per second of workers that segment at the same time."""
    for worker in workers:
        worker.send({"do": "measure", "threads": threads})
    return sum(1 / seconds for seconds in _answers(workers, "measured", deadline))


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
