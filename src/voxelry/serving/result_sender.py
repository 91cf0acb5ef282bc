"""ResultSender: brings the results of the DICOM node's jobs to the archives of their routes, over restarts and refusals."""

from __future__ import annotations

import heapq
import logging
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelry.base.failures import task_failures
from voxelry.base.files import atomic_folder
from voxelry.core.model import ModelCard
from voxelry.errors import PacsError, VoxelryError
from voxelry.pacs.pacs_address import PacsCaller
from voxelry.pacs.pacs_connection import connect
from voxelry.serving.job_results import download

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxelry.serving.job_store import JobStore
    from voxelry.serving.served_model import ServedModel

log = logging.getLogger(__name__)

_PAUSES = (2.0, 10.0, 60.0, 300.0)
"""Seconds between attempts to reach an archive; the last is repeated for as long as results are kept."""
_REPORT, _SEGMENTATION = "dicom-sr", "dicom-seg"
_WAITING, _SENT, _FAILED = "waiting", "sent", "failed"
_DICOM = "*.dcm"
RETURNED = "returned"
"""The name by which a `ResultReturn` is kept with its job."""


@dataclass(frozen=True)
class ResultReturn:
    """Where the result of a job goes, kept with the job.

    Attributes:
        to: address of an archive.
        formats: names of DICOM formats.
        token: of the series that the job was made of.
        key: UIDs of its study and series.
        state: ``waiting``, ``sent`` or ``failed``.
        reason: why it failed, or what the archive warned of.
    """

    to: str
    formats: tuple[str, ...]
    token: str
    key: str
    state: str = _WAITING
    reason: str = ""


class ResultSender:
    """A thread that sends results, one job after the other.

    Args:
        jobs: the jobs.
        models: id -> model.
        caller: who sends.
    """

    def __init__(self, jobs: JobStore, models: Mapping[str, ServedModel], caller: PacsCaller) -> None:
        self._jobs, self._models, self._caller = jobs, models, caller
        self._due: list[tuple[float, str, int]] = []
        self._change = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._serve, name="voxelry node results", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier server has not sent."""
        self._jobs.on_done = self.add
        for id in self._jobs.details(RETURNED):
            self.add(id)
        self._thread.start()

    def add(self, id: str) -> None:
        """Send the result of a job, if it goes anywhere."""
        if self._is_waiting(id):
            self._put(time.monotonic(), id, 0)

    def _is_waiting(self, id: str) -> bool:
        told = self._jobs.detail(id, RETURNED)
        return bool(told) and told["state"] == _WAITING and self._jobs.state(id).state == "done"

    def stop(self) -> None:
        """End when the job under way is sent; the others are sent by the next server."""
        with self._change:
            self._is_over = True
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _put(self, when: float, id: str, attempt: int) -> None:
        with self._change:
            heapq.heappush(self._due, (when, id, attempt))
            self._change.notify()

    def _serve(self) -> None:
        while (due := self._next()) is not None:
            id, attempt = due
            if not self._is_waiting(id):
                continue  # sent already, or deleted
            try:
                with task_failures("the result"):
                    reason = self._send(id)
            except PacsError as error:
                self._again(id, attempt, str(error))
            except (VoxelryError, OSError) as error:
                self._end(id, _FAILED, str(error))
            else:
                self._end(id, _SENT, reason)

    def _next(self) -> tuple[str, int] | None:
        """The next job and its attempt, when it is due; None at the end."""
        with self._change:
            while not self._is_over:
                now = time.monotonic()
                if self._due and self._due[0][0] <= now:
                    return heapq.heappop(self._due)[1:]
                self._change.wait(self._due[0][0] - now if self._due else None)
            return None

    def _send(self, id: str) -> str:
        """Write the result of a job in its formats, and send it; what the archive warned of."""
        told = self._jobs.detail(id, RETURNED)
        card = self._models[self._jobs.state(id).model].predictor.model.card
        files = result_files(self._jobs.folder(id), told["formats"], card, self._jobs.detail(id, "series"))
        sent = list(connect(told["to"], self._caller).store(files))
        refused = [each.reason for each in sent if each.outcome == "refused"]
        if refused:
            raise PacsError(f"{told['to'].rpartition('@')[2]} refuses a result: {refused[0]}", remedy="See the archive's log.")
        return "; ".join(each.reason for each in sent if each.outcome == "warned")

    def _again(self, id: str, attempt: int, reason: str) -> None:
        """Try again later, for as long as the result is kept."""
        pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
        log.warning("node: job %s is sent again in %g s: %s", id, pause, reason)
        self._put(time.monotonic() + pause, id, attempt + 1)

    def _end(self, id: str, state: str, reason: str) -> None:
        told = self._jobs.detail(id, RETURNED)
        self._jobs.note(id, RETURNED, {**(told or {}), "state": state, "reason": reason})
        log.log(logging.ERROR if state == _FAILED else logging.INFO, "node: result of job %s %s %s", id, state, reason)


def result_files(folder: Path, formats: Any, card: ModelCard, series: str | None) -> list[Path]:
    """The files of a result, the same ones each time: a report comes with the segmentation that it refers to.

    Args:
        folder: of the job.
        formats: names of DICOM formats.
        card: of the model.
        series: which volume of the scan.

    Raises:
        ExportError: a format cannot hold the labels.
    """
    files: list[Path] = []
    for name in formats:
        if name == _SEGMENTATION and _REPORT in formats:
            continue
        file = download(folder, name, card, series)
        if not zipfile.is_zipfile(file):
            files.append(file)
            continue
        unpacked = folder / f"sent-{name}"
        if not unpacked.is_dir():
            with atomic_folder(unpacked) as temporary, zipfile.ZipFile(file) as archive:
                archive.extractall(temporary)
        files += sorted(unpacked.rglob(_DICOM))
    return files
