"""Pseudonyms of patients in a listing; their names only on request."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import pydicom

from voxelry.errors import ReadError
from voxelry.formats.dicom.archive import open_archive
from voxelry.formats.dicom.elements import PARSE_ERRORS, text_of
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.file_content import HEAD_BYTES


@dataclass(frozen=True)
class Patient:
    """The patient of an image.

    Attributes:
        pseudonym: ``patient-1``...; empty where the file identifies no patient.
        name: name and ID, empty unless requested.
    """

    pseudonym: str = ""
    name: str = ""


class Pseudonyms:
    """Numbers the patients of a listing, in the order of their files.

    Args:
        headers: headers of all files listed.
        names: read names and IDs too.
    """

    def __init__(self, headers: Iterable[DicomHeader], *, names: bool) -> None:
        first: dict[str, DicomHeader] = {}
        for header in sorted(headers, key=lambda header: str(header.path)):
            if header.patient:
                first.setdefault(header.patient, header)
        self._patients = {
            key: Patient(f"patient-{number}", _name(header) if names else "")
            for number, (key, header) in enumerate(first.items(), start=1)
        }

    def of(self, header: DicomHeader) -> Patient:
        """The patient of a file."""
        return self._patients.get(header.patient, Patient())


def _name(header: DicomHeader) -> str:
    """The name and ID in a file, empty where it can no longer be read."""
    try:
        data = pydicom.dcmread(
            io.BytesIO(_head(header)), stop_before_pixels=True, specific_tags=["PatientName", "PatientID"], force=True
        )
    except (*PARSE_ERRORS, ReadError):
        return ""
    return " ".join(filter(None, (text_of(data, "PatientName"), f"({text_of(data, 'PatientID')})")))


def _head(header: DicomHeader) -> bytes:
    if header.archive is None:
        with header.path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    with open_archive(header.archive) as archive:
        for member in archive.members():
            if member.path == header.path:
                with archive.open(member) as stream:
                    return stream.read(HEAD_BYTES)
    return b""
