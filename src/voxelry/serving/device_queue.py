"""DeviceQueue: work for devices, one piece or batch at a time on each, shared fairly by clients, refused where too much waits."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from voxelry.errors import VoxelryError
from voxelry.inference.shared_passes import SharedPasses

_LONGEST_RETRY = 120
"""Most seconds that a client is told to wait."""
_MEMORY_OF_MEAN = 0.8
"""Weight of earlier pieces of work in the mean time of one."""


class QueueFullError(VoxelryError):
    """Too much waits already.

    Args:
        retry_after: whole seconds after which it is worth asking again.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__("the server is busy", remedy=f"Send the request again in {retry_after} s.")
        self.retry_after = retry_after


class ClosingError(VoxelryError):
    """The server is about to end."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down", remedy="Send the request again when it is back.")


@dataclass(frozen=True)
class Turn:
    """What a piece of work is told when its turn has come.

    Attributes:
        device: number of the device.
        passes: where scans meet that have their turn together; None of one alone.
    """

    device: int = 0
    passes: SharedPasses | None = None


@dataclass(frozen=True, eq=False)
class _Work:
    """A piece of work and who waits for it."""

    run: Callable[[Turn], Any]
    kind: Hashable
    future: Future[Any] = field(default_factory=Future)
    context: Context = field(default_factory=copy_context)


class DeviceQueue:
    """A thread for each device, which does one piece of work at a time: it has one warm model in use, and memory for one scan.

    Clients take turns: one that sends many requests does not keep those of others waiting. The first that is free takes the next
    piece. What waits already and is of the same kind has its turn with it, the next of each client in turn.

    Args:
        names: of the devices, for the threads.
        most: requests that may be inside at once, counted by `admission`.
        together: pieces of one kind that have their turn together at most.
    """

    def __init__(self, names: Sequence[str], most: int, together: int = 1) -> None:
        self._most, self._together = most, together
        self._helpers = ThreadPoolExecutor(max(1, together * len(names)), "voxelry batch")
        self._inside = self._busy = 0
        self._seconds = 1.0
        self._is_closed = False
        self._waiting: OrderedDict[str, deque[_Work]] = OrderedDict()
        self._change = threading.Condition()
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), name=f"voxelry {name}", daemon=True)
            for number, name in enumerate(names)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def length(self) -> int:
        """Pieces of work that wait or run."""
        with self._change:
            return sum(map(len, self._waiting.values())) + self._busy

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more work."""
        return self._is_closed

    @contextmanager
    def admission(self) -> Iterator[None]:
        """A place for a request, from before the most of its body is read until it is answered.

        Raises:
            QueueFullError: there is none.
            ClosingError: the server is about to end.
        """
        with self._change:
            self.check_room()
            self._inside += 1
        try:
            yield
        finally:
            with self._change:
                self._inside -= 1

    def check_room(self) -> None:
        """Refuse a request for which there is no place now.

        Raises:
            QueueFullError: there is none.
            ClosingError: the server is about to end.
        """
        if self._is_closed:
            raise ClosingError
        if self._inside >= self._most:
            left = math.ceil(self._inside * self._seconds / len(self._threads))
            raise QueueFullError(min(_LONGEST_RETRY, max(1, left)))

    def submit(self, client: str, run: Callable[[Turn], Any], kind: Hashable = None) -> Future[Any]:
        """Add a piece of work.

        Args:
            client: whose it is; clients take turns.
            run: the work, called with its turn.
            kind: what work must have in common to have its turn together; None for work that has its own.

        Returns:
            Its result to be; cancelling it takes it out, unless it runs.

        Raises:
            ClosingError: the server is about to end.
        """
        work = _Work(run, kind)
        with self._change:
            if self._is_closed:
                raise ClosingError
            self._waiting.setdefault(client, deque()).append(work)
            self._change.notify()
        return work.future

    def close(self) -> None:
        """Take no more work; what waits fails by `ClosingError`, what runs goes on."""
        with self._change:
            self._is_closed = True
            waiting = [work for works in self._waiting.values() for work in works]
            self._waiting.clear()
            self._change.notify_all()
        for work in waiting:
            if work.future.set_running_or_notify_cancel():
                work.future.set_exception(ClosingError())

    def join(self) -> None:
        """Wait until the work that runs is done; after `close`."""
        for thread in self._threads:
            thread.join()
        self._helpers.shutdown()

    def _serve(self, device: int) -> None:
        while works := self._next():
            began = time.monotonic()
            if len(works) == 1:
                _do(works[0], Turn(device))
            else:
                self._do_together(works, device)
            each = (time.monotonic() - began) / len(works)
            with self._change:
                self._busy -= len(works)
                self._seconds = _MEMORY_OF_MEAN * self._seconds + (1 - _MEMORY_OF_MEAN) * each

    def _do_together(self, works: Sequence[_Work], device: int) -> None:
        """Do pieces of work at the same time, a thread each; this one runs the networks that they share."""
        passes = SharedPasses(len(works))

        def do(work: _Work) -> None:
            try:
                _do(work, Turn(device, passes))
            finally:
                passes.leave()

        helping = [self._helpers.submit(do, work) for work in works]
        passes.serve()
        wait(helping)

    def _next(self) -> list[_Work]:
        """The first work of the client whose turn it is, and what has its turn with it; nothing at the end."""
        with self._change:
            while not self._waiting:
                if self._is_closed:
                    return []
                self._change.wait()
            works = [self._take(next(iter(self._waiting)))]
            kind = works[0].kind
            while kind is not None and len(works) < self._together:
                alike = (client for client, waiting in self._waiting.items() if waiting[0].kind == kind)
                client = next(alike, None)
                if client is None:
                    break
                works.append(self._take(client))
            self._busy += len(works)
            return works

    def _take(self, client: str) -> _Work:
        """The first work of a client, who waits behind all others then."""
        works = self._waiting.pop(client)
        work = works.popleft()
        if works:
            self._waiting[client] = works
        return work


def _do(work: _Work, turn: Turn) -> None:
    """Do a piece of work, unless it was cancelled, and tell who waits for it."""
    if work.future.set_running_or_notify_cancel():
        try:
            result = work.context.run(work.run, turn)
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it, and the next work goes on
            work.future.set_exception(error)
        else:
            work.future.set_result(result)
