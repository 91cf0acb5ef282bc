"""DicomWebPacs: an archive's DICOMweb services (QIDO-RS, WADO-RS, STOW-RS), through dicomweb-client.

Redirections are refused: an answer comes from the address that was named, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from voxelry.base.extras import extra
from voxelry.errors import PacsError
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, short_message, text_of
from voxelry.pacs.pacs_address import PacsCaller, WebAddress
from voxelry.pacs.pacs_records import SERIES_KEYS, STUDY_KEYS, Outcome, SentInstance, SeriesRecord, series_record

_TIMEOUT = (10.0, 120.0)
"""Seconds to connect, and between bytes of an answer."""
_PAGE = 500
"""Results of a query that are asked for at once."""
_AS_STORED = (("application/dicom", "*"),)
_NUMBER = "NumberOfSeriesRelatedInstances"
_DENIED = (401, 403)
_CHUNK = 1 << 20


class DicomWebPacs:
    """An archive's DICOMweb services; see `pacs_records.Pacs`.

    Args:
        address: of the services.
        caller: who asks.

    Raises:
        MissingExtraError: the extra ``dicom`` is not installed.
        UsageError: a PEM file cannot be used.
    """

    def __init__(self, address: WebAddress, caller: PacsCaller) -> None:
        extra("dicomweb_client", "DICOMweb")
        import requests
        from dicomweb_client.api import DICOMwebClient

        session = requests.Session()
        session.max_redirects = 0
        if caller.token:
            session.headers["Authorization"] = f"Bearer {caller.token}"
        elif address.user:
            session.auth = (address.user, address.password)
        if caller.certificate is not None or caller.authority is not None:
            caller.tls()  # says which file cannot be used
        if caller.authority is not None:
            session.verify = str(caller.authority)
        if caller.certificate is not None:
            own = str(caller.certificate)
            session.cert = own if caller.key is None else (own, str(caller.key))
        self._address, self._connection_errors = address, (requests.RequestException,)
        self._client = DICOMwebClient(address.url, session=session, timeout=_TIMEOUT, chunk_size=_CHUNK, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)

    def find_series(self, keys: Mapping[str, str]) -> list[SeriesRecord]:
        """QIDO-RS: studies, then the series of each."""
        records = []
        of_study = {key: keys[key] for key in STUDY_KEYS if key in keys}
        of_series = {key: keys[key] for key in SERIES_KEYS if key in keys}
        for study in self._query(self._client.search_for_studies, "StudyInstanceUID", of_study, STUDY_KEYS):
            uid = text_of(study, "StudyInstanceUID")
            search = self._client.search_for_series
            rows = self._query(search, "SeriesInstanceUID", of_series, (*SERIES_KEYS, _NUMBER), uid)
            records += [series_record(study, series) for series in rows]
        return records

    def find_instances(self, record: SeriesRecord) -> dict[str, str]:
        """QIDO-RS: the instances of a series."""
        search = self._client.search_for_instances
        rows = self._query(search, "SOPInstanceUID", {}, ("SOPClassUID",), record.study, record.series)
        return {text_of(row, "SOPInstanceUID"): text_of(row, "SOPClassUID") for row in rows}

    def _query(self, search: Any, uid: str, keys: Mapping[str, str], fields: Sequence[str], *within: str) -> Iterator[Dataset]:
        """All results of a search, page by page; one that ignores the offset ends where a page has nothing new."""
        known: set[str] = set()
        while True:
            with self._failures("cannot be queried"):
                page = search(*within, search_filters=dict(keys), fields=list(fields), limit=_PAGE, offset=len(known))
                rows = [Dataset.from_json(row) for row in page]
            new = [row for row in rows if text_of(row, uid) not in known]
            known |= {text_of(row, uid) for row in new}
            yield from new
            if not new:
                return

    def retrieve(self, record: SeriesRecord, _: Sequence[str], folder: Path) -> None:
        """WADO-RS: the series in the encodings that it is stored in, one instance in memory at a time."""
        with self._failures("cannot be retrieved from"), quiet_pydicom():
            instances = self._client.iter_series(record.study, record.series, media_types=_AS_STORED)
            for number, data in enumerate(instances):
                data.save_as(folder / f"{number:06d}.dcm", enforce_file_format=True)

    def store(self, files: Sequence[Path]) -> Iterator[SentInstance]:
        """STOW-RS: an instance a request, so that each has a status of its own, and one is in memory at a time."""
        lost = ""
        for file in files:
            if lost:
                yield SentInstance(file, "", "refused", f"not sent: {lost}")
                continue
            uid = ""
            try:
                with quiet_pydicom():
                    data = dcmread(file)
                    uid = text_of(data, "SOPInstanceUID")
                    outcome, reason = self._store(data, uid)
            except self._connection_errors as error:
                outcome, reason = "refused", short_message(error)
                lost = reason
            except PARSE_ERRORS as error:
                outcome, reason = "refused", f"cannot be read or encoded as DICOM ({short_message(error)})"
            yield SentInstance(file, uid, outcome, reason)

    def _store(self, data: Dataset, uid: str) -> tuple[Outcome, str]:
        from requests import HTTPError

        try:
            told = self._client.store_instances([data])
        except HTTPError as error:
            if error.response.status_code in _DENIED:
                raise self._denied(error) from None
            return "refused", _reason_of(error.response, uid)
        return outcome_of(told, uid)

    def _denied(self, error: Any) -> PacsError:
        return PacsError(
            f"{self._address}: HTTP status {error.response.status_code}",
            remedy="Give a token or a user that may do this (VOXELRY_PACS_TOKEN, https://USER:PASSWORD@...).",
        )

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """Within the block, whatever goes wrong on the way to the archive is a PacsError."""
        from requests import HTTPError, TooManyRedirects

        try:
            yield
        except HTTPError as error:
            if error.response.status_code in _DENIED:
                raise self._denied(error) from None
            raise PacsError(
                f"{self._address} {what}: HTTP status {error.response.status_code}", remedy="Check the address and the UIDs."
            ) from None
        except TooManyRedirects:
            raise PacsError(f"{self._address} {what}: it redirects elsewhere", remedy="Name the final address.") from None
        except self._connection_errors as error:
            raise PacsError(
                f"{self._address} {what}: {short_message(error)}", remedy="Check the address and the connection."
            ) from None
        except PARSE_ERRORS as error:
            if isinstance(error, OSError) and error.filename:
                raise  # of this machine's disk
            raise PacsError(
                f"{self._address} {what}: its answer is not DICOM ({short_message(error)})",
                remedy="Check that it is the base address of DICOMweb services.",
            ) from error


def outcome_of(told: Dataset, uid: str) -> tuple[Outcome, str]:
    """What an answer to STOW-RS says of an instance: only what it lists as stored is.

    Args:
        told: the answer.
        uid: SOPInstanceUID.

    Returns:
        The outcome, and the reason of a warning or refusal.
    """
    for item in told.get("FailedSOPSequence", None) or []:
        if text_of(item, "ReferencedSOPInstanceUID") in (uid, ""):
            return "refused", f"reason {_code(item, 'FailureReason')}"
    for item in told.get("ReferencedSOPSequence", None) or []:
        if text_of(item, "ReferencedSOPInstanceUID") == uid:
            code = _code(item, "WarningReason")
            return ("warned", f"warning {code}") if code else ("stored", "")
    return "refused", "the archive does not say that it stored it"


def _code(item: Dataset, keyword: str) -> str:
    value = item.get(keyword, None)
    return "" if value in (None, "") else f"0x{int(value):04X}"


def _reason_of(response: Any, uid: str) -> str:
    """The reason in a refusing answer, or its status."""
    status = f"HTTP status {response.status_code}"
    try:
        outcome, reason = outcome_of(Dataset.from_json(response.json()), uid)
    except (ValueError, *PARSE_ERRORS):
        return status
    return f"{status}, {reason}" if outcome == "refused" and reason.startswith("reason") else status
