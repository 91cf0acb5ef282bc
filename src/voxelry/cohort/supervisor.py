"""Supervisor: keeps worker processes busy, and makes each scan that ends one, hangs or takes too much memory fail alone.

A worker has a few scans at once: one being read, one in the network, one being written. When it dies, the scan that killed it is
not known if there were several. All of them are then begun again, each alone in a worker: what kills that one is known.
"""

from __future__ import annotations

import selectors
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from voxelry.base.memory import format_memory
from voxelry.cohort.remote_worker import RemoteWorker
from voxelry.cohort.worker_process import Message, WorkerProcess
from voxelry.errors import UsageError

TICK = 0.2
"""Seconds between looks at the workers' memory and time."""

BEAT = 10.0
"""Seconds between signs of life."""

_MOST_LOSSES = 5
"""How often a scan may be alone in a worker whose node is lost, until that counts as an attempt: it may be the reason."""

_MOST_STARTS = 3
"""How often in a row a worker may end before it is ready, or without a scan, until the batch is given up."""


@dataclass(frozen=True)
class Limits:
    """What one scan may take before its worker is ended.

    Attributes:
        memory: bytes that a worker may hold.
        seconds: that a scan may take without a sign of progress (a step that begins, patches that are done).
        attempts: how often a scan that ended its worker is begun.

    Example:
        >>> Limits(memory=4 << 30).attempts
        2
    """

    memory: int | None = None
    seconds: float | None = None
    attempts: int = 2


@dataclass
class Task:
    """A scan on its way.

    Attributes:
        id: the scan.
        order: what the worker is sent.
        attempt: how often it was begun, as far as a failure could be its own.
        alone: no other scan is to be in its worker.
        losses: how often it was alone in a worker whose node was lost.
        moved: when its worker got it, or last told of progress; seconds of a clock that never goes back.
        stage: the last stage that its worker told of.
    """

    id: str
    order: Mapping[str, Any]
    attempt: int = 1
    alone: bool = False
    losses: int = 0
    moved: float = 0.0
    stage: str = "waiting"


class TaskSource(Protocol):
    """Where tasks come from and results go, as the ledger of a batch."""

    def next(self, worker: str, /) -> Task | None:
        """The next task; None where there is none now."""

    def done(self, task: Task, message: Message, peak_memory: int) -> None:
        """A worker has ended a task, by the message ``done`` or ``failed``."""

    def died(self, task: Task, reason: str, peak_memory: int, is_memory: bool) -> None:
        """A task ended its worker, or passed a limit, as often as allowed; `is_memory` says that memory was the reason."""

    def beat(self, worker: str, /) -> None:
        """A worker lives."""


AnyWorker = WorkerProcess | RemoteWorker


@dataclass
class _Seat:
    """A place for one worker after another."""

    number: int
    worker: AnyWorker
    is_ready: bool = False
    tasks: dict[str, Task] = field(default_factory=dict)


class Supervisor:
    """Runs tasks in worker processes.

    Args:
        start: starts the worker of a place; it sends ``ready`` when it can take tasks.
        workers: how many at once.
        limits: of one scan.
        depth: scans in a worker at once.
        source: where tasks come from.
        watch: called with each message of a worker, such as its progress.
    """

    def __init__(
        self,
        start: Callable[[int], AnyWorker],
        workers: int,
        limits: Limits,
        depth: int,
        source: TaskSource,
        watch: Callable[[Message], None] = lambda _: None,
    ) -> None:
        self.start, self.workers, self.limits, self.depth = start, workers, limits, depth
        self.source, self.watch = source, watch
        self._suspects: deque[Task] = deque()
        self._seats: list[_Seat] = []
        self._failed_starts = 0
        self._is_exhausted = False
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Run until no task is left, or an exception such as KeyboardInterrupt ends it; workers are then ended too.

        Raises:
            UsageError: workers end before they can take a task.
        """
        last_beat = time.monotonic()
        try:
            for number in range(self.workers):
                self._seat(number)
            while self._fill():
                for key, _ in self._selector.select(TICK):
                    self._hear(key.data)
                self._enforce()
                if time.monotonic() - last_beat > BEAT:
                    last_beat = time.monotonic()
                    for seat in self._seats:
                        self.source.beat(seat.worker.name)
            for seat in self._seats:
                seat.worker.send({"do": "stop"})
            self._release(patience=5.0)
        finally:
            self._release()
            self._selector.close()

    def _seat(self, number: int) -> None:
        """Start a worker."""
        seat = _Seat(number, self.start(number))
        self._seats.append(seat)
        self._selector.register(seat.worker, selectors.EVENT_READ, seat)

    def _release(self, patience: float = 0.0) -> None:
        while self._seats:
            seat = self._seats.pop()
            self._selector.unregister(seat.worker)
            seat.worker.close(patience if seat.is_ready else 0.0)

    def _fill(self) -> bool:
        """Give tasks to workers that have room; whether any is on its way."""
        for seat in self._seats:
            while seat.is_ready and (task := self._task_for(seat)) is not None:
                task.moved, task.stage = time.monotonic(), "waiting"
                seat.tasks[task.id] = task
                seat.worker.send({"do": "segment", "id": task.id, "attempt": task.attempt, "alone": task.alone, **task.order})
        waits = any(not seat.is_ready for seat in self._seats) and not self._is_exhausted  # no task is left for the others
        return waits or bool(self._suspects) or any(seat.tasks for seat in self._seats)

    def _task_for(self, seat: _Seat) -> Task | None:
        if any(task.alone for task in seat.tasks.values()) or len(seat.tasks) >= self.depth:
            return None
        if self._suspects:
            return None if seat.tasks else self._suspects.popleft()
        task = self.source.next(seat.worker.name)
        self._is_exhausted = task is None
        return task

    def _hear(self, seat: _Seat) -> None:
        """Take what a worker sent; an end of the connection is its death."""
        try:
            for message in seat.worker.messages():
                self._take(seat, message)
        except EOFError:
            self._bury(seat)

    def _take(self, seat: _Seat, message: Message) -> None:
        event = message["event"]
        if event == "ready":
            seat.is_ready, self._failed_starts = True, 0
        elif event == "refused":  # the model cannot be used: no other worker could
            raise UsageError(str(message["error"]))
        elif event in ("stage", "progress") and message["id"] in seat.tasks:
            task = seat.tasks[message["id"]]
            task.moved, task.stage = time.monotonic(), message.get("stage", task.stage)
        elif event in ("done", "failed") and message["id"] in seat.tasks:
            task = seat.tasks.pop(message["id"])
            if event == "failed" and message.get("is_memory") and task.attempt < self.limits.attempts:
                self._again(task)
            else:
                self.source.done(task, message, seat.worker.peak_memory)
        self.watch(message)

    def _enforce(self) -> None:
        """End workers that passed a limit."""
        now = time.monotonic()
        for seat in self._seats:
            held, limit = seat.worker.memory(), self.limits.memory
            if limit is not None and held > limit:
                seat.worker.kill(f"its process was ended above the limit of {format_memory(limit)}", is_memory=True)
            for task in seat.tasks.values():
                if self.limits.seconds is not None and now - task.moved > self._seconds(seat):
                    waited = f"{self.limits.seconds:g} seconds without progress"
                    seat.worker.kill(f"its process was ended after {waited}, in the stage '{task.stage}'")

    def _seconds(self, seat: _Seat) -> float:
        """Scans in one worker wait for each other."""
        assert self.limits.seconds is not None
        return self.limits.seconds * len(seat.tasks)

    def _bury(self, seat: _Seat) -> None:
        """A worker is gone: its tasks are begun again or fail, and another takes its place."""
        reason, peak = seat.worker.death(), seat.worker.peak_memory
        tasks = list(seat.tasks.values())
        if (not tasks or not seat.is_ready) and not seat.worker.is_lost:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_STARTS:
                raise UsageError(f"a worker cannot run: {reason}", remedy="Mend what its message names.")
        self._selector.unregister(seat.worker)
        seat.worker.close()
        self._seats.remove(seat)
        for task in tasks:
            task.losses += len(tasks) == 1 and seat.worker.is_lost
            is_blamed = len(tasks) == 1 and (not seat.worker.is_lost or task.losses > _MOST_LOSSES)
            if not is_blamed:
                self._again(task, counted=False)
            elif task.attempt < self.limits.attempts:
                self._again(task)
            else:
                self.source.died(task, reason, peak, seat.worker.may_lack_memory)
        self._seat(seat.number)

    def _again(self, task: Task, counted: bool = True) -> None:
        """Begin a task again, alone; an attempt counts where its failure must be its own."""
        task.alone, task.attempt = True, task.attempt + counted
        self._suspects.append(task)
