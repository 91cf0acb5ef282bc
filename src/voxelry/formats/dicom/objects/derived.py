"""What every DICOM object derived from a scan has: the scan's patient and study, fresh UIDs, and who made it."""

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
from voxelry.core.labels import Code
from voxelry.errors import ExportError
from voxelry.formats.dicom.objects.source_series import Reference, SourceSeries

_COPIED = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)  # fmt: skip
_LONGEST_LO = 64
_LARGEST_IS = 2**31 - 1
MAKER = {
    "manufacturer": "voxelry",
    "manufacturer_model_name": "voxelry",
    "software_versions": __version__,
    "device_serial_number": "none",
}
"""Who made an object, as highdicom takes it."""


def derived_object(header: Dataset, sop_class: str, modality: str, *, series_description: str, series_offset: int) -> Dataset:
    """A data set with patient, study, series, equipment and SOP common modules, in a series of its own.

    Args:
        header: the first instance of the scan, as `source_series` completes it.
        sop_class: UID of the SOP class.
        modality: DICOM's term.
        series_description: what viewers list the series as.
        series_offset: added to the scan's SeriesNumber.

    Returns:
        A data set to add to; texts are UTF-8.
    """
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _COPIED:
        if keyword in header:
            made[keyword] = header[keyword]
    if "FrameOfReferenceUID" in made and "PositionReferenceIndicator" not in made:
        made.PositionReferenceIndicator = None
    now = datetime.now()
    made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
    made.Modality, made.SeriesDescription, made.InstanceNumber = modality, series_description, 1
    made.SeriesNumber = series_number(header, series_offset)
    made.InstanceCreationDate = made.SeriesDate = made.ContentDate = now.strftime("%Y%m%d")
    made.InstanceCreationTime = made.SeriesTime = made.ContentTime = now.strftime("%H%M%S")
    made.Manufacturer, made.ManufacturerModelName = MAKER["manufacturer"], MAKER["manufacturer_model_name"]
    made.DeviceSerialNumber, made.SoftwareVersions = MAKER["device_serial_number"], MAKER["software_versions"]
    return made


def series_number(header: Dataset, offset: int) -> int:
    """The scan's SeriesNumber and an offset; the offset alone where the sum is none that DICOM holds."""
    number = int(header.get("SeriesNumber") or 0) + offset
    return number if 0 < number <= _LARGEST_IS else offset


def sibling(first: Dataset, number: int) -> Dataset:
    """A copy of a data set as another instance of its series."""
    made = deepcopy(first)
    made.SOPInstanceUID, made.InstanceNumber = generate_uid(), number
    return made


def save_object(made: Dataset, path: Path, *, transfer_syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a data set as a DICOM file.

    Raises:
        ExportError: an attribute copied from the scan cannot be written.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax
    made.file_meta = meta
    content = BytesIO()
    try:
        with warnings.catch_warnings():
            # Copied patient and study attributes may break their rules; the warnings would print their values.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
            made.save_as(content, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, OSError) as error:  # OSError: pydicom, on a value of the wrong type
        raise ExportError(
            f"{path.name}: a header of the source series cannot be written again ({type(error).__name__} in pydicom)",
            remedy="Repair the series, or write NIfTI.",
        ) from None  # the cause would show the value
    path.write_bytes(content.getbuffer())


def referring(found: Reference) -> Dataset:
    """An item that refers to an instance, or to one frame of it."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = found.sop_class, found.sop_instance
    if found.frame is not None:
        item.ReferencedFrameNumber = found.frame
    return item


def referenced_series(series: SourceSeries) -> Dataset:
    """The scan's series with every instance, as an item of the Common Instance Reference module (PS3.3 section C.12.2)."""
    item = Dataset()
    item.SeriesInstanceUID = series.headers[0].SeriesInstanceUID
    item.ReferencedInstanceSequence = [referring(one) for one in series.instances]
    return item


def code_item(code: Code) -> Dataset:
    """A code as an item of a code sequence (PS3.3 section 8.8); a value beyond 16 characters is a long one."""
    item = Dataset()
    if len(code.value) <= 16:
        item.CodeValue = code.value
    else:
        item.LongCodeValue = code.value
    item.CodingSchemeDesignator, item.CodeMeaning = code.scheme, text(code.meaning)
    return item


def text(value: str) -> str:
    """A text as a DICOM string can hold it: a backslash would part values."""
    return value.replace("\\", "/")


def checked_text(value: str, path: str | os.PathLike[str]) -> str:
    """A text that goes into DICOM as it is.

    Raises:
        ExportError: empty, beyond 64 characters, or with a backslash.
    """
    if not 0 < len(value) <= _LONGEST_LO or "\\" in value:
        raise ExportError(f"{path}: {value!r} cannot be a DICOM text", remedy="Use 1 to 64 characters, without a backslash.")
    return value
