"""SlurmJob: a job on a node of Slurm, which has one worker process after another for the process that leads a batch.

It finds that process by a file in a folder that both see, connects to it, and proves by HMAC that it has read the file. What it
sends is what a `NodeWorker` reports. When the connection ends it connects anew, and ends where nobody answers.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from voxelry.base.extras import extra
from voxelry.cohort.remote_worker import NodeWorker

SILENCE = 120
"""Seconds after which a side that says nothing is taken for lost."""

_TRIES = 3
_PAUSE = 5.0
"""Seconds between tries to connect."""


@dataclass(frozen=True)
class SlurmJob:
    """What a job does.

    Attributes:
        meeting: file that says where the process that leads listens, and the secret that it asks for (JSON); it is removed when
            the batch ends.
        number: of the job.
    """

    meeting: str
    number: int

    def __call__(self) -> None:
        """Have worker processes until nobody wants one.

        Raises:
            ConnectionError: the process that leads cannot be reached from this node.
        """
        has_served = False
        while (connection := self._connect(has_served)) is not None:
            with connection, suppress(EOFError, OSError):
                _set_limits(connection)
                connection.send_bytes(json.dumps({"number": self.number, "pid": os.getpid()}).encode())
                has_served = True
                _serve(connection, json.loads(connection.recv_bytes()))

    def checkpoint(self) -> Any:
        """What submitit puts in the queue again when Slurm takes the node away or the job's time is over: the same job."""
        return extra("submitit", "a Slurm cluster").helpers.DelayedSubmission(self)

    def _connect(self, has_served: bool) -> Connection | None:
        """Connect to the process that leads; None where the batch is over."""
        for number in range(_TRIES):
            time.sleep(_PAUSE if number else 0)
            try:
                meeting = json.loads(Path(self.meeting).read_text(encoding="utf-8"))
            except FileNotFoundError:
                return None
            for host in meeting["hosts"]:
                with suppress(OSError, EOFError):
                    return Client((host, meeting["port"]), authkey=bytes.fromhex(meeting["secret"]))
        if has_served:
            return None
        hosts = " or ".join(meeting["hosts"])
        raise ConnectionError(f"nobody answers at {hosts}, port {meeting['port']}, from {socket.gethostname()}")


def shut(connection: Connection) -> None:
    """End a connection, also for a thread that waits for it."""
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as twin:
        twin.shutdown(socket.SHUT_RDWR)


def _serve(connection: Connection, start: dict[str, Any]) -> None:
    """Have one worker process, and relay its messages until it or the connection ends."""
    try:
        node = NodeWorker(start["name"], start["arguments"], start["environment"], start["first"])
    except OSError as error:
        death = f"its process cannot start on {socket.gethostname()} ({error})"
        report = {"messages": [], "memory": 0, "peak": 0, "death": death, "may_lack_memory": False}
        connection.send_bytes(json.dumps(report).encode())
        return
    orders = threading.Thread(target=_relay_orders, args=(connection, node), daemon=True)
    orders.start()
    try:
        report = {"death": ""}
        while not report["death"]:
            report = node.receive()
            connection.send_bytes(json.dumps(report).encode())
    finally:
        shut(connection)
        orders.join()
        node.close(0.0)


def _relay_orders(connection: Connection, node: NodeWorker) -> None:
    with suppress(EOFError, OSError):
        while True:
            order = json.loads(connection.recv_bytes())
            if "kill" in order:
                node.kill(*order["kill"])
            else:
                node.send(order["send"])
    node.kill("the connection ended", False)


def _set_limits(connection: Connection) -> None:
    """Have the system end a connection whose other side is gone without a word, as a machine that lost its power."""
    with socket.socket(fileno=os.dup(connection.fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            twin.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE // 4)
            twin.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE // 4)
            twin.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE * 1000)
