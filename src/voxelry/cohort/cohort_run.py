"""A run over many scans: by supervised worker processes, or in this process, on the ledger of the output folder.

Of the scans, those that an earlier run segmented from the same files with the same model and settings are done already.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxelry.base.progress import BatchProgress
from voxelry.base.threads import MOST_THREADS, processors
from voxelry.base.version import version
from voxelry.cohort.batch import Outcome, scan_outputs
from voxelry.cohort.case_queue import CaseQueue, DeferredCases, fresh
from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.cohort.measurement_table import TABLE_NAMES, write_measurements
from voxelry.cohort.model_digest import model_digest
from voxelry.cohort.ray_worker import RayWorker, join_cluster
from voxelry.cohort.remote_worker import ClusterPlaces, RemoteWorker
from voxelry.cohort.run_export import MANIFEST, write_manifest
from voxelry.cohort.run_settings import MODELS, RunPlan, RunSettings, RunWatch
from voxelry.cohort.scan_job import BESIDE, ScanJob, ScanPass
from voxelry.cohort.scan_names import Scan
from voxelry.cohort.scan_outputs import ScanOutputs
from voxelry.cohort.slurm_worker import FOLDER, SlurmCluster, slurm_places
from voxelry.cohort.supervisor import AnyWorker, Limits, Supervisor
from voxelry.cohort.worker import careful
from voxelry.cohort.worker_process import WorkerProcess
from voxelry.cohort.worker_split import LEAST_SCANS, WorkerSplit, measured_split, possible_splits
from voxelry.core.model import Model
from voxelry.errors import VoxelryError
from voxelry.inference.memory_budget import host_limit, resident_memory
from voxelry.inference.predictor import Predictor

LEAST_MEMORY = 2 << 30
"""Bytes of memory below which no further worker is started."""

FEW_SCANS = 4
"""Scans a processor below which one worker with all threads is started: further ones would take as long to start."""

TOLERANCE = 1.25
"""A worker is ended when it holds so much more than its share: the budget counts what is needed, not what lies between."""

LEAST_LIMIT = 1 << 30
"""Bytes that a worker may hold whatever the budget, since its libraries take most of them. The budget itself refuses scans."""

DEPTH = 3
"""Scans in a worker: one that is read, one in the network, one that is written."""

CLUSTER_DEPTH = 2
"""Scans in a worker of a cluster: one in the network, one that waits."""

SLURM = "slurm"
"""Name of the cluster whose workers are jobs of Slurm."""

_HERE = "this process"
_LEFTOVER = re.compile(r"\.(tmp|old)-[0-9a-f]{8}")


def run_cohort(
    settings: RunSettings,
    models: Sequence[Model],
    make: Callable[[], Predictor],
    scans: Sequence[Scan],
    watch: RunWatch,
) -> list[Outcome]:
    """Segment scans that are not done, and keep the ledger of the output folder.

    Args:
        settings: how.
        models: the models.
        make: gives the Predictor, where scans are segmented in this process.
        scans: the scans.
        watch: who is told.

    Returns:
        One outcome a scan, in order.

    Raises:
        UsageError: outputs that would replace something, another run in the folder, or workers that cannot run.
        ExportError: a format that does not hold the model's labels.
        OSError: the disk is full; the same run again goes on.
    """
    outputs = scan_outputs(models, settings.options, settings.out, settings.formats, settings.task, settings.maps)
    outputs = replace(outputs, model=replace(outputs.model, weights={}, previous=None) if settings.folders else outputs.model)
    outputs.check_names(scans)
    is_new = not settings.out.exists()
    settings.out.mkdir(parents=True, exist_ok=True)
    try:
        return _run_locked(settings, outputs, models, make, scans, watch)
    finally:
        if is_new:
            with suppress(OSError):
                settings.out.rmdir()  # refused before anything was written


def _run_locked(
    settings: RunSettings,
    outputs: ScanOutputs,
    models: Sequence[Model],
    make: Callable[[], Predictor],
    scans: Sequence[Scan],
    watch: RunWatch,
) -> list[Outcome]:
    """As `run_cohort`, alone in the folder."""
    with outputs.outputs.locked():
        remove_leftovers(settings.out)
        with Ledger(settings.out) as ledger:
            request = {"model": model_facts(models), **settings.request()}
            digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
            run = _Run(settings, outputs, ledger, scans, digest, watch)
            try:
                run.queue.begin(outputs.check)
            except VoxelryError:
                if ledger.is_blank:
                    ledger.remove()
                raise
            folders = [os.path.relpath(folder, settings.out) for folder in settings.folders]
            ledger.set_facts({f"request {digest}": request, MODELS: folders, "voxelry": version(), "began": time.time()})
            del models
            try:
                plan = run.plan()
                watch.on_plan(plan)
                if plan.left and plan.workers:
                    run.with_workers(WorkerSplit(plan.workers, plan.threads), plan.left)
                elif plan.left:
                    run.here(make(), plan.left)
            finally:
                run.close()
                remove_leftovers(settings.out)
            with outputs.outputs.writing([settings.out / MANIFEST]):
                write_manifest(ledger, settings.out / MANIFEST)
            tables = [settings.out / name for name in TABLE_NAMES]
            if plan.left or not all(path.exists() for path in tables):
                with outputs.outputs.writing(tables):
                    write_measurements(ledger.measurements(), settings.out)
            return [run.outcome(scan) for scan in scans]


class _Run:
    """A run over the scans of a ledger."""

    def __init__(
        self,
        settings: RunSettings,
        outputs: ScanOutputs,
        ledger: Ledger,
        scans: Sequence[Scan],
        digest: str,
        watch: RunWatch,
    ) -> None:
        self.settings, self.outputs, self.ledger, self.watch = settings, outputs, ledger, watch
        self.total, self.began = len(scans), time.monotonic()
        self.measured: list[WorkerProcess] = []
        self.places: ClusterPlaces | None = None
        self.slurm: SlurmCluster | None = None
        self.done, self.failed = 0, 0
        self.queue = CaseQueue(ledger, settings.out, {scan.id: scan for scan in scans}, digest, self._count)

    def _count(self, is_done: bool) -> None:
        """Tell that a case has ended."""
        self.done, self.failed = self.done + is_done, self.failed + (not is_done)
        earlier = self.total - len(self.queue.left)
        ended, seconds = self.done + self.failed, time.monotonic() - self.began
        left, rate = len(self.queue.left) - ended, ended / seconds * 3600
        self.watch.on_batch(BatchProgress(earlier + self.done, self.failed, left, rate, left / rate * 3600))
        self.watch.progress("segmenting", earlier + ended, self.total)

    def plan(self) -> RunPlan:
        """What is to be done by how many workers."""
        left, devices = len(self.queue.left), tuple(gpus(self.settings.device))
        split = self._split(left, len(devices))
        return RunPlan(self.total, left, split.workers, split.threads, devices or ("cpu",))

    def _split(self, left: int, devices: int) -> WorkerSplit:
        """Workers and threads of each; on a CPU measured where there are many scans, once for all runs on the same machine."""
        settings, cores = self.settings, processors()
        if settings.cluster and left:
            is_slurm = settings.cluster == SLURM
            asked = (settings.workers, settings.device, settings.options.memory)
            self.places = slurm_places(*asked) if is_slurm else join_cluster(settings.cluster, settings.device)
            return WorkerSplit(min(self.places.workers, left, settings.workers or left), self.places.processors)
        most = min(left, host_limit(settings.options) // LEAST_MEMORY)
        if settings.workers is not None or self.total < 2 or not left or not settings.folders:
            workers = min(settings.workers or 0, left)
        elif devices:
            workers = min(devices, left)
        elif left < FEW_SCANS * cores or most < 2:
            workers = 1
        elif left < LEAST_SCANS * cores or settings.options.backend != "torch":  # others build a network for their threads
            workers = min(cores, most)
        else:
            return self._measured(possible_splits(cores, most), left)
        return WorkerSplit(workers, max(1, cores // max(1, workers)))

    def _measured(self, splits: Sequence[WorkerSplit], left: int) -> WorkerSplit:
        """The split that a measurement chooses, once for all runs of a request on this machine."""
        here = f"{platform.node()}, {splits}, {self.queue.request}"
        known = self.ledger.facts().get("split", {})
        if known.get("on") == here:
            return WorkerSplit(*known["split"])
        memory = host_limit(self.settings.options) // splits[-1].workers
        split, self.measured = measured_split(lambda number, tried: self._start(number, tried, memory, left, True), splits)
        self.ledger.set_facts({"split": {"on": here, "split": [split.workers, split.threads]}})
        return split

    def close(self) -> None:
        """End workers that were measured and have not begun."""
        while self.measured:
            self.measured.pop().close()

    def here(self, predictor: Predictor, left: int) -> None:
        """Segment in this process."""
        predictor.scans = left
        job = ScanJob(predictor, self.outputs, self.settings.read, hashed=True)
        while (task := self.queue.next(_HERE)) is not None:
            scan = self.queue.scans[task.id]
            message = ScanPass(job, scan, task.order["known"], self.watch.progress).run()
            if message.get("is_memory"):
                message = ScanPass(replace(job, predictor=careful(predictor)), scan, None, self.watch.progress).run()
            self.queue.done(task, message, resident_memory())

    def with_workers(self, split: WorkerSplit, left: int) -> None:
        """Segment with worker processes: scans that need more memory than a share at the end, alone with all of it."""
        self.queue.may_defer = self.places is None
        if self.places is not None and self.settings.cluster == SLURM:
            self.slurm = SlurmCluster(self.settings.out / FOLDER, replace(self.places, workers=split.workers))
        try:
            self._supervise(split, left, self.queue, DEPTH if self.places is None else CLUSTER_DEPTH)
        finally:
            if self.slurm is not None:
                self.slurm.close()
        if self.queue.deferred:
            tasks, self.queue.may_defer = fresh(self.queue.deferred), False
            self._supervise(WorkerSplit(1, processors()), len(tasks), DeferredCases(self.queue, tasks), 1)

    def _supervise(self, plan: WorkerSplit, left: int, source: CaseQueue | DeferredCases, depth: int) -> None:
        memory = host_limit(self.settings.options) // plan.workers
        if self.places is not None:
            memory = self.settings.options.memory or self.places.memory or host_limit(self.settings.options)

        def start(number: int) -> AnyWorker:
            if self.places is not None:
                return self._start_on(self.places, number, plan, memory, left)
            return self.measured.pop(0) if self.measured else self._start(number, plan, memory, left, depth > 1)

        limits = Limits(max(int(memory * TOLERANCE), LEAST_LIMIT), self.settings.seconds)
        Supervisor(start, plan.workers, limits, depth, source).run()

    def _start(self, number: int, split: WorkerSplit, memory: int, left: int, ahead: bool) -> WorkerProcess:
        """Start a worker process and send it the model."""
        devices = gpus(self.settings.device) or [self.settings.device]
        name, arguments, environment = self._worker(number, split)
        worker = WorkerProcess(name, [sys.executable, *arguments], environment)
        worker.send(self.settings.load_order(devices[number % len(devices)], memory, left, ahead))
        return worker

    def _start_on(self, places: ClusterPlaces, number: int, split: WorkerSplit, memory: int, left: int) -> RemoteWorker:
        """Start a worker on a node of a cluster."""
        if self.slurm is not None:
            order = self.settings.load_order(self.settings.device, memory, left, True)
            return self.slurm.start(*self._worker(number, split), order)
        order = self.settings.load_order("cuda" if places.gpus else "cpu", memory, left, True)
        return RayWorker(*self._worker(number, split), order, places)

    def _worker(self, number: int, split: WorkerSplit) -> tuple[str, list[str], dict[str, str]]:
        """Name, arguments of Python, and environment of a worker."""
        path = os.pathsep.join(map(os.path.abspath, sys.path))  # finds what this process does, as a network of the user's
        own = min(split.threads, MOST_THREADS)
        environment = {"OMP_NUM_THREADS": str(split.threads), "VOXELRY_THREADS": str(own), "PYTHONPATH": path}
        return f"worker {number + 1}", ["-P", "-m", "voxelry.cohort.worker"], environment

    def outcome(self, scan: Scan) -> Outcome:
        """The outcome of a scan, by the ledger."""
        case = self.ledger.case(scan.id)
        assert case is not None
        return replace(outcome_of_case(case, self.settings.out), is_earlier=scan.id not in self.queue.left)


def outcome_of_case(case: LedgerCase, out: Path) -> Outcome:
    """The outcome that a ledger tells of a case that has ended."""
    files = {name: out / row["path"] for name, row in case.outputs.items() if not name.endswith(BESIDE)}
    flags, remarks = (tuple(case.details.get(name, ())) for name in ("flags", "remarks"))
    return Outcome(case.id, files, flags, case.error, remarks, case.error_class, facts=case.details.get("facts", {}))


def model_facts(models: Sequence[Model]) -> dict[str, Any]:
    """What identifies models: their names, the versions that trained them, and digests of all that they are."""
    return {
        "names": [model.card.name for model in models],
        "trained with": [model.card.version for model in models],
        "digests": [model_digest(model) for model in models],
    }


def gpus(device: str) -> list[str]:
    """The GPUs that a device's name stands for, a name each."""
    import torch

    if device.startswith("cuda:"):
        return [device]
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] if device in ("auto", "cuda") else []


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders that writers left which were killed; nobody writes into the folder now."""
    for entry in os.scandir(folder):
        if _LEFTOVER.match(entry.name):
            shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()
