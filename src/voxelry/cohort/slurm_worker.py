"""SlurmCluster and SlurmWorker: worker processes in jobs of Slurm, which submitit submits and puts in the queue again.

The jobs and the process that leads have a file system in common and a network. The process that leads listens; each job connects
to it and takes the place of a worker that waits for one. A job that is lost or begins anew connects as another worker.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from voxelry.base.extras import extra
from voxelry.cohort.remote_worker import MOST_THREADS, ClusterPlaces, RemoteWorker
from voxelry.cohort.slurm_job import SILENCE, SlurmJob, shut
from voxelry.cohort.worker_process import Message
from voxelry.errors import UsageError

EXECUTOR = "slurm"
"""Name of submitit's executor."""

FOLDER = ".voxelry-slurm"
"""Of submitit in the output folder: jobs and what they print."""

JOBS = 8
"""Jobs where no number is asked for."""

MEMORY = 16 << 30
"""Bytes of memory of a worker where no limit is asked for."""

_ASKED = 1.5
"""What a job asks of Slurm, as a multiple of the worker's limit: the supervisor ends a worker before Slurm ends the job."""

_MINUTES = 60
"""Time limit of a job, which is put in the queue again when it is over."""

_MOST_REQUEUES = 1000
_POLL = 0.5
_LOOK = 5.0
"""Seconds between looks at jobs that are not connected."""

_LONGEST = 300
_HANDSHAKE = 10
"""Seconds that a caller has to prove that it knows the secret."""


class SlurmCluster:
    """The jobs of a batch.

    Args:
        folder: for submitit, on a file system that the nodes share; what an earlier batch left there is removed.
        places: how many jobs, and what each asks for.

    Attributes:
        jobs: of submitit, by number.
        pids: the process of each job that has connected, on its node.

    Raises:
        MissingExtraError: submitit is not installed.
        UsageError: there is no Slurm on this machine, or it refuses the jobs.
    """

    def __init__(self, folder: Path, places: ClusterPlaces) -> None:
        submitit = extra("submitit", "a Slurm cluster")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            self._executor = submitit.AutoExecutor(
                folder.absolute(), EXECUTOR, slurm_max_num_timeout=_MOST_REQUEUES, local_max_num_timeout=_MOST_REQUEUES
            )
        except RuntimeError as error:
            raise UsageError(f"--cluster slurm: {error}", remedy="Run the command on a node of the cluster.") from error
        self._executor.update_parameters(
            name="voxelry",
            timeout_min=_MINUTES,
            cpus_per_task=places.processors,
            gpus_per_node=places.gpus or None,
            mem_gb=-(-int(places.memory * _ASKED) >> 30),
            slurm_additional_parameters={"requeue": True},
        )
        self._meeting = folder.absolute() / "meeting.json"
        self._secret = secrets.token_bytes(32)
        self._arrivals: SimpleQueue[tuple[int, Connection]] = SimpleQueue()
        self._lock, self._looked = threading.Lock(), time.monotonic()
        self.pids: dict[int, int] = {}
        self._connected: set[int] = set()
        self._used: set[int] = set()
        self._server = socket.create_server(("", 0))
        try:
            self._write_meeting()
            self.jobs = dict(enumerate(self._submit(range(places.workers))))
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._accept, name="jobs of Slurm", daemon=True).start()

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], first: Message | None) -> SlurmWorker:
        """A worker, which begins as soon as a job is there for it."""
        return SlurmWorker(self, name, arguments, environment, first)

    def close(self) -> None:
        """End all jobs: those that run find nobody to connect to."""
        self._meeting.unlink(missing_ok=True)
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with suppress(Empty):
            while True:
                shut(self._arrivals.get_nowait()[1])
        for job in getattr(self, "jobs", {}).values():
            with suppress(OSError):
                job.cancel(check=False)

    def arrival(self, begin: Message, is_wanted: Callable[[], bool]) -> tuple[int, Connection] | None:
        """Wait for a job: its number and connection; None where none is wanted any more.

        Args:
            begin: what it is sent first.
            is_wanted: asked while there is none.

        Raises:
            UsageError: a job ended before it connected. Another is in its place.
        """
        while is_wanted():
            with suppress(Empty):
                number, connection = self._arrivals.get(timeout=_POLL)
                try:
                    connection.send_bytes(json.dumps(begin).encode())
                except OSError:  # lost while nobody wanted it
                    self.left(number)
                    connection.close()
                    continue
                return number, connection
            self._replace_ended()
        return None

    def left(self, number: int) -> None:
        """A job's connection has ended."""
        with self._lock:
            self._connected.discard(number)

    def _submit(self, numbers: Sequence[int]) -> list[Any]:
        """Submit jobs, as one array."""
        try:
            with self._executor.batch():
                return [self._executor.submit(SlurmJob(str(self._meeting), number)) for number in numbers]
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"--cluster slurm: no job is taken ({_short(error)})", remedy="Set what it needs, such as SBATCH_PARTITION."
            ) from error

    def _replace_ended(self) -> None:
        """Submit another job for each that is over, though scans are left."""
        with self._lock:
            if time.monotonic() - self._looked < _LOOK:
                return
            self._looked = time.monotonic()
            ended = [number for number, job in self.jobs.items() if number not in self._connected and job.done()]
            if not ended:
                return
            unused = [number for number in ended if number not in self._used]
            words = f"job {self.jobs[unused[0]].job_id} ended unused ({_last_words(self.jobs[unused[0]])})" if unused else ""
            self.jobs.update(zip(ended, self._submit(ended), strict=True))
            self._used -= {*ended}
        if words:
            raise UsageError(words)

    def _write_meeting(self) -> None:
        """Write where to connect, for this user's eyes."""
        self._meeting.parent.mkdir(parents=True, exist_ok=True)
        hosts = list(dict.fromkeys([socket.gethostname(), socket.getfqdn()]))
        content = {"hosts": hosts, "port": self._server.getsockname()[1], "secret": self._secret.hex()}
        with os.fdopen(os.open(self._meeting, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                caller, _ = self._server.accept()
                threading.Thread(target=self._greet, args=(caller,), daemon=True).start()

    def _greet(self, caller: socket.socket) -> None:
        """Take a job in, unless it does not know the secret."""
        _set_patience(caller, _HANDSHAKE)
        connection = Connection(caller.detach())
        try:
            deliver_challenge(connection, self._secret)
            answer_challenge(connection, self._secret)
            hello = json.loads(connection.recv_bytes())
            number = int(hello["number"])
        except (OSError, EOFError, AuthenticationError, ValueError):
            connection.close()
            return
        with socket.socket(fileno=os.dup(connection.fileno())) as twin:
            _set_patience(twin, SILENCE)
        with self._lock:
            self.pids[number] = hello["pid"]
            self._connected.add(number)
            self._used.add(number)
        self._arrivals.put((number, connection))


class SlurmWorker(RemoteWorker):
    """A worker in whichever job connects next.

    Args:
        cluster: the jobs.
        name: its name, for the ledger and messages.
        arguments: of Python, for the worker process; the number of its socket is added.
        environment: variables that differ from the node's own.
        first: what it is sent first, such as the order to load a model.
    """

    def __init__(
        self,
        cluster: SlurmCluster,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        first: Message | None,
    ) -> None:
        super().__init__(name)
        self._cluster, self._is_wanted = cluster, True
        self._connection: Connection | None = None
        self._begin = {"name": name, "arguments": list(arguments), "environment": dict(environment), "first": first}
        self._listener.start()

    def send(self, message: Message) -> None:
        """Send a message; one to a worker that is gone is lost, as its death will be noticed."""
        self._order({"send": message})

    def kill(self, reason: str, is_memory: bool = False) -> None:
        """End its process.

        Args:
            reason: for `death`.
            is_memory: for lack of memory.
        """
        self._order({"kill": [reason, is_memory]})

    def close(self, patience: float = 0.0) -> None:
        """Release it; its job connects anew as another worker, or ends with the batch.

        Args:
            patience: seconds that a process which was told to stop may take.
        """
        super().close(patience)
        if self._connection is not None:
            self._connection.close()

    def _order(self, order: Mapping[str, Any]) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.send_bytes(json.dumps(order).encode())

    def _release(self, patience: float) -> None:
        if patience:
            self._listener.join(patience)
        self._is_wanted = False
        if self._connection is not None:
            shut(self._connection)

    def _listen(self) -> None:
        try:
            arrival = self._cluster.arrival(self._begin, lambda: self._is_wanted)
        except UsageError as error:
            self._death = str(error)
            return
        if arrival is None:
            return
        number, self._connection = arrival
        try:
            while self._is_wanted and not self._death:
                self._take(json.loads(self._connection.recv_bytes()))
        except (EOFError, OSError):
            self.is_lost, self._death = True, f"its job {self._cluster.jobs[number].job_id} was lost"
        finally:
            self._cluster.left(number)


def slurm_places(workers: int | None, device: str, memory: int | None) -> ClusterPlaces:
    """What a batch asks of Slurm.

    Args:
        workers: jobs; None takes 8.
        device: ``cuda`` asks for a GPU each; with ``auto`` a worker takes one where its job has one.
        memory: bytes that a worker may hold; None takes 16 GiB.
    """
    return ClusterPlaces(workers or JOBS, MOST_THREADS, int(device.startswith("cuda")), memory or MEMORY)


def _set_patience(caller: socket.socket, seconds: int) -> None:
    """Let reading and writing fail after so long, also where it is done by the number of the socket."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        caller.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))


def _last_words(job: Any) -> str:
    with suppress(OSError):
        return _short((job.stderr() or "").strip().rpartition("\n")[2] or "it printed nothing")
    return "it printed nothing"


def _short(error: object) -> str:
    return " ".join(str(error).split())[-_LONGEST:]
