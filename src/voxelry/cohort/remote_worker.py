"""RemoteWorker: a worker process on some node of a cluster, seen from the process that leads a batch.

On its node a `NodeWorker` starts the same worker process that a batch on one machine has, and relays its messages. So a scan that
ends its process costs itself alone on a cluster too, and the supervisor and the ledger are those of one machine. A node that is
lost costs nothing but time: its scans are begun again elsewhere.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from voxelry.cohort.worker_process import Message, WorkerProcess

MOST_THREADS = 8
"""Processors of a worker without a GPU; more would wait for memory."""

_POLL = 1.0
"""Seconds for which a question for messages waits on the node."""

_CHUNK = 1 << 16


@dataclass(frozen=True)
class ClusterPlaces:
    """The workers that a cluster has room for.

    Attributes:
        workers: how many.
        processors: of each.
        gpus: of each.
        memory: bytes that each may hold; 0 where the cluster does not say.
    """

    workers: int
    processors: int
    gpus: int
    memory: int = 0


class NodeWorker:
    """What stands beside a worker process on its node: an actor of Ray, or a job of Slurm.

    Args:
        name: of the worker.
        arguments: of Python, for the worker process.
        environment: variables that differ from the node's own.
        first: what it is sent first.
    """

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], first: Message | None) -> None:
        self._worker = WorkerProcess(name, [sys.executable, *arguments], environment)
        self._death = ""
        if first is not None:
            self._worker.send(first)

    def send(self, message: Message) -> None:
        """Pass a message on."""
        self._worker.send(message)

    def receive(self) -> dict[str, Any]:
        """Messages that have come, after a short wait where none has; what the process holds, and why it ended if it has."""
        messages: list[Message] = []
        death = ""
        try:
            if select.select([self._worker], [], [], _POLL)[0]:
                messages.extend(self._worker.messages())
        except EOFError:
            death = self._worker.death()
        return {
            "messages": messages, "memory": self._worker.memory() if not death else 0, "peak": self._worker.peak_memory,
            "death": death, "may_lack_memory": bool(death) and self._worker.may_lack_memory,
        }  # fmt: skip

    def kill(self, reason: str, is_memory: bool) -> None:
        """End the process."""
        self._worker.kill(reason, is_memory=is_memory)

    def close(self, patience: float) -> None:
        """Release the process."""
        self._worker.close(patience)


class RemoteWorker:
    """A running worker on a cluster, with the methods of a `WorkerProcess`.

    Each kind of cluster says how messages go there (`send`, `kill`), come back (`_listen`, in a thread of its own), and how the
    place is released (`_release`).

    Args:
        name: its name, for the ledger and messages.

    Attributes:
        peak_memory: most bytes that its process was seen to hold.
        is_lost: its node is gone, which is no fault of its scans.
        may_lack_memory: its end may be one for lack of memory.
    """

    def __init__(self, name: str) -> None:
        self.name, self.peak_memory, self.is_lost, self.may_lack_memory = name, 0, False, False
        self._held, self._death, self._buffer = 0, "", b""
        self._here, self._there = socket.socketpair()
        self._listener = threading.Thread(target=self._relay, name=name, daemon=True)

    def fileno(self) -> int:
        """Of the socket that its messages come from, for `selectors`."""
        return self._here.fileno()

    def send(self, message: Message) -> None:
        """Send a message; one to a worker that is gone is lost, as its death will be noticed."""
        raise NotImplementedError

    def messages(self) -> Iterator[Message]:
        """Messages that have come; to be called when the socket is readable.

        Raises:
            EOFError: the worker is gone, and no message is left.
        """
        data = self._here.recv(_CHUNK)
        if not data:
            raise EOFError
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def memory(self) -> int:
        """Bytes that its process held a moment ago."""
        return self._held

    def kill(self, reason: str, is_memory: bool = False) -> None:
        """End its process.

        Args:
            reason: for `death`.
            is_memory: for lack of memory.
        """
        raise NotImplementedError

    def close(self, patience: float = 0.0) -> None:
        """Release it and its place in the cluster.

        Args:
            patience: seconds that a process which was told to stop may take.
        """
        self._release(patience)
        with suppress(OSError):
            self._here.shutdown(socket.SHUT_RDWR)  # nobody reads: the thread must not wait to write
        self._listener.join()
        self._here.close()

    def death(self) -> str:
        """Why it ended, in words."""
        self._listener.join()
        return self._death

    def _relay(self) -> None:
        try:
            self._listen()
        finally:
            self._there.close()

    def _take(self, report: Mapping[str, Any]) -> None:
        """Take one report of a `NodeWorker`."""
        self._held, self.peak_memory = report["memory"], max(self.peak_memory, report["peak"])
        self.may_lack_memory, self._death = report["may_lack_memory"], report["death"]
        with suppress(BrokenPipeError):  # the side that leads has closed
            for message in report["messages"]:
                self._there.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self) -> None:
        """Take what comes from the node, until the process or its node is gone."""
        raise NotImplementedError

    def _release(self, patience: float) -> None:
        """Give up its place."""
        raise NotImplementedError
