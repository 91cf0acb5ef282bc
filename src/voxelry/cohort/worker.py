"""Worker of a batch: a process that reads, predicts and writes scans for the process that leads the batch.

Run as ``python -m voxelry.cohort.worker SOCKET``; the number of a socket is all it is given. Reading, predicting and writing are
done by a thread each, so that they overlap; the main thread is the one that predicts. The next scan is read ahead only while all
scans in the worker together take little memory beside the one that is predicted.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NoReturn

from voxelry.base.memory_gate import MemoryGate
from voxelry.errors import VoxelryError

_AHEAD = 8
"""Scans that wait for the network, or to be written, take at most this part of the worker's memory."""

_PAUSE = 0.5
"""Seconds between messages about patches."""

_PICTURE = 2
"""Axes of a picture."""

_LEAST_AXIS = 4
"""Voxels along each axis of a scan that is segmented to measure."""

_FAULT = 70
"""Exit status of a worker whose own code failed."""

_END_WITH_PARENT = 1
"""PR_SET_PDEATHSIG."""

CAREFUL = {"batch": 1}
"""Options of another attempt, which also gets half of the memory."""


class Worker:
    """Takes orders from a socket, and tells of what became of them.

    Args:
        connection: to the process that leads the batch; its end is the worker's.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._telling = threading.Lock()
        self._queues: dict[str, SimpleQueue[Any]] = {name: SimpleQueue() for name in ("main", "read", "write")}
        self._gate = MemoryGate(0)
        self._next_report = 0.0

    def serve(self) -> NoReturn:
        """Work until the other side says stop, or is gone.

        The network computes here, in the main thread, from its first number on. Were it loaded by one thread and run by another,
        each would have threads of OpenMP, which counts more of them than processors and sends them to sleep between two loops.
        """
        threading.Thread(target=self._take_orders, name="orders", daemon=True).start()
        self._work("main")

    def _take_orders(self) -> None:
        """Pass on what the other side wants."""
        main, read = self._queues["main"], self._queues["read"]
        takers = {
            "load": (main, self._load),
            "measure": (main, self._measure),
            "keep": (main, self._keep),
            "segment": (read, self._read),
        }
        with self.connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                order = json.loads(line)
                if order["do"] in takers:
                    queue, work = takers[order["do"]]
                    queue.put((work, order))
                else:
                    os._exit(0)  # all is written; the interpreter would take seconds to end
        os._exit(1)  # nobody is left to tell: no thread may go on to write

    def tell(self, **message: Any) -> None:
        """Send one message."""
        with self._telling:
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def _load(self, order: Mapping[str, Any]) -> None:
        """Load the model, and start the threads."""
        from voxelry.cohort.batch import scan_outputs
        from voxelry.cohort.scan_job import ScanJob
        from voxelry.formats.read_options import ReadOptions
        from voxelry.inference.memory_budget import host_limit
        from voxelry.inference.predict_options import PredictOptions
        from voxelry.inference.predictor import Predictor
        from voxelry.networks.weights import load_models

        try:
            os.chdir(order["folder"])  # paths may start from there; on a node of a cluster this process began elsewhere
            options = PredictOptions(**order["options"])
            limit = host_limit(options)
            ahead = limit // _AHEAD if order["ahead"] else 0
            options = replace(options, memory=limit - ahead)
            models = [model for folder in order["models"] for model in load_models(folder, order["network"])]
            predictor = Predictor(models, order["device"], options)
            predictor.scans = order["scans"]
            outputs = scan_outputs(models, options, Path(order["out"]), order["formats"], order["task"], order["maps"])
            self._job = ScanJob(predictor, outputs, ReadOptions(order["series"], tuple(order["repair"])), hashed=True)
        except (VoxelryError, FileNotFoundError) as error:
            self.tell(event="refused", error=str(error))
            return
        self._gate = MemoryGate(ahead)
        for name in ("read", "write"):
            threading.Thread(target=self._work, args=(name,), name=name, daemon=True).start()
        self.tell(event="ready", device=str(predictor.device))

    def _measure(self, order: Mapping[str, Any]) -> None:
        import torch

        torch.set_num_threads(order["threads"])
        self.tell(event="measured", seconds=seconds_of_a_patch(self._job.predictor))

    def _keep(self, order: Mapping[str, Any]) -> None:
        """Go on to scans after measurements."""
        import torch

        torch.set_num_threads(order["threads"])
        self.tell(event="ready", device=str(self._job.predictor.device))

    def _work(self, name: str) -> NoReturn:
        """Do what comes to a queue, in this thread."""
        while True:
            work, argument = self._queues[name].get()
            work(argument)

    def _read(self, order: Mapping[str, Any]) -> None:
        from voxelry.cohort.scan_job import ScanPass
        from voxelry.cohort.scan_names import Scan

        id = order["id"]
        self.tell(event="stage", id=id, stage="read")
        series, urls = tuple(order["series"]), tuple(order["urls"])
        scan = Scan(id, tuple(map(Path, order["images"])), order["remark"], series, urls)
        job = self._job if order["attempt"] == 1 else replace(self._job, predictor=careful(self._job.predictor))
        scan_pass = ScanPass(job, scan, order["known"], lambda _, done, total: self._report(id, done, total))
        held = ExitStack()
        if scan_pass.step("read"):
            assert scan_pass.volume is not None
            needed = scan_pass.volume.undecoded_bytes[1]
            held.enter_context(self._gate.hold(needed))
            if needed <= self._gate.limit and not scan_pass.step("decode"):
                held.close()
        self._pass_on("main", self._predict, scan_pass, held)

    def _predict(self, item: Any) -> None:
        scan_pass, held = item
        self.tell(event="stage", id=scan_pass.scan.id, stage="predict")
        scan_pass.step("predict")
        self._pass_on("write", self._write, scan_pass, held)

    def _write(self, item: Any) -> None:
        scan_pass, held = item
        self.tell(event="stage", id=scan_pass.scan.id, stage="write")
        scan_pass.step("write")
        self._end(scan_pass, held)

    def _pass_on(self, name: str, work: Callable[[Any], None], scan_pass: Any, held: ExitStack) -> None:
        """Hand a scan to the next thread, unless it has ended."""
        if scan_pass.message is None:
            self._queues[name].put((work, (scan_pass, held)))
        else:
            self._end(scan_pass, held)

    def _end(self, scan_pass: Any, held: ExitStack) -> None:
        """Release a scan, and say how it ended."""
        held.close()
        self.tell(**scan_pass.message)

    def _report(self, id: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + _PAUSE
            self.tell(event="progress", id=id, done=int(done), total=None if total is None else int(total))


def seconds_of_a_patch(predictor: Any) -> float:
    """Seconds of segmenting a scan as large as a patch, the second time."""
    import numpy as np

    from voxelry.core.geometry import Geometry
    from voxelry.core.volume import Volume

    plan = predictor.model.plan
    shape = tuple(max(size, _LEAST_AXIS) for size in plan.patch_size)
    spacing = [step or 1.0 for step in plan.spacing or [1.0] * plan.dimensions]
    grid = Geometry(shape, None, plan.spacing) if plan.dimensions == _PICTURE else Geometry.from_spacing(shape, spacing)
    noise = np.random.default_rng(0).normal(0, 100, (len(plan.channels), *shape)).astype(np.float32)
    for _ in range(2):
        began = time.perf_counter()
        predictor.predict(Volume(noise, grid, channels=len(plan.channels)))
    return time.perf_counter() - began


def careful(predictor: Any) -> Any:
    """A predictor with smaller settings: half of the memory, one patch at a time."""
    from voxelry.inference.memory_budget import host_limit
    from voxelry.inference.predictor import Predictor

    options = replace(predictor.options, memory=host_limit(predictor.options) // 2, **CAREFUL)
    return Predictor(predictor.models, str(predictor.device), options)


def _end_with_parent() -> None:
    """Have this process killed when its parent ends (prctl(2)), even within a long computation, where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_END_WITH_PARENT, int(signal.SIGKILL), 0, 0, 0)


def _end_for_fault(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """End the process for a fault of ours in any of its threads: its scans are begun again elsewhere."""
    traceback.print_exception(kind, error, trace)
    os._exit(_FAULT)


def main() -> None:
    """Serve the socket that is named on the command line."""
    sys.excepthook = _end_for_fault
    threading.excepthook = lambda failure: _end_for_fault(failure.exc_type, failure.exc_value, failure.exc_traceback)
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that leads ends its workers
    Worker(socket.socket(fileno=int(sys.argv[-1]))).serve()


if __name__ == "__main__":
    main()
