"""DicomNode: takes series by C-STORE, makes jobs of those that are complete, and answers C-ECHO.

Logs name callers, models and jobs, and nothing of a patient.
"""

from __future__ import annotations

import logging
import threading
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from voxelry.base.failures import task_failures
from voxelry.errors import VoxelryError
from voxelry.formats.dicom.elements import PARSE_ERRORS, integer_of, quiet_pydicom, text_of
from voxelry.pacs.dimse import VERIFICATION, configured_pynetdicom
from voxelry.pacs.pacs_connection import connect
from voxelry.pacs.pacs_records import UID
from voxelry.pacs.storage_contexts import IMAGE_CLASSES, READABLE, context_of
from voxelry.serving.device_queue import ClosingError, QueueFullError
from voxelry.serving.job_results import SCAN
from voxelry.serving.job_store import JobStore
from voxelry.serving.node_settings import NodeRoute
from voxelry.serving.request_body import SegmentParameters
from voxelry.serving.result_sender import RETURNED, ResultReturn, ResultSender
from voxelry.serving.series_inbox import ReleasedSeries, SeriesInbox, SeriesKey
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.served_archives import ServedArchives
from voxelry.serving.served_model import ServedModel

log = logging.getLogger(__name__)

_FOLDER = "node"
_SUCCESS, _NO_ROOM, _WRONG, _NO_ROUTE = 0x0000, 0xA700, 0xC000, 0xC001
_REJECTED = (0x01, 0x01, 0x03)
"""Permanently, by the service's user: calling AE title not recognised."""
_FLUSH = 0.2
"""Seconds in which a rejection is written."""
_LOOK = 0.5
"""Seconds between looks for series that are complete, at most."""
_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesDescription",
    "BodyPartExamined",
    "NumberOfSeriesRelatedInstances",
)


class DicomNode:
    """The DICOM node of a server; it begins to listen with `start`.

    Args:
        archives: with the settings of the node.
        jobs: where series become jobs.
        models: id -> model.
        folder: where series lie until they are complete.
        limits: what is taken at most.

    Raises:
        MissingExtraError: the extra ``dicom`` is not installed.
    """

    def __init__(
        self, archives: ServedArchives, jobs: JobStore, models: Mapping[str, ServedModel], folder: Path, limits: ServeLimits
    ) -> None:
        assert archives.node is not None
        self._net, settings = configured_pynetdicom(), archives.node
        self._settings, self._jobs, self._limits = settings, jobs, limits
        self._sender = ResultSender(jobs, models, settings.caller(archives.token))
        self._inbox = SeriesInbox(folder / _FOLDER, settings.quiet, limits.collected, settings.archive is not None)
        self._caller = settings.caller(archives.token)
        self._tokens: set[str] = set()
        self._last_job: dict[str, str] = {}
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="voxelry node inbox", daemon=True)
        self._listener: Any = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.server_address[1])

    def start(self) -> None:
        """Listen, and look for series that are complete.

        Raises:
            OSError: the port is taken.
            UsageError: a PEM file cannot be used.
        """
        from voxelry.serving.node_listener import listen

        for id, told in self._jobs.details(RETURNED).items():
            self._tokens.add(told["token"])
            self._last_job[told["key"]] = id
        events = self._net.evt
        handlers = [
            (events.EVT_REQUESTED, self._admit),
            (events.EVT_C_STORE, self._store),
            (events.EVT_C_ECHO, lambda _: _SUCCESS),
            (events.EVT_CONN_CLOSE, self._leave),
        ]
        contexts = [context_of(each, READABLE) for each in IMAGE_CLASSES]
        contexts.append(context_of(VERIFICATION, READABLE[:2]))
        self._listener = listen(self._settings, self._limits.upload, contexts, handlers)
        self._sender.start()
        self._watcher.start()

    def stop(self) -> None:
        """Hang up; series that are not complete stay on the disk."""
        self._is_over.set()
        if self._listener is not None:
            for association in self._listener.active_associations:
                association.abort()
            self._listener.shutdown()
            self._watcher.join()
            self._sender.stop()

    def _admit(self, event: Any) -> None:
        """Refuse an association of a title that may not call from this address."""
        requestor = event.assoc.requestor
        title, address = requestor.primitive.calling_ae_title.strip(), requestor.address
        if self._settings.admits(title, address):
            log.info("node: called by %s at %s", title, address)
            return
        log.warning("node: refused %r at %s, which is not on the list of callers", title, address)
        if any(each.ae_title == title for each in self._settings.callers):
            event.assoc.acse.send_reject(*_REJECTED)
            time.sleep(_FLUSH)  # another thread writes it, and pynetdicom hangs up at once; unknown titles it rejects by itself

    def _leave(self, event: Any) -> None:
        self._inbox.leave(id(event.assoc))

    def _store(self, event: Any) -> Any:
        """Take an instance; the status for its sender, who is told of success when it is on the disk."""
        event.assoc.reads.count = 0
        try:
            header = _header(event.dataset_path)
        except PARSE_ERRORS:
            return _status(_WRONG, "cannot be read")
        uids = [text_of(header, name) for name in _KEYWORDS[1:4]]
        if uids[0] != event.request.AffectedSOPInstanceUID or not all(UID.fullmatch(uid) for uid in uids):
            return _status(_WRONG, "wrong UIDs")
        if self._settings.route_of(header) is None:
            return _status(_NO_ROUTE, "no route fits this series")
        instance, study, series = uids
        expected = integer_of(header, "NumberOfSeriesRelatedInstances")
        try:
            self._inbox.add(event.dataset_path, SeriesKey(study, series), instance, id(event.assoc), expected)
        except OSError as error:
            log.error("node: an instance cannot be kept (%s)", error)
            return _status(_NO_ROOM, "no room")
        return _SUCCESS

    def _watch(self) -> None:
        pause = min(_LOOK, max(0.05, self._settings.quiet / 4))
        while not self._is_over.wait(pause):
            try:
                for key in self._inbox.uncounted():
                    self._inbox.note_count(key, self._count(key))
                released = self._inbox.released()
                if released:
                    self._jobs.sweep()
                for series in released:
                    self._release(series)
            except (QueueFullError, ClosingError):
                pass  # the series stay where they are until there is room
            except Exception:
                log.exception("node: series cannot be made jobs")

    def _count(self, key: SeriesKey) -> int | None:
        """How many instances of a series the archive has; None where it does not say."""
        if self._settings.archive is None:
            return None
        try:
            with task_failures("the archive"):
                pacs = connect(self._settings.archive, self._caller)
                records = pacs.find_series({"StudyInstanceUID": key.study, "SeriesInstanceUID": key.series})
                counts = [
                    each.count or len(pacs.find_instances(each))
                    for each in records
                    if (each.study, each.series) == (key.study, key.series)
                ]
        except VoxelryError as error:
            log.warning("node: the archive does not count a series (%s)", type(error).__name__)
            return None
        return max(counts, default=None)

    def _release(self, series: ReleasedSeries) -> None:
        """Make a job of a series, or report why there is none."""
        if series.token not in self._tokens:
            route = self._settings.route_of(_header(series.files[0])) if series.files else None
            if route is not None:
                self._add_job(series, route)
            else:
                log.error("node: a series that no route fits any more was dropped")
        self._inbox.drop(series.token)

    def _add_job(self, series: ReleasedSeries, route: NodeRoute) -> None:
        folder = self._jobs.incoming()
        names = {file.name for file in series.files}
        with zipfile.ZipFile(folder / SCAN, "x", zipfile.ZIP_STORED) as archive:
            for file in series.files:
                archive.write(file, file.name)
            self._add_earlier(series.key, archive, names)
            count = len(archive.namelist())
        returned = ResultReturn(route.to, route.formats, series.token, series.key.folder)
        error = ""
        if series.expected is not None and count < series.expected:
            error = f"{count} of {series.expected} instances of the series came"
        details = {RETURNED: asdict(returned)}
        client = f"node {route.to.rpartition('@')[2]}"
        state = self._jobs.add(folder, route.model, client, SegmentParameters(), route.series, details, error)
        self._tokens.add(series.token)
        self._last_job[series.key.folder] = state.id
        log.info("node: job %s for model %s, %d instances%s", state.id, route.model, count, f": {error}" if error else "")

    def _add_earlier(self, key: SeriesKey, archive: zipfile.ZipFile, names: set[str]) -> None:
        """Of a series that a job has segmented already, add what came then and did not come again: late slices join it."""
        id = self._last_job.get(key.folder)
        scan = None if id is None else self._jobs.folder(id) / SCAN
        if scan is None or not scan.is_file():
            return
        with zipfile.ZipFile(scan) as earlier:
            for name in earlier.namelist():
                if name not in names:
                    archive.writestr(name, earlier.read(name))


def _header(file: Path) -> Dataset:
    """The elements of a file by which it is checked and sent on its way."""
    with quiet_pydicom():
        return dcmread(file, specific_tags=list(_KEYWORDS), stop_before_pixels=True)


def _status(code: int, comment: str) -> Dataset:
    status = Dataset()
    status.Status, status.ErrorComment = code, comment
    return status
