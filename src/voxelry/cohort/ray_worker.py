"""RayWorker: a worker process on some node of a Ray cluster, relayed by an actor, and the room of such a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from voxelry.base.extras import extra
from voxelry.cohort.remote_worker import MOST_THREADS, ClusterPlaces, NodeWorker, RemoteWorker
from voxelry.cohort.worker_process import Message
from voxelry.errors import UsageError

_LONGEST = 300


class RayWorker(RemoteWorker):
    """A running worker on a Ray cluster.

    Args:
        name: its name, for the ledger and messages.
        arguments: of Python, for the worker process; the number of its socket is added.
        environment: variables that differ from the node's own.
        first: what it is sent first, such as the order to load a model.
        places: what it takes of a node.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], first: Message | None, places: ClusterPlaces
    ) -> None:
        super().__init__(name)
        self._ray = extra("ray", "a Ray cluster")
        groups = {"orders": 1, "reports": 1}
        takes = {"num_cpus": places.processors, "num_gpus": places.gpus, "max_restarts": 0}
        self._actor = self._ray.remote(concurrency_groups=groups, **takes)(NodeWorker).remote(
            name, list(arguments), dict(environment), first
        )
        self._listener.start()

    def send(self, message: Message) -> None:
        """Send a message; one to a worker that is gone is lost, as its death will be noticed."""
        self._actor.send.options(concurrency_group="orders").remote(message)

    def kill(self, reason: str, is_memory: bool = False) -> None:
        """End its process.

        Args:
            reason: for `death`.
            is_memory: for lack of memory.
        """
        self._actor.kill.options(concurrency_group="orders").remote(reason, is_memory)

    def _release(self, patience: float) -> None:
        with suppress(Exception):  # its node may be gone
            if patience and not self._death:
                self._ray.get(self._actor.close.options(concurrency_group="orders").remote(patience), timeout=2 * patience)
        with suppress(Exception):
            self._ray.kill(self._actor)

    def _listen(self) -> None:
        try:
            while not self._death:
                self._take(self._ray.get(self._actor.receive.options(concurrency_group="reports").remote()))
        except self._ray.exceptions.RayActorError:
            self.is_lost, self._death = True, "its node was lost"
        except Exception as error:  # noqa: BLE001 - whatever it was, the worker is gone
            self._death = f"the cluster does not answer ({' '.join(str(error).split())[:_LONGEST]})"


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
