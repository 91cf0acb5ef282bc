"""What an archive says of its series, and of each instance that it was sent; and what every kind of connection to one can do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from voxelry.errors import PacsError
from voxelry.formats.dicom.elements import integer_of, text_of

UID = re.compile(r"[0-9.]{1,64}")
"""A UID that is safe as a file name; whether its parts follow the standard is not asked."""

STUDY_KEYS = ("StudyInstanceUID", "PatientID", "AccessionNumber", "StudyDate", "ModalitiesInStudy")
"""Keys that choose studies."""
SERIES_KEYS = ("SeriesInstanceUID", "Modality", "SeriesDescription", "BodyPartExamined")
"""Keys that choose series of a study."""

Outcome = Literal["stored", "warned", "refused"]


@dataclass(frozen=True)
class SeriesRecord:
    """A series as an archive announces it.

    Attributes:
        study, series: the UIDs of study and series.
        patient: id of the patient.
        accession: accession number.
        date: of the study, as DICOM writes it.
        modality, description, body_part: of the series.
        count: number of its instances; None where the archive does not say.
    """

    study: str
    series: str
    patient: str = ""
    accession: str = ""
    date: str = ""
    modality: str = ""
    description: str = ""
    body_part: str = ""
    count: int | None = None


@dataclass(frozen=True)
class SentInstance:
    """What became of an instance that was sent.

    Attributes:
        path: its file.
        uid: its SOPInstanceUID; empty where the file has none.
        outcome: ``stored``; ``warned``, which is stored with a change or a remark; or ``refused``.
        reason: why it was warned of or refused.
    """

    path: Path
    uid: str
    outcome: Outcome
    reason: str = ""


class Pacs(Protocol):
    """A connection to an archive."""

    def find_series(self, keys: Mapping[str, str]) -> list[SeriesRecord]:
        """The series that fit all keys; keys as in `STUDY_KEYS` and `SERIES_KEYS`, with DICOM's wildcards and ranges.

        Raises:
            PacsError: the archive cannot be reached, refuses, or answers wrongly.
        """

    def find_instances(self, record: SeriesRecord) -> dict[str, str]:
        """SOPInstanceUID -> SOPClassUID of every instance of a series.

        Raises:
            PacsError: as `find_series`.
        """

    def retrieve(self, record: SeriesRecord, classes: Sequence[str], folder: Path, /) -> None:
        """Write the instances of a series into a folder, as files of any name, unchecked.

        Args:
            record: the series.
            classes: SOP classes of its instances.
            folder: an empty folder.

        Raises:
            PacsError: as `find_series`.
        """

    def store(self, files: Sequence[Path]) -> Iterator[SentInstance]:
        """Send files one after the other, and say what became of each.

        Raises:
            PacsError: nothing could be sent at all.
        """


def series_record(study: Any, series: Any) -> SeriesRecord:
    """A series from what an archive answered about it and its study.

    Args:
        study: data set of the answer about the study.
        series: data set of the answer about the series.

    Raises:
        PacsError: it has no UID.
    """
    study_uid = text_of(series, "StudyInstanceUID") or text_of(study, "StudyInstanceUID")
    series_uid = text_of(series, "SeriesInstanceUID")
    for uid in (study_uid, series_uid):
        if not UID.fullmatch(uid):
            raise PacsError(f"the archive names a series by {uid!r}, which is no UID", remedy="Ask who runs the archive.")
    return SeriesRecord(
        study_uid,
        series_uid,
        text_of(study, "PatientID"),
        text_of(study, "AccessionNumber"),
        text_of(study, "StudyDate"),
        text_of(series, "Modality"),
        text_of(series, "SeriesDescription"),
        text_of(series, "BodyPartExamined"),
        integer_of(series, "NumberOfSeriesRelatedInstances"),
    )
