"""StudyFacts: the patient and the date of a scan that was read from DICOM."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from pydicom import dcmread

from voxelry.core.volume import Source
from voxelry.errors import ReadError
from voxelry.formats.dicom.archive import contents
from voxelry.formats.dicom.deflated import open_inflated
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, text_of

_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate")


@dataclass(frozen=True)
class StudyFacts:
    """The patient and the date of a scan.

    Attributes:
        patient: PatientID with its issuer; identifies the patient, so show it to nobody. Empty where there is none.
        date: StudyDate, or else SeriesDate or AcquisitionDate; None where none can be read.
    """

    patient: str = ""
    date: date | None = None


def study_facts(source: Source) -> StudyFacts:
    """The facts in the first file of a scan; nothing is known of one that is no DICOM.

    Raises:
        ReadError: the file cannot be read any more.
    """
    if source.kind != "dicom" or not source.files:
        return StudyFacts()
    file, content = next(iter(contents(source.files[:1])))
    try:
        with quiet_pydicom(), open_inflated(Path(file), None if isinstance(content, str) else content) as stream:
            data = dcmread(stream, stop_before_pixels=True, specific_tags=["PatientID", "IssuerOfPatientID", *_DATES])
            patient = " of ".join(filter(None, (text_of(data, "PatientID"), text_of(data, "IssuerOfPatientID"))))
            days = [_date(text_of(data, name)) for name in _DATES]
    except PARSE_ERRORS as error:
        raise ReadError(f"{file}: its header cannot be read any more", remedy="Read the scan again.") from error
    return StudyFacts(patient, next(filter(None, days), None))


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text[:8], "%Y%m%d").date()
    except ValueError:
        return None
