"""ScanJob and ScanPass: what is done with each scan of a batch, and one scan on its way: read, predict, write.

The one path that every scan takes, whether it is segmented in this process or by a worker. It ends with a message, JSON that a
worker can send: ``done`` with outputs and facts, or ``failed`` with the reason.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxelry.base.failures import task_failures
from voxelry.base.files import free_name
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.cohort.content_hash import hash_of, stamp_of
from voxelry.cohort.fetched_scan import FetchedScan, where_from
from voxelry.cohort.measurement_table import packed
from voxelry.cohort.prediction_facts import facts_of
from voxelry.cohort.scan_names import Scan
from voxelry.cohort.scan_outputs import ScanOutputs, Watch, watch_nothing
from voxelry.core.volume import Volume
from voxelry.datasets.channels import read_channels
from voxelry.errors import BudgetError, UnexpectedError, VoxelryError
from voxelry.formats.read_options import ReadOptions
from voxelry.inference.predictor import Prediction, Predictor
from voxelry.metrics.measurement_columns import measurement_rows

log = logging.getLogger(__name__)

STEPS = ("read", "predict", "write")
"""The steps of a scan, in order."""

BESIDE = " ids"
"""After the name of a format: the file of ids beside its file."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of the system that say that the disk, or the user's share of it, is full."""


@dataclass(frozen=True)
class ScanJob:
    """What is done with every scan.

    Attributes:
        predictor: the loaded model.
        outputs: what is written.
        options: of the readers.
        watch: called with each scan and its prediction while both are in memory.
        hashed: whether inputs and outputs are hashed, and facts computed, for a ledger.
    """

    predictor: Predictor
    outputs: ScanOutputs
    options: ReadOptions
    watch: Watch = watch_nothing
    hashed: bool = False


@dataclass
class ScanPass:
    """One scan on its way.

    Attributes:
        job: what is done.
        scan: the scan.
        known: hashes of input and outputs of an earlier run, from which nothing is to be done if they still hold: ``input`` and
            ``outputs``, name of a format -> path from the output folder and hash.
        progress: called as patches are done.
        message: what it ended with; None before.
        volume: the scan, once it is read.
        input_hash: of its files, once they are read.
    """

    job: ScanJob
    scan: Scan
    known: Mapping[str, Any] | None = None
    progress: ProgressCallback = no_progress
    message: dict[str, Any] | None = None
    volume: Volume | None = None
    input_hash: str = ""
    _prediction: Prediction | None = None
    _fetched: FetchedScan | None = None
    _timings: dict[str, float] = field(default_factory=dict)

    def step(self, name: str) -> bool:
        """Do one of `STEPS`, after those before it; or ``decode``, so that predicting need not wait for it.

        Returns:
            Whether further steps are to follow; if not, `message` says how it ended.
        """
        began = time.perf_counter()
        work = {"read": self._read, "decode": self._decode, "predict": self._predict, "write": self._write}[name]
        try:
            with task_failures(where_from(self.scan, 0)):
                work()
        except (VoxelryError, OSError) as error:
            if self._fetched is not None:
                self._fetched.rename(error)
            log.info("%s: %s", self.scan.id, error, exc_info=isinstance(error, UnexpectedError))
            self._end(failure(error))
        self._timings[name] = time.perf_counter() - began
        if self.message is not None:
            self.message |= {"id": self.scan.id, "timings": self._timings}
        return self.message is None

    def run(self) -> dict[str, Any]:
        """Do all steps; the message that it ends with."""
        for name in STEPS:
            if not self.step(name):
                break
        assert self.message is not None
        return self.message

    def _end(self, message: dict[str, Any]) -> None:
        self.message, self.volume, self._prediction = message, None, None
        if self._fetched is not None:
            self._fetched.close()

    def _read(self) -> None:
        free_name(self.scan.id)
        self._fetched = FetchedScan(self.scan)
        images = self._fetched.scan.images
        if self.job.hashed:
            with suppress(OSError):  # the reader will say why
                self.input_hash = hash_of(images)
            if self.known is not None and self._is_unchanged(self.known):
                self._end({"event": "done", "is_unchanged": True, "outputs": self._stamped(self.known["outputs"])})
                return
        plan = self.job.predictor.model.plan
        self.volume = read_channels(images, self.job.options, plan.reference, len(plan.channels), self.scan.series)
        self.job.outputs.check_volume(self.scan, self.volume)

    def _is_unchanged(self, known: Mapping[str, Any]) -> bool:
        if known["input"] != self.input_hash:
            return False
        paths = {self.job.outputs.out / row["path"]: row["hash"] for row in known["outputs"].values()}
        return all(path.exists() and hash_of([path]) == value for path, value in paths.items())

    def _stamped(self, outputs: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        out = self.job.outputs.out
        return {name: {**row, "stamp": stamp_of([out / row["path"]])} for name, row in outputs.items()}

    def _decode(self) -> None:
        assert self.volume is not None
        _ = self.volume.array

    def _predict(self) -> None:
        assert self.volume is not None
        self._prediction = self.job.predictor.predict(self.volume, self.progress)

    def _write(self) -> None:
        volume, prediction, job = self.volume, self._prediction, self.job
        assert volume is not None
        assert prediction is not None
        with job.outputs.written(self.scan, volume, prediction) as (files, how):
            facts = facts_of(volume, prediction, job.predictor.model) if job.hashed else {}
            measured = packed(measurement_rows(prediction.labels, volume)) if job.hashed else {}
            job.watch(self.scan, volume, prediction)
        self._end(
            {
                "event": "done",
                "files": {name: str(path) for name, path in files.items()},
                "outputs": self._fingerprints(files) if job.hashed else {},
                "input_hash": self.input_hash,
                "flags": list(prediction.flags),
                "remarks": list(
                    filter(
                        None,
                        (
                            self.scan.remark,
                            *volume.source.remarks,
                            *volume.source.repairs,
                            job.predictor.description,
                            how,
                        ),
                    )
                ),
                "source": {"series": volume.source.series_uid, "instances": _instances(volume)},
                "facts": facts,
                "measurements": measured,
            }
        )

    def _fingerprints(self, files: Mapping[str, Path]) -> dict[str, dict[str, str]]:
        """Paths from the output folder, stamps and hashes of files, and of those that belong to them."""
        outputs = self.job.outputs
        beside = {f"{name}{BESIDE}": path for name, path in outputs.beside(files).items() if path.exists()}
        return {
            name: {"path": path.relative_to(outputs.out).as_posix(), "stamp": stamp_of([path]), "hash": hash_of([path])}
            for name, path in {**files, **beside}.items()
        }


def failure(error: VoxelryError | OSError) -> dict[str, Any]:
    """The message of a scan that failed.

    ``is_memory`` says that memory ran out, ``is_budget`` that the scan needs more than the budget, ``is_full`` that the disk is
    full.
    """
    is_budget = isinstance(error, BudgetError) and error.needed > 0
    return {
        "event": "failed",
        "error": str(error),
        "error_class": type(error).__name__,
        "is_memory": isinstance(error, BudgetError) and not is_budget,
        "is_budget": is_budget,
        "is_full": isinstance(error, OSError) and error.errno in FULL,
    }


def _instances(volume: Volume) -> list[str]:
    """The SOPInstanceUIDs that a volume was read from, each once, in order."""
    return list(dict.fromkeys(instance[0] for instance in volume.source.instances if instance is not None))
