"""The header of one DICOM file: what sorting, checking and decoding need, and nothing that names a patient.

Only the listed elements are parsed, up to the pixel data, so that 300 files take a fraction of a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID

from voxelry.errors import CorruptFileError
from voxelry.read.detect import files_below, is_dicom

XRAY_MODALITIES = frozenset({"CR", "DX", "MG", "RF", "IO", "PX"})
"""Modalities whose single frames are projections: computed and digital radiography, mammography, fluoroscopy, dental."""

DERIVED_MODALITIES = frozenset({"SEG", "RTDOSE", "PR"})
"""Objects that may hold pixels, but describe another image: segmentations, doses, presentation states."""

_MODALITY_OF_CLASS = {
    "CT Image Storage": "CT",
    "MR Image Storage": "MR",
    "Positron Emission Tomography Image Storage": "PT",
    "Computed Radiography Image Storage": "CR",
    "Digital X-Ray Image Storage - For Presentation": "DX",
    "Digital X-Ray Image Storage - For Processing": "DX",
    "Digital Mammography X-Ray Image Storage - For Presentation": "MG",
    "Digital Mammography X-Ray Image Storage - For Processing": "MG",
}
PARSE_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
)
"""What pydicom and its decoders raise on damaged files; NotImplementedError is a RuntimeError."""

_LONGEST_REASON = 200
_TAGS = (
    "SOPClassUID SOPInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality SeriesDescription SeriesNumber ImageType "
    "InstanceNumber EchoNumbers AcquisitionNumber TemporalPositionIdentifier TriggerTime ContentTime "
    "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SpacingBetweenSlices "
    "ImagerPixelSpacing EstimatedRadiographicMagnificationFactor PixelSpacingCalibrationType PresentationLUTShape "
    "PixelIntensityRelationshipSign Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation "
    "BitsAllocated BitsStored PixelRepresentation RescaleSlope RescaleIntercept ModalityLUTSequence"
).split()


@dataclass(frozen=True)
class DicomHeader:
    """One file's header. Numbers that are missing or unreadable are None; lengths are in mm, LPS+.

    Attributes:
        path: the file.
        size: bytes.
        sop_class: its name, as ``CT Image Storage``.
        image_type: ``ImageType``'s values.
        facts: attributes that tell apart images at one place: echo, acquisition, time point, trigger time.
        position, orientation: of the centre of the first pixel; direction of a row (increasing column), then of a column.
        pixel_spacing: between rows, between columns.
        frames, samples: NumberOfFrames and SamplesPerPixel, 1 where they are missing.
        slope, intercept: the modality rescale, 1 and 0 where there is none.
        has_lut: a modality look-up table takes the rescale's place.
        lut_shape: PresentationLUTShape.
        intensity_sign: PixelIntensityRelationshipSign; 1: low stored values mean little X-ray intensity.
    """

    path: Path
    size: int
    sop_class: str
    sop_instance: str
    series: str
    frame_of_reference: str
    modality: str
    description: str
    number: str
    image_type: tuple[str, ...]
    instance_number: str
    facts: tuple[tuple[str, str], ...]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    slice_thickness: float | None
    spacing_between: float | None
    imager_spacing: tuple[float, ...] | None
    magnification: float | None
    calibration: str
    lut_shape: str
    intensity_sign: int | None
    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    signed: bool
    slope: float
    intercept: float
    has_lut: bool
    syntax: str

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    @property
    def is_image(self) -> bool:
        """It holds grey or colour pixels: neither a segmentation, nor a structure set, a report, a directory..."""
        return self.rows > 0 and self.columns > 0 and self.modality not in DERIVED_MODALITIES

    @property
    def is_multiframe(self) -> bool:
        """Several frames, or a class that keeps positions per frame."""
        return self.frames > 1 or "Enhanced" in self.sop_class

    @property
    def is_projection(self) -> bool:
        """A radiograph, which has no place in the patient."""
        return self.modality in XRAY_MODALITIES

    @property
    def is_localizer(self) -> bool:
        """A scout view."""
        return "LOCALIZER" in self.image_type


@dataclass(frozen=True)
class FolderScan:
    """What lies in a folder.

    Attributes:
        images: headers of the files with pixels.
        others: headers of other DICOM objects (segmentations, structure sets, reports).
        strangers: files that are not DICOM.
    """

    images: tuple[DicomHeader, ...]
    others: tuple[DicomHeader, ...]
    strangers: tuple[Path, ...]


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's warnings about odd but readable values; what matters is checked here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
        yield


def scan_folder(folder: Path) -> FolderScan:
    """Read the header of every DICOM file at any depth of a folder.

    Raises:
        CorruptFileError: a DICOM file whose header breaks off.
    """
    images: list[DicomHeader] = []
    others: list[DicomHeader] = []
    strangers: list[Path] = []
    with quiet_pydicom():
        for file in files_below(folder):
            if not is_dicom(file):
                strangers.append(file)
                continue
            header = _read_header(file)
            (images if header.is_image else others).append(header)
    return FolderScan(tuple(images), tuple(others), tuple(strangers))


def read_dicom_header(path: Path) -> DicomHeader:
    """Read the header of one file.

    Raises:
        CorruptFileError: it breaks off, or is no DICOM after all.
    """
    with quiet_pydicom():
        return _read_header(path)


def _read_header(path: Path) -> DicomHeader:
    try:
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        header = _parse(path, data)
    except PARSE_ERRORS as error:
        raise CorruptFileError(
            f"{path}: the DICOM header cannot be read ({short(error)})", remedy="Export or copy the file again."
        ) from error
    if not header.sop_class or ("Image Storage" in header.sop_class and not (header.rows and header.columns)):
        raise CorruptFileError(
            f"{path}: the DICOM header breaks off: SOPClassUID or Rows and Columns are missing",
            remedy="Export or copy the file again.",
        )
    return header


def _parse(path: Path, data: Any) -> DicomHeader:
    sop_class = uid(_text(data, "SOPClassUID") or str(data.file_meta.get("MediaStorageSOPClassUID", ""))).name
    modality = _text(data, "Modality") or _MODALITY_OF_CLASS.get(sop_class, "")
    allocated = int(_number(data, "BitsAllocated") or 0)
    slope, intercept = _number(data, "RescaleSlope"), _number(data, "RescaleIntercept")
    facts = ("EchoNumbers", "AcquisitionNumber", "TemporalPositionIdentifier", "TriggerTime", "ContentTime")
    sign = _number(data, "PixelIntensityRelationshipSign")
    return DicomHeader(
        path=path,
        size=path.stat().st_size,
        sop_class=sop_class,
        sop_instance=_text(data, "SOPInstanceUID"),
        series=_text(data, "SeriesInstanceUID"),
        frame_of_reference=_text(data, "FrameOfReferenceUID"),
        modality=modality,
        description=_text(data, "SeriesDescription"),
        number=_text(data, "SeriesNumber"),
        image_type=tuple(part.strip().upper() for part in _text(data, "ImageType").split("\\")),
        instance_number=_text(data, "InstanceNumber"),
        facts=tuple((keyword, _text(data, keyword)) for keyword in facts),
        position=_numbers(data, "ImagePositionPatient", 3),
        orientation=_numbers(data, "ImageOrientationPatient", 6),
        pixel_spacing=_numbers(data, "PixelSpacing", 2),
        slice_thickness=_number(data, "SliceThickness"),
        spacing_between=_number(data, "SpacingBetweenSlices"),
        imager_spacing=_numbers(data, "ImagerPixelSpacing", 2),
        magnification=_number(data, "EstimatedRadiographicMagnificationFactor"),
        calibration=_text(data, "PixelSpacingCalibrationType"),
        lut_shape=_text(data, "PresentationLUTShape").upper(),
        intensity_sign=None if sign is None else int(sign),
        rows=int(_number(data, "Rows") or 0),
        columns=int(_number(data, "Columns") or 0),
        frames=int(_number(data, "NumberOfFrames") or 1),
        samples=int(_number(data, "SamplesPerPixel") or 1),
        photometric=_text(data, "PhotometricInterpretation").upper(),
        bits_allocated=allocated,
        bits_stored=int(_number(data, "BitsStored") or allocated),
        signed=_number(data, "PixelRepresentation") == 1,
        slope=1.0 if slope is None else slope,
        intercept=intercept or 0.0,
        has_lut="ModalityLUTSequence" in data,
        syntax=transfer_syntax(data),
    )


def uid(text: str) -> UID:
    """A UID, well-formed or not."""
    return UID(text, validation_mode=pydicom.config.IGNORE)


def short(error: Exception) -> str:
    """A decoder's message on one line, cut where it quotes the file at length."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


def transfer_syntax(data: Any) -> str:
    """The transfer syntax UID; where the file names none, the one it was understood by."""
    named = data.file_meta.get("TransferSyntaxUID")
    if named:
        return str(named)
    implicit, little = data.original_encoding
    if implicit:
        return str(pydicom.uid.ImplicitVRLittleEndian)
    return str(pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian)


def _text(data: Any, keyword: str) -> str:
    """The value as text, values of a list joined by a backslash; empty where it is missing or unreadable."""
    try:
        value = data.get(keyword)
    except PARSE_ERRORS:
        return ""
    if value is None:
        return ""
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        return "\\".join(str(part) for part in value)
    return str(value).strip()


def _numbers(data: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None where they are missing or unreadable."""
    try:
        values = tuple(float(part) for part in _text(data, keyword).split("\\"))
    except ValueError:
        return None
    finite = all(abs(value) < float("inf") for value in values)
    return values if len(values) == count and finite else None


def _number(data: Any, keyword: str) -> float | None:
    values = _numbers(data, keyword, 1)
    return None if values is None else values[0]
