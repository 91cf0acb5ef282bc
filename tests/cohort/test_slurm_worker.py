"""Workers in jobs that submitit's local executor runs on this machine: one killed, one requeued, one that never connects."""

import importlib.util
import json
import os
import pickle
import signal
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import numpy as np
import pytest

import voxelry as vx
from helpers.acts import Acts
from helpers.plans import SIDED, tiny_model, tiny_plan
from voxelry.cohort import slurm_worker, supervisor
from voxelry.cohort.remote_worker import ClusterPlaces
from voxelry.cohort.slurm_job import SlurmJob
from voxelry.cohort.slurm_worker import SlurmCluster, SlurmWorker, slurm_places
from voxelry.cohort.supervisor import Limits, Supervisor
from voxelry.core.geometry import Geometry
from voxelry.errors import UsageError
from voxelry.networks.weights import save_model
from voxelry.phantom.nifti import write_nifti

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="submitit, of the extra 'cluster', is not installed"),
]
TOY = str(Path(__file__).parent / "toy_worker.py")
TWO = ClusterPlaces(2, 1, 0, 1 << 30)


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_worker, "EXECUTOR", "local")
    monkeypatch.setattr(slurm_worker, "_LOOK", 0.5)
    close = SlurmCluster.close

    def close_and_wait(self: SlurmCluster) -> None:
        close(self)
        for job in self.jobs.values():
            if getattr(job, "_process", None) is not None:
                job._process.wait(20)  # that they end is part of each test

    monkeypatch.setattr(SlurmCluster, "close", close_and_wait)


@pytest.fixture
def cluster(local: None, tmp_path: Path) -> Iterator[SlurmCluster]:
    jobs = SlurmCluster(tmp_path / "jobs", TWO)
    yield jobs
    jobs.close()


def test_scans_end_once_though_jobs_are_killed_and_requeued(cluster: SlurmCluster) -> None:
    workers: list[SlurmWorker] = []
    first = {number: job.job_id for number, job in cluster.jobs.items()}

    def start(number: int) -> SlurmWorker:
        workers.append(cluster.start(f"job {number}", [TOY], {}, None))
        return workers[-1]

    def disturb(source: Acts) -> None:
        if len(source.results) == 1:
            while not all(worker.memory() for worker in workers):  # until both jobs have a worker that can be lost
                time.sleep(0.05)
            os.kill(cluster.pids[0], signal.SIGKILL)  # as a node that is lost
        if len(source.results) == 4:
            os.kill(cluster.pids[1], signal.SIGUSR2)  # as Slurm that takes the node for another

    # no scan crashes beside a kill: a worker that has just died by its scan is not lost with its job
    acts = ["nap"] * 10 + ["segfault", "error", "once"] + ["nap"] * 13
    source = Acts(acts, disturb)
    Supervisor(start, 2, Limits(seconds=60), 2, source).run()
    assert {*source.results, *source.deaths} == {str(number) for number in range(len(acts))}
    assert [acts[int(id)] for id in source.deaths] == ["segfault"]
    assert "SIGSEGV" in source.deaths["10"]
    assert source.results["11"]["event"] == "failed"
    assert source.results["12"]["attempt"] == 2
    assert sum(worker.is_lost for worker in workers) == 2
    assert cluster.jobs[0].job_id != first[0]  # another job
    assert cluster.jobs[1].job_id == first[1]  # the same, begun again by its checkpoint
    assert "Requeued job" in cluster.jobs[1].stderr() + cluster.jobs[1].stdout()


def test_a_job_is_put_in_the_queue_again_as_it_was() -> None:
    job = SlurmJob("/shared/meeting.json", 3)
    again = pickle.loads(pickle.dumps(job.checkpoint()))
    assert (again.function, again.args, again.kwargs) == (job, (), {})


def test_a_job_ends_where_the_batch_is_over(tmp_path: Path) -> None:
    SlurmJob(str(tmp_path / "meeting.json"), 0)()


def test_only_who_knows_the_secret_is_let_in(cluster: SlurmCluster, tmp_path: Path) -> None:
    path = tmp_path / "jobs" / "meeting.json"
    assert path.stat().st_mode & 0o777 == 0o600
    meeting = json.loads(path.read_text())
    with pytest.raises(AuthenticationError):
        Client((meeting["hosts"][0], meeting["port"]), authkey=bytes(32))


def test_jobs_that_cannot_reach_the_batch_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: SlurmCluster) -> None:
        self._meeting.parent.mkdir(exist_ok=True)
        self._meeting.write_text("{}")

    monkeypatch.setattr(SlurmCluster, "_write_meeting", broken)
    monkeypatch.setattr(supervisor, "_MOST_STARTS", 1)
    jobs = SlurmCluster(tmp_path / "jobs", ClusterPlaces(1, 1, 0, 1 << 30))
    with pytest.raises(UsageError, match=r"a worker cannot run: job \d+ ended unused \(KeyError: 'hosts'\)"):
        Supervisor(lambda number: jobs.start("w", [TOY], {}, None), 1, Limits(), 1, Acts(["nap"])).run()
    jobs.close()


def test_what_is_asked_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in the place of sbatch keeps what it is given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("srun", "scancel", "sacct", "sbatch"):
        (programs / name).write_text(f"#!/bin/sh\n[ {name} = sbatch ] && cp $1 {tmp_path}/script && echo Submitted batch job 7\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr(slurm_worker, "EXECUTOR", "slurm")
    SlurmCluster(tmp_path / "jobs", slurm_places(3, "cuda", 4 << 30)).close()
    lines = {*(tmp_path / "script").read_text().splitlines()}
    assert {"array=0-2%3", "gpus-per-node=1", "mem=6GB", "requeue", "cpus-per-task=8"} <= {line[10:] for line in lines}
    assert slurm_places(None, "auto", None) == ClusterPlaces(8, 8, 0, 16 << 30)


def test_a_machine_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_worker, "EXECUTOR", "slurm")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"--cluster slurm: .*srun.*Run the command on a node"):
        SlurmCluster(tmp_path / "jobs", TWO)


@pytest.mark.slow
def test_a_run_on_slurm_is_one_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tiny_model(tiny_plan(3), SIDED), Path("model"))
    for number in range(3):
        voxels = np.random.default_rng(number).normal(100, 20, (20, 18, 12)).astype(np.float32)
        write_nifti(voxels, Geometry.from_spacing((20, 18, 12), (1, 1, 2)), Path("in") / f"{number}.nii.gz")
    (Path("in") / "text.nii.gz").write_text("not an image")
    outcomes = vx.predict("model", "in", "out", cluster="slurm", workers=2, device="cpu")
    alone = vx.predict("model", "in", "here", workers=0, device="cpu")
    assert [outcome.error for outcome in outcomes] == [outcome.error for outcome in alone]
    for number in range(3):
        assert Path("out", f"{number}.nii.gz").read_bytes() == Path("here", f"{number}.nii.gz").read_bytes()
    again = vx.predict("model", "in", "out", cluster="slurm", workers=2, device="cpu")
    assert [outcome.is_earlier for outcome in again] == [True] * 3 + [False]
