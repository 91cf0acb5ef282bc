"""RayWorker: a worker process on some node of a Ray cluster, seen from the process that leads a batch.

On its node an actor (`NodeWorker`) starts the same worker process that a batch on one machine has, and relays its messages. So a
scan that ends its process costs itself alone on a cluster too, and the supervisor and the ledger are those of one machine. A node
that is lost costs nothing but time: its scans are begun again elsewhere.
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

from voxelry.base.extras import extra
from voxelry.cohort.worker_process import Message, WorkerProcess
from voxelry.errors import UsageError

MOST_THREADS = 8
"""Processors of a worker without a GPU; more would wait for memory."""

_POLL = 1.0
"""Seconds for which a question for messages waits on the node."""

_CHUNK = 1 << 16
_LONGEST = 300


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
    """The actor beside a worker process, on its node.

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


class RayWorker:
    """A running worker on a cluster, with the methods of a `WorkerProcess`.

    Args:
        name: its name, for the ledger and messages.
        arguments: of Python, for the worker process; the number of its socket is added.
        environment: variables that differ from the node's own.
        first: what it is sent first, such as the order to load a model.
        places: what it takes of a node.

    Attributes:
        peak_memory: most bytes that its process was seen to hold.
        is_lost: its node is gone, which is no fault of its scans.
        may_lack_memory: its end may be one for lack of memory.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], first: Message | None, places: ClusterPlaces
    ) -> None:
        ray = extra("ray", "a Ray cluster")
        self.name, self.peak_memory, self.is_lost, self.may_lack_memory = name, 0, False, False
        self._ray, self._held, self._death, self._buffer = ray, 0, "", b""
        self._here, self._there = socket.socketpair()
        groups = {"orders": 1, "reports": 1}
        takes = {"num_cpus": places.processors, "num_gpus": places.gpus, "max_restarts": 0}
        self._actor = ray.remote(concurrency_groups=groups, **takes)(NodeWorker).remote(
            name, list(arguments), dict(environment), first
        )
        self._listener = threading.Thread(target=self._listen, name=name, daemon=True)
        self._listener.start()

    def fileno(self) -> int:
        """Of the socket that its messages come from, for `selectors`."""
        return self._here.fileno()

    def send(self, message: Message) -> None:
        """Send a message; one to a worker that is gone is lost, as its death will be noticed."""
        self._actor.send.options(concurrency_group="orders").remote(message)

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
        self._actor.kill.options(concurrency_group="orders").remote(reason, is_memory)

    def close(self, patience: float = 0.0) -> None:
        """Release it and its place in the cluster."""
        with suppress(Exception):  # its node may be gone
            if patience and not self._death:
                self._ray.get(self._actor.close.options(concurrency_group="orders").remote(patience), timeout=2 * patience)
        with suppress(Exception):
            self._ray.kill(self._actor)
        self._listener.join()
        self._here.close()

    def death(self) -> str:
        """Why it ended, in words."""
        self._listener.join()
        return self._death

    def _listen(self) -> None:
        """Take what comes from the node, until the process, its actor or its node is gone."""
        try:
            while not self._death:
                report = self._ray.get(self._actor.receive.options(concurrency_group="reports").remote())
                self._held, self.peak_memory = report["memory"], max(self.peak_memory, report["peak"])
                self.may_lack_memory, self._death = report["may_lack_memory"], report["death"]
                for message in report["messages"]:
                    self._there.sendall(json.dumps(message).encode() + b"\n")
        except self._ray.exceptions.RayActorError:
            self.is_lost, self._death = True, "its node was lost"
        except Exception as error:  # noqa: BLE001 - whatever it was, the worker is gone
            self._death = f"the cluster does not answer ({' '.join(str(error).split())[:_LONGEST]})"
        finally:
            self._there.close()


def join_cluster(address: str, devices: str) -> ClusterPlaces:
    """Connect to a Ray cluster, and say what workers it has room for.

    Args:
        address: ``ray`` for the cluster that this machine belongs to, or the URL ``ray://host:port`` of another.
        devices: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        A worker a GPU where there are any and `devices` allows; else as many of up to 8 processors as the nodes hold.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: no cluster is there, or it has no room.
    """
    ray = extra("ray", "a Ray cluster")
    if not ray.is_initialized():
        try:
            ray.init("auto" if address == "ray" else address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            raise UsageError(
                f"--cluster {address}: no Ray cluster answers ({' '.join(str(error).split())[:_LONGEST]})",
                remedy="Start one by `ray start --head`, and `ray start --address` on the other nodes.",
            ) from error
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes) if devices != "cpu" else 0
    if gpus:
        return ClusterPlaces(gpus, 1, 1, min(int(node.get("memory", 0) / node["GPU"]) for node in nodes if node.get("GPU", 0)))
    processors = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    if not processors or devices.startswith("cuda"):
        raise UsageError(
            f"--cluster {address}: no node has a {'GPU' if processors else 'processor'} to give", remedy="Add nodes."
        )
    share = min(MOST_THREADS, *processors)
    memory = min(int(node.get("memory", 0) / (node["CPU"] // share)) for node in nodes if node.get("CPU", 0) >= 1)
    return ClusterPlaces(sum(count // share for count in processors), share, 0, memory)
