"""Workers on a real Ray cluster of two nodes on this machine, one of which is killed in the middle."""

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import voxelry as vx
from helpers.acts import Acts
from helpers.plans import SIDED, tiny_model, tiny_plan
from voxelry.cohort.ray_worker import RayWorker, join_cluster
from voxelry.cohort.remote_worker import ClusterPlaces
from voxelry.cohort.supervisor import Limits, Supervisor
from voxelry.core.geometry import Geometry
from voxelry.errors import UsageError
from voxelry.networks.weights import save_model
from voxelry.phantom.nifti import write_nifti

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray, of the extra 'cluster', is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of Ray's own code
]
TOY = str(Path(__file__).parent / "toy_worker.py")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=small)
    nodes.second = nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
    ray.init(nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_scans_end_once_though_workers_die_and_a_node_is_killed(cluster: Any) -> None:
    places = join_cluster("ray", "cpu")
    assert (places.workers, places.processors, places.gpus) == (2, 1, 0)
    workers: list[RayWorker] = []

    def start(number: int) -> RayWorker:
        workers.append(RayWorker(f"node {number}", [TOY], {}, None, places))
        return workers[-1]

    def kill_a_node(source: Acts) -> None:
        if len(source.results) == 1:
            while not all(worker.memory() for worker in workers):  # until both nodes have a worker that can be lost
                time.sleep(0.05)
            cluster.remove_node(cluster.second, allow_graceful=False)

    # no scan crashes beside the kill: a worker that has just died by its scan is not lost with its node
    acts = ["nap"] * 8 + ["segfault", "error", "once"] + ["nap"] * 12
    source = Acts(acts, kill_a_node)
    began = time.monotonic()
    Supervisor(start, places.workers, Limits(seconds=60), 2, source).run()
    assert time.monotonic() - began < 60
    assert {*source.results, *source.deaths} == {str(number) for number in range(len(acts))}
    assert [acts[int(id)] for id in source.deaths] == ["segfault"]
    assert "SIGSEGV" in source.deaths["8"]
    assert source.results["9"]["event"] == "failed"
    assert source.results["10"]["attempt"] == 2
    assert any(worker.is_lost for worker in workers)
    pids = {message["pid"] for message in source.results.values() if "pid" in message}
    assert len(pids) >= 2  # at least the worker that died and its successor; a slow machine may start the lost node's too late


def test_a_worker_that_cannot_start_ends_the_batch(cluster: Any) -> None:
    places = ClusterPlaces(1, 1, 0)
    with pytest.raises(UsageError, match=r"a worker cannot run: .*cannot start"):
        Supervisor(lambda number: RayWorker("w", [TOY, "die"], {}, None, places), 1, Limits(), 1, Acts(["nap"])).run()


def test_devices_that_no_node_has(cluster: Any) -> None:
    with pytest.raises(UsageError, match="no node has a GPU to give"):
        join_cluster("ray", "cuda")


def test_a_run_on_a_cluster_is_one_on_this_machine(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # relative paths, which a worker on a node would not know
    save_model(tiny_model(tiny_plan(3), SIDED), Path("model"))
    for number in range(4):
        voxels = np.random.default_rng(number).normal(100, 20, (20, 18, 12)).astype(np.float32)
        write_nifti(voxels, Geometry.from_spacing((20, 18, 12), (1, 1, 2)), Path("in") / f"{number}.nii.gz")
    (Path("in") / "text.nii.gz").write_text("not an image")
    outcomes = vx.predict("model", "in", "out", cluster="ray", device="cpu")
    alone = vx.predict("model", "in", "here", workers=0, device="cpu")
    assert [bool(outcome.error) for outcome in outcomes] == [False] * 4 + [True]
    assert [outcome.error for outcome in outcomes] == [outcome.error for outcome in alone]
    for number in range(4):
        assert Path("out", f"{number}.nii.gz").read_bytes() == Path("here", f"{number}.nii.gz").read_bytes()
    again = vx.predict("model", "in", "out", cluster="ray", device="cpu")
    assert [outcome.is_earlier for outcome in again] == [True] * 4 + [False]


def test_what_is_no_cluster_is_refused(tmp_path: Path) -> None:
    save_model(tiny_model(tiny_plan(3), SIDED), tmp_path / "model")
    with pytest.raises(UsageError, match=r"cluster 'kubernetes' is none that is known.*ray://host:port or slurm"):
        vx.predict(tmp_path / "model", tmp_path, tmp_path / "out", cluster="kubernetes")
