"""DimsePacs: an archive that speaks DIMSE (C-ECHO, C-FIND, C-GET, C-MOVE, C-STORE), through pynetdicom.

Instances go from file to file piece by piece: none is held in memory as a whole.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from voxelry.base.extras import extra
from voxelry.errors import PacsError
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, short_message, text_of
from voxelry.pacs.pacs_address import DimseAddress, PacsCaller
from voxelry.pacs.pacs_records import SERIES_KEYS, STUDY_KEYS, Outcome, SentInstance, SeriesRecord, series_record
from voxelry.pacs.storage_contexts import MOST_CONTEXTS, context_of, getting_contexts, is_convertible, sending_contexts

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
VERIFICATION = "1.2.840.10008.1.1"
_SECONDS = 60
"""Without an answer, after which an archive is given up; C-GET and C-MOVE answer as they go on."""
_NO_ANSWER = "the archive did not answer, or hung up"
"""Why an instance is not stored; pynetdicom ends the association then, and says so only a moment later."""
_PENDING = (0xFF00, 0xFF01)
_SUCCESS = 0x0000
_REMEDY = "Check AE titles, address and port, and that the archive knows this caller."


def configured_pynetdicom() -> Any:
    """Pynetdicom, set to read and write instances piece by piece.

    Raises:
        MissingExtraError: the extra ``dicom`` is not installed.
    """
    module = extra("pynetdicom", "DIMSE")
    config = extra("pynetdicom._config", "DIMSE")
    config.STORE_RECV_CHUNKED_DATASET = config.STORE_SEND_CHUNKED_DATASET = True  # type: ignore[attr-defined]
    config.LOG_HANDLER_LEVEL = "none"  # type: ignore[attr-defined]
    logging.getLogger(module.__name__).setLevel(logging.CRITICAL)  # it logs what is asked for, names too; errors are raised here
    return module


class DimsePacs:
    """An archive that speaks DIMSE; see `pacs_records.Pacs`.

    Args:
        address: of the archive.
        caller: who asks.

    Raises:
        MissingExtraError: the extra ``dicom`` is not installed.
        UsageError: a PEM file cannot be used.
    """

    def __init__(self, address: DimseAddress, caller: PacsCaller) -> None:
        self._net = configured_pynetdicom()
        self._address, self._caller = address, caller
        self._tls = (caller.tls(), address.host) if address.is_encrypted else None

    def echo(self) -> None:
        """C-ECHO.

        Raises:
            PacsError: it does not answer.
        """
        with self._association([context_of(VERIFICATION, [_IMPLICIT])]) as association:
            self._check(association.send_c_echo(), "does not answer C-ECHO")

    def find_series(self, keys: Mapping[str, str]) -> list[SeriesRecord]:
        """C-FIND: studies, then the series of each."""
        records = []
        with self._association([context_of(FIND, _PLAIN)]) as association:
            for study in self._find(association, "STUDY", _with_keys(STUDY_KEYS, keys)):
                wanted = _with_keys((*SERIES_KEYS, "NumberOfSeriesRelatedInstances"), keys)
                wanted.StudyInstanceUID = text_of(study, "StudyInstanceUID")
                records += [series_record(study, series) for series in self._find(association, "SERIES", wanted)]
        return records

    def find_instances(self, record: SeriesRecord) -> dict[str, str]:
        """C-FIND: the instances of a series."""
        wanted = _with_keys(("SOPInstanceUID", "SOPClassUID"), {})
        wanted.StudyInstanceUID, wanted.SeriesInstanceUID = record.study, record.series
        with self._association([context_of(FIND, _PLAIN)]) as association:
            rows = self._find(association, "IMAGE", wanted)
        return {text_of(row, "SOPInstanceUID"): text_of(row, "SOPClassUID") for row in rows}

    def _find(self, association: Any, level: str, wanted: Dataset) -> list[Dataset]:
        wanted.QueryRetrieveLevel = level
        rows = []
        for status, row in association.send_c_find(wanted, FIND):
            if status.get("Status") in _PENDING and row is not None:
                rows.append(row)
            elif status.get("Status") not in _PENDING:
                self._check(status, "refuses the query")
        return rows

    def retrieve(self, record: SeriesRecord, classes: Sequence[str], folder: Path) -> None:
        """C-GET, or C-MOVE to a port of ours where the caller has one."""
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "SERIES"
        wanted.StudyInstanceUID, wanted.SeriesInstanceUID = record.study, record.series
        numbers = count()

        def take(event: Any) -> int:
            shutil.move(event.dataset_path, folder / f"{next(numbers):06d}.dcm")
            return _SUCCESS

        handlers = [(self._net.evt.EVT_C_STORE, take)]
        known = sorted({each for each in classes if each})
        if self._caller.move_port is None:
            self._get(wanted, known, handlers)
        else:
            self._move(wanted, known, handlers)

    def _get(self, wanted: Dataset, classes: Sequence[str], handlers: list[Any]) -> None:
        contexts = getting_contexts(classes)
        roles = [self._net.build_role(name, scp_role=True) for name in dict.fromkeys(each.abstract_syntax for each in contexts)]
        offered = [context_of(GET, _PLAIN), *contexts]
        with self._association(offered, ext_neg=roles, evt_handlers=handlers) as association:
            self._follow(association.send_c_get(wanted, GET), "C-GET")

    def _move(self, wanted: Dataset, classes: Sequence[str], handlers: list[Any]) -> None:
        receiver = self._net.AE(self._caller.ae_title)
        receiver.require_called_aet = True
        receiver.supported_contexts = getting_contexts(classes)
        context = None
        if self._address.is_encrypted:
            context = self._caller.receiving_tls()
        server = receiver.start_server(("", self._caller.move_port), block=False, ssl_context=context, evt_handlers=handlers)
        try:
            with self._association([context_of(MOVE, _PLAIN)]) as association:
                self._follow(association.send_c_move(wanted, self._caller.ae_title, MOVE), "C-MOVE")
        finally:
            server.shutdown()

    def _follow(self, statuses: Iterator[tuple[Dataset, Any]], what: str) -> None:
        """Wait until an archive has sent what it was asked for; what it says of failures is said."""
        status = Dataset()
        for status, _ in statuses:
            if status.get("Status") not in _PENDING:
                break
        failed = status.get("NumberOfFailedSuboperations") or 0
        other = "--move-port retrieves by C-MOVE." if what == "C-GET" else "Without --move-port C-GET is used."
        self._check(status, f"does not complete {what} ({failed} instances failed)", other)

    def store(self, files: Sequence[Path]) -> Iterator[SentInstance]:
        """C-STORE, an instance after the other; files are grouped so that an association's contexts suffice."""
        for group in _groups(files):
            yield from self._store_group(group)

    def _store_group(self, group: Sequence[_Outgoing]) -> Iterator[SentInstance]:
        pairs = list(dict.fromkeys((each.sop_class, each.syntax) for each in group if not each.problem))
        if not pairs:
            yield from (_refused(each, each.problem) for each in group)
            return
        left = list(group)
        try:
            with self._association(sending_contexts(pairs)) as association:
                while left:
                    each = left[0]
                    sent = _refused(each, each.problem) if each.problem else self._store(association, each)
                    left.pop(0)
                    yield sent
                    if left and (sent.reason == _NO_ANSWER or not association.is_established):
                        raise PacsError(f"{self._address} ended the connection", remedy=_REMEDY)
        except PacsError as error:
            if len(left) == len(group):
                raise
            yield from (_refused(each, f"not sent: {error}") for each in left)

    def _store(self, association: Any, each: _Outgoing) -> SentInstance:
        accepted = {
            str(context.transfer_syntax[0])
            for context in association.accepted_contexts
            if context.abstract_syntax == each.sop_class
        }
        if not accepted:
            return _refused(each, f"the archive takes no instances of class {each.sop_class}")
        try:
            with quiet_pydicom():
                if each.syntax in accepted:
                    status = association.send_c_store(each.path)
                elif is_convertible(each.syntax):
                    status = association.send_c_store(dcmread(each.path))
                else:
                    return _refused(each, f"the archive takes class {each.sop_class} not in transfer syntax {each.syntax}")
        except (RuntimeError, *PARSE_ERRORS) as error:
            return _refused(each, short_message(error))
        return SentInstance(each.path, each.uid, *outcome_of_status(status))

    @contextmanager
    def _association(self, contexts: Sequence[Any], **options: Any) -> Iterator[Any]:
        """An association for as long as the block lasts.

        Raises:
            PacsError: the archive is not there, or refuses it.
        """
        entity = self._net.AE(self._caller.ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = _SECONDS
        host, port = self._address.host, self._address.port
        title = self._address.ae_title
        association = entity.associate(host, port, list(contexts), title, tls_args=self._tls, **options)
        if not association.is_established:
            what = "refuses the connection" if association.is_rejected else "cannot be reached"
            if association.rejected_contexts and not association.accepted_contexts:
                what = "offers no service of this kind"
            raise PacsError(f"{self._address} {what} (called by AE title {self._caller.ae_title})", remedy=_REMEDY)
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def _check(self, status: Dataset, what: str, remedy: str = _REMEDY) -> None:
        code = status.get("Status")
        if code == _SUCCESS:
            return
        comment = text_of(status, "ErrorComment")
        said = "no answer" if code is None else f"status 0x{code:04X}{f', {comment}' if comment else ''}"
        raise PacsError(f"{self._address} {what}: {said}", remedy=remedy)


_IMPLICIT = "1.2.840.10008.1.2"
_PLAIN = ("1.2.840.10008.1.2.1", _IMPLICIT)


class _Outgoing:
    """A file with what must be agreed on before it is sent, or the problem it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sop_class = self.uid = self.syntax = self.problem = ""
        try:
            with quiet_pydicom():
                meta = dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).file_meta
        except PARSE_ERRORS as error:
            self.problem = f"cannot be read as DICOM ({short_message(error)})"
            return
        self.sop_class = text_of(meta, "MediaStorageSOPClassUID")
        self.uid = text_of(meta, "MediaStorageSOPInstanceUID")
        self.syntax = text_of(meta, "TransferSyntaxUID")
        if not (self.sop_class and self.uid and self.syntax):
            self.problem = "has no file meta information that names class, instance and transfer syntax"


def _refused(each: _Outgoing, reason: str) -> SentInstance:
    return SentInstance(each.path, each.uid, "refused", reason)


def _groups(files: Sequence[Path]) -> Iterator[list[_Outgoing]]:
    """Files one after the other, cut where their kinds would need more contexts than an association has."""
    group: list[_Outgoing] = []
    kinds: set[tuple[str, str]] = set()
    for file in files:
        each = _Outgoing(file)
        kinds.add((each.sop_class, each.syntax))
        if len(kinds) > MOST_CONTEXTS // 2:
            yield group
            group, kinds = [], {(each.sop_class, each.syntax)}
        group.append(each)
    if group:
        yield group


def _with_keys(names: Sequence[str], keys: Mapping[str, str]) -> Dataset:
    """A query: keys with their values, the others asked for."""
    wanted = Dataset()
    for name in names:
        setattr(wanted, name, keys.get(name) or None)
    return wanted


def outcome_of_status(status: Dataset) -> tuple[Outcome, str]:
    """What a status of C-STORE says: stored, stored with a warning, or refused.

    Args:
        status: the answer; empty where none came.
    """
    from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

    code = status.get("Status")
    if code is None:
        return "refused", _NO_ANSWER
    if code == _SUCCESS:
        return "stored", ""
    category, meaning = STORAGE_SERVICE_CLASS_STATUS.get(code, ("Failure", "unknown status"))
    comment = text_of(status, "ErrorComment")
    reason = f"status 0x{code:04X}, {meaning}{f': {comment}' if comment else ''}"
    return ("warned" if category == "Warning" else "refused"), reason
