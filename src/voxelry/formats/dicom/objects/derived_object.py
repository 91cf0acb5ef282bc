"""The common part of every DICOM object derived from a scan: its patient and study, fresh UIDs, our equipment."""

from __future__ import annotations

import os
import warnings
from copy import deepcopy
from datetime import datetime
from io import BytesIO
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from voxelry.base.version import __version__
from voxelry.errors import ExportError
from voxelry.formats.dicom.elements import number_of

_COPIED = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)  # fmt: skip
_LONGEST_LO = 64
_LARGEST_IS = 2**31 - 1
EQUIPMENT = {
    "manufacturer": "voxelry",
    "manufacturer_model_name": "voxelry",
    "software_versions": __version__,
    "device_serial_number": "none",
}
"""The equipment that wrote an object, as highdicom's arguments."""


def derived_object(header: Dataset, sop_class: str, modality: str, *, series_description: str, series_offset: int) -> Dataset:
    """A data set with patient, study, series, equipment and SOP common modules, in a series of its own.

    Args:
        header: the first instance of the scan, as `source_series` completes it.
        sop_class: UID of the SOP class.
        modality: DICOM's term.
        series_description: the name that viewers list the series by.
        series_offset: added to the scan's SeriesNumber.

    Returns:
        A data set to be completed; texts are UTF-8.
    """
    derived = Dataset()
    derived.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _COPIED:
        if keyword in header:
            derived[keyword] = header[keyword]
    if "FrameOfReferenceUID" in derived and "PositionReferenceIndicator" not in derived:
        derived.PositionReferenceIndicator = None
    now = datetime.now()
    derived.SOPClassUID, derived.SOPInstanceUID, derived.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
    derived.Modality, derived.SeriesDescription, derived.InstanceNumber = modality, series_description, 1
    derived.SeriesNumber = series_number(header, series_offset)
    derived.InstanceCreationDate = derived.SeriesDate = derived.ContentDate = now.strftime("%Y%m%d")
    derived.InstanceCreationTime = derived.SeriesTime = derived.ContentTime = now.strftime("%H%M%S")
    derived.Manufacturer, derived.ManufacturerModelName = EQUIPMENT["manufacturer"], EQUIPMENT["manufacturer_model_name"]
    derived.DeviceSerialNumber, derived.SoftwareVersions = EQUIPMENT["device_serial_number"], EQUIPMENT["software_versions"]
    return derived


def series_number(header: Dataset, offset: int) -> int:
    """The scan's SeriesNumber plus an offset; the offset alone where it is no number, or DICOM cannot hold the sum."""
    number = int(number_of(header, "SeriesNumber") or 0) + offset
    return number if 0 < number <= _LARGEST_IS else offset


def sibling(first: Dataset, number: int) -> Dataset:
    """A copy of a data set as another instance of its series."""
    copy = deepcopy(first)
    copy.SOPInstanceUID, copy.InstanceNumber = generate_uid(), number
    return copy


def save_object(derived: Dataset, path: Path, *, transfer_syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a data set as a DICOM file.

    Raises:
        ExportError: an attribute copied from the scan cannot be written.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = derived.SOPClassUID, derived.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax
    derived.file_meta = meta
    content = BytesIO()
    try:
        with warnings.catch_warnings():
            # Copied patient and study attributes may break their rules; the warnings would print their values.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
            derived.save_as(content, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, OSError) as error:  # OSError: pydicom, on a value of the wrong type
        raise ExportError(
            f"{path.name}: a header of the source series cannot be written again ({type(error).__name__} in pydicom)",
            remedy="Repair the series, or write NIfTI.",
        ) from None  # the cause would show the value
    path.write_bytes(content.getbuffer())


def checked_text(value: str, path: str | os.PathLike[str]) -> str:
    """A text, if DICOM can hold it unchanged.

    Raises:
        ExportError: empty, beyond 64 characters, or with a backslash.
    """
    if not 0 < len(value) <= _LONGEST_LO or "\\" in value:
        raise ExportError(f"{path}: {value!r} cannot be a DICOM text", remedy="Use 1 to 64 characters, without a backslash.")
    return value
