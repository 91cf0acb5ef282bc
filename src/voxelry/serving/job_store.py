"""JobStore: scans that are segmented in the background, kept in a ledger and a folder each, so that a restart loses none."""

from __future__ import annotations

import fcntl
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from voxelry.base.failures import task_failures
from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.core.volume import Volume
from voxelry.errors import UsageError, VoxelryError
from voxelry.inference.predictor import Prediction
from voxelry.serving.device_queue import ClosingError, DeviceQueue, QueueFullError, Turn
from voxelry.serving.job_results import SCAN, keep_result
from voxelry.serving.request_body import SegmentParameters
from voxelry.serving.segment_answer import SegmentAnswer, answer_of
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.served_model import ServedModel
from voxelry.serving.study_reference import StudyReference

log = logging.getLogger(__name__)

REFERENCE = "reference"
"""The name by which a `StudyReference` is kept with its job."""
_LOCK = ".voxelry-serve.lock"
_JOBS, _INCOMING = "jobs", "incoming"
_MOST_ATTEMPTS = 2
"""Times that a job is begun: one that ended the server twice is given up."""
_RETRY_AFTER = 60
"""Seconds after which a client is told to come again where too many jobs wait."""


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class CancelledJobError(VoxelryError):
    """Its client cancelled the job."""

    def __init__(self) -> None:
        super().__init__("cancelled")


@dataclass(frozen=True)
class JobState:
    """What is known of a job.

    Attributes:
        id: its name in addresses, which cannot be guessed.
        model: id of the model.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
        progress: share of the patches done, 0..1.
        error: why it failed.
        flags: sentences about anything unusual in the prediction.
        choices: the keys of the volumes to choose from, where a scan holds several and none was named.
    """

    id: str
    model: str
    state: str
    progress: float
    error: str = ""
    flags: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


class JobStore:
    """The jobs of a server.

    Args:
        folder: where they are kept; one server at a time uses it.
        models: id -> model.
        queue: of the device.
        limits: what is taken at most.
        fetch: brings what the reference of a job names into a file.

    Attributes:
        on_done: called with the id of a job that is done; None for nobody.

    Raises:
        UsageError: another server uses the folder.
    """

    def __init__(
        self,
        folder: Path,
        models: dict[str, ServedModel],
        queue: DeviceQueue,
        limits: ServeLimits,
        fetch: Callable[[StudyReference, Path], None] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = (folder / _LOCK).open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            raise UsageError(f"{folder}: another server keeps its jobs there", remedy="Name another folder.") from None
        self._folder, self._models, self._queue, self._limits = folder, models, queue, limits
        self._fetch, self._fetches = fetch, DeviceQueue(("references",), limits.jobs)
        self._guard = threading.Lock()
        self._progress: dict[str, float] = {}
        self.on_done: Callable[[str], None] | None = None
        self._cancelled: set[str] = set()
        shutil.rmtree(folder / _INCOMING, ignore_errors=True)
        (folder / _INCOMING).mkdir()
        (folder / _JOBS).mkdir(exist_ok=True)
        self._ledger = Ledger(folder)

    def resume(self) -> int:
        """Take up the jobs that an earlier server left; how many.

        One that was running is begun once more; after that it is reported as failed, since it may be what ended the server.
        """
        with self._guard:
            left = [case for case in self._ledger.cases() if case.state in ("ready", "running")]
            known = {case.id for case in self._ledger.cases()}
        for folder in (self._folder / _JOBS).iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)  # received, but never promised to anyone
        for case in left:
            if case.attempt >= _MOST_ATTEMPTS:
                self._end(case.id, "failed", error="the server ended twice while it segmented this scan")
            elif case.request not in self._models:
                self._end(case.id, "failed", error=f"model '{case.request}' is no longer served")
            else:
                self._submit(case)
        return len(left)

    def incoming(self) -> Path:
        """A new folder to receive a scan into; whoever asked for it removes it, or gives it to `add` or `keep`."""
        folder = self._folder / _INCOMING / secrets.token_urlsafe(16)
        folder.mkdir()
        return folder

    def add(
        self,
        incoming: Path,
        model: str,
        client: str,
        parameters: SegmentParameters,
        series: str | None,
        more: Mapping[str, Any] = _NOTHING,
        error: str = "",
    ) -> JobState:
        """Make a job of a received scan.

        Args:
            incoming: the folder that holds it.
            model: id of the model.
            client: whose it is; clients take turns.
            parameters: task and thresholds.
            series: which volume of several.
            more: further details to keep with the job.
            error: why the scan is not segmented; empty where it is.

        Raises:
            QueueFullError: too many wait.
            ClosingError: the server is about to end.
        """
        with self._guard:
            counts = self._ledger.counts()
            if counts["ready"] + counts["running"] >= self._limits.jobs:
                raise QueueFullError(_RETRY_AFTER)
            details = {"client": client, "parameters": parameters.model_dump(), "series": series, **more}
            case = self._case(incoming, model, details)
            if error:
                case = replace(case, state="failed", ended=time.time(), error=error)
            self._ledger.put([case])
        if error:
            return self.state(case.id)
        try:
            self._submit(case)
        except ClosingError:
            with self._guard:
                self._ledger.forget([case.id])
            self._drop(case.id)
            raise
        return self.state(case.id)

    def keep(
        self, incoming: Path, model: str, volume: Volume, prediction: Prediction, answer: SegmentAnswer, series: str | None
    ) -> str:
        """Keep the result of a scan that was segmented at once, as a job that is done; its id."""
        keep_result(incoming, volume, answer)
        self.sweep()
        with self._guard:
            case = self._case(incoming, model, {"series": series, "flags": list(prediction.flags)})
            self._ledger.put([replace(case, state="done", ended=time.time())])
        return case.id

    def _case(self, incoming: Path, model: str, details: dict[str, Any]) -> LedgerCase:
        """The row of a received scan, whose folder becomes that of the job."""
        folder = self._folder / _JOBS / incoming.name
        incoming.rename(folder)
        return LedgerCase(folder.name, time.time_ns(), (str(folder / SCAN),), model, "", details=details)

    def _submit(self, case: LedgerCase) -> None:
        client = case.details.get("client", "")
        if REFERENCE in case.details and not (self.folder(case.id) / SCAN).exists():
            self._fetches.submit(client, lambda _: self._bring(case))
        else:
            self._queue.submit(client, lambda turn: self._run(case.id, turn))

    def _bring(self, case: LedgerCase) -> None:
        """Fetch what a job refers to, and let it wait for the device."""
        error = ""
        try:
            if self.state(case.id).state != "waiting" or self._fetch is None:
                return
            with task_failures("the study"):
                self._fetch(StudyReference(**case.details[REFERENCE]), self.folder(case.id) / SCAN)
            if self.state(case.id).state == "waiting":
                self._submit(case)
            else:
                self._drop(case.id)  # it was cancelled meanwhile
        except (ClosingError, KeyError):
            return  # the next server goes on, or it was deleted
        except VoxelryError as failure:
            error = without_path(failure, self.folder(case.id))
        except OSError as failure:
            error = f"the server could not read or write ({failure.strerror})"
        if error and self.folder(case.id).is_dir():
            self._end(case.id, "failed", error=error)

    def _run(self, id: str, turn: Turn) -> None:
        """Segment the scan of a job on a device, whatever happens."""
        with self._guard:
            case = self._ledger.case(id)
            if case is None or case.state not in ("ready", "running"):
                return
            case = replace(case, state="running", attempt=case.attempt + 1, started=time.time())
            self._ledger.put([case])
        try:
            flags = self._segment(case, turn)
        except CancelledJobError:
            self._end(id, "failed", error_class="CancelledJobError")
            self._drop(id)
        except VoxelryError as error:
            choices = list(getattr(error, "choices", ()))
            self._end(id, "failed", error=without_path(error, self.folder(id)), details={**case.details, "choices": choices})
        except OSError as error:
            log.exception("job %s", id)
            self._end(id, "failed", error=f"the server could not read or write ({error.strerror})")
        else:
            self._end(id, "done", details={**case.details, "flags": flags})
            if self.on_done is not None:
                self.on_done(id)

    def _segment(self, case: LedgerCase, turn: Turn) -> list[str]:
        model, folder = self._models[case.request], self.folder(case.id)

        def watch(what: str, done: int, total: int | None) -> None:
            if case.id in self._cancelled:
                raise CancelledJobError
            self._progress[case.id] = done / total if what == "patches" and total else 0.0

        watch("", 0, None)
        with task_failures("the scan"):
            volume, prediction = model.segment(folder / SCAN, self._limits, case.details.get("series"), watch, turn)
            parameters = SegmentParameters(**case.details.get("parameters", {}))
            keep_result(folder, volume, answer_of(prediction, parameters, model.task))
        return list(prediction.flags)

    def _end(self, id: str, state: Any, **changes: Any) -> None:
        with self._guard:
            self._ledger.finish(id, state, **changes)
        self._progress.pop(id, None)
        self._cancelled.discard(id)

    def state(self, id: str) -> JobState:
        """What is known of a job.

        Raises:
            KeyError: there is none of that id.
        """
        with self._guard:
            case = self._ledger.case(id)
        if case is None:
            raise KeyError(id)
        state = {"ready": "waiting"}.get(case.state, case.state)
        state = "cancelled" if case.error_class == "CancelledJobError" else state
        progress = 1.0 if state == "done" else self._progress.get(id, 0.0)
        details = case.details
        return JobState(
            id, case.request, state, progress, case.error, tuple(details.get("flags", ())), tuple(details.get("choices", ()))
        )

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._guard:
            return {{"ready": "waiting"}.get(state, state): count for state, count in self._ledger.counts().items()}

    def details(self, name: str) -> dict[str, Any]:
        """Job -> what is kept of it by a name, of those that have it, in the order in which they came."""
        with self._guard:
            return {case.id: case.details[name] for case in self._ledger.cases() if case.details.get(name)}

    def detail(self, id: str, name: str) -> Any:
        """What is kept of a job by a name; None where it is not, or there is no such job."""
        with self._guard:
            case = self._ledger.case(id)
        return None if case is None else case.details.get(name)

    def note(self, id: str, name: str, value: Any) -> None:
        """Keep something more of a job; nothing of one that is no longer known."""
        with self._guard:
            case = self._ledger.case(id)
            if case is not None:
                self._ledger.put([replace(case, details={**case.details, name: value})])

    def folder(self, id: str) -> Path:
        """The folder of a job that is known."""
        return self._folder / _JOBS / id

    def cancel(self, id: str) -> JobState:
        """Cancel a job that waits or runs; of one that has ended the files are deleted.

        Raises:
            KeyError: there is none of that id.
        """
        state = self.state(id)
        if state.state == "waiting":
            self._end(id, "failed", error_class="CancelledJobError")
            self._drop(id)
        elif state.state == "running":
            self._cancelled.add(id)
        else:
            with self._guard:
                self._ledger.forget([id])
            self._drop(id)
            return replace(state, state="cancelled")
        return self.state(id)

    def sweep(self) -> None:
        """Delete the jobs that ended longer ago than results are kept."""
        oldest = time.time() - self._limits.keep
        with self._guard:
            old = [case.id for case in self._ledger.cases() if case.state in ("done", "failed") and case.ended < oldest]
            self._ledger.forget(old)
        for id in old:
            self._drop(id)

    def _drop(self, id: str) -> None:
        shutil.rmtree(self.folder(id), ignore_errors=True)

    def close(self) -> None:
        """Close the ledger; after the queue's last work, and when a reference that is being fetched is there."""
        self._fetches.close()
        self._fetches.join()
        self._ledger.close()
        self._lock_file.close()


def without_path(error: BaseException, *folders: Path) -> str:
    """The message of an error without the server's own paths, which concern no client."""
    text = str(error)
    for folder in folders:
        text = text.replace(f"{folder}/{SCAN}", "the scan").replace(str(folder), "the scan")
    return text
