"""The DICOM header of an image plane: the elements for sorting, checking and decoding it, and none that names a patient.

Only the elements in `WANTED` are parsed, up to the pixel data, so that 300 files take a fraction of a second.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom

from voxelry.core.volume import Window
from voxelry.formats.dicom.b_value import B_VALUE_TAGS, private_b_value
from voxelry.formats.dicom.elements import (
    integer_of,
    number_of,
    number_or_nan,
    numbers_of,
    text_of,
    transfer_syntax,
    uid,
)
from voxelry.formats.dicom.pet import PET_TAGS, PetFacts, pet_facts
from voxelry.formats.dicom.pixels.codestream import Codestream
from voxelry.formats.dicom.pixels.fragments import PixelElement
from voxelry.formats.dicom.voi import WINDOW_TAGS, windows_of
from voxelry.formats.table import dicom_object

XRAY_MODALITIES = frozenset({"CR", "DX", "MG", "RF", "XA", "IO", "PX"})
"""Modalities of projection X-ray: computed and digital radiography, mammography, fluoroscopy, angiography, dental."""

_FLUOROSCOPIC = frozenset({"XA", "RF"})
_FLUOROSCOPIC_CLASSES = ("Angiographic", "Radiofluoroscopic", "XA Image", "XRF Image")
"""Modalities and SOP classes of images of a beam, which show dense tissue dark unless they were inverted."""

DERIVED_MODALITIES = frozenset({"SEG", "RTDOSE", "PR"})
"""Modalities of objects that describe another image, with or without pixels: segmentations, doses, presentation states."""

_NEWER_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}
"""Names of SOP classes that pydicom does not know yet."""

_MODALITY_OF_CLASS = {
    "CT Image Storage": "CT",
    "MR Image Storage": "MR",
    "Positron Emission Tomography Image Storage": "PT",
    "Computed Radiography Image Storage": "CR",
    "Digital X-Ray Image Storage - For Presentation": "DX",
    "Digital X-Ray Image Storage - For Processing": "DX",
    "Digital Mammography X-Ray Image Storage - For Presentation": "MG",
    "Digital Mammography X-Ray Image Storage - For Processing": "MG",
    "X-Ray Angiographic Image Storage": "XA",
    "X-Ray Radiofluoroscopic Image Storage": "RF",
}

_LOCALIZERS = re.compile(
    r"(?<![a-z])(lo[ck]ali[sz](er|ator)|loc|(aa)?scout|topogramm?|surview|survey|scanogramm?|pilot|3[ -]?plane)(?![a-z])",
    re.IGNORECASE,
)
"""What vendors and technologists call scout views."""

_MOSAICS = frozenset({"MOSAIC", "VFRAME"})
"""Values of ImageType of mosaics."""

FACTS = (
    "EchoNumbers EchoTime DiffusionBValue DiffusionGradientOrientation TemporalPositionIdentifier "
    "NominalPercentageOfCardiacPhase InversionTime FlipAngle KVP ConvolutionKernel SliceThickness ImageType AcquisitionNumber "
    "StackID TriggerTime FrameReferenceTime AcquisitionTime ContentTime"
).split()
"""Attributes that distinguish images at the same position, the most specific first."""

_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
_TAGS = (
    "SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID FrameOfReferenceUID Modality SeriesDescription "
    "SeriesNumber InstanceNumber GantryDetectorTilt Units HighBit PixelPaddingValue PixelPaddingRangeLimit "
    "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SpacingBetweenSlices "
    "ImagerPixelSpacing EstimatedRadiographicMagnificationFactor PixelSpacingCalibrationType PresentationLUTShape "
    "PixelIntensityRelationship PixelIntensityRelationshipSign Rows Columns NumberOfFrames SamplesPerPixel "
    "PhotometricInterpretation BitsAllocated BitsStored PixelRepresentation RescaleSlope RescaleIntercept ModalityLUTSequence"
).split()
WANTED = [pydicom.tag.Tag(name) for name in (*_TAGS, *FACTS, *_PATIENT, *B_VALUE_TAGS, *WINDOW_TAGS, *PET_TAGS)]
"""The elements that `parse` reads."""


@dataclass(frozen=True)
class DicomHeader:
    """One image plane: a single-frame file, or one frame of a multi-frame or mosaic file.

    Numbers that are missing or unreadable are None; lengths are in mm, LPS+.

    Attributes:
        path: the file.
        size: bytes of the file.
        frame: the frame's number in its file, from 1.
        tile: for a mosaic tile: ``(row, column)`` of its first pixel in the stored image.
        sop_class: the SOP class by name, as ``CT Image Storage``.
        image_type: the values of ImageType.
        facts: name and value of each of `FACTS`, the value empty where the file does not state it.
        patient: a digest that is equal for the files of one patient and reveals nothing of the patient.
        position: position of the centre of the first pixel.
        orientation: direction of a row (increasing column), then of a column (increasing row).
        pixel_spacing: between rows, between columns.
        gantry_tilt: GantryDetectorTilt in degrees; vendors disagree on its sign.
        frames, samples: NumberOfFrames of the file and SamplesPerPixel, 1 where they are missing.
        padding: PixelPaddingValue and PixelPaddingRangeLimit, stored values of pixels outside the image; None each if unset.
        units: for PET: ``BQML``, ``CNTS``...
        archive: the zip archive that holds the file; `path` is then not on disk, see `archive.unpack_planes`.
        pixels: the location of the pixel data in the file; None where it is unknown, as in a deflated file.
        mosaic: for a mosaic tile: rows and columns of the stored image.
        windows: the VOI windows, for display.
        pet: for PET: the elements that SUV is computed from.
        slope, intercept: the modality rescale, 1 and 0 where it is missing; NaN where it is unreadable.
        has_lut: a modality look-up table replaces the rescale.
        lut_shape: PresentationLUTShape.
        intensity_sign: PixelIntensityRelationshipSign; 1: low stored values mean little X-ray intensity.
        intensity_relationship: PixelIntensityRelationship: ``LIN``, ``LOG``, ``DISP``.
        codestream: what the first frame's codestream states, where the file's first bytes hold that.

    Example:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> from voxelry.formats.dicom import read_planes
        >>> [header] = read_planes(folder / "IM0001.dcm")
        >>> header.modality, header.rows, header.columns
        ('CT', 12, 16)
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
    frame: int = 1
    tile: tuple[int, int] | None = None
    sop_class_uid: str = ""
    study: str = ""
    patient: str = field(default="", repr=False)
    gantry_tilt: float | None = None
    high_bit: int = 0
    intensity_relationship: str = ""
    codestream: Codestream | None = None
    padding: tuple[int | None, int | None] = (None, None)
    units: str = ""
    archive: Path | None = None
    pixels: PixelElement | None = None
    mosaic: tuple[int, int] | None = None
    windows: tuple[Window, ...] = ()
    pet: PetFacts | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    @property
    def stored_shape(self) -> tuple[int, int]:
        """Rows and columns of a frame as it is stored."""
        return self.mosaic or (self.rows, self.columns)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the file that are left for native pixels, from the start of the pixel data."""
        return self.size if self.pixels is None else max(0, min(self.pixels.length, self.size - self.pixels.offset))

    @property
    def is_image(self) -> bool:
        """It holds grey or colour pixels, and is no segmentation, structure set, report or DICOMDIR."""
        return self.rows > 0 and self.columns > 0 and self.modality not in DERIVED_MODALITIES

    @property
    def object_format(self) -> str:
        """The name of the format of an object that is read as labels, as ``dicom-seg``; empty for any other file."""
        row = dicom_object(self.sop_class_uid)
        return "" if row is None else row.name

    @property
    def is_multiframe(self) -> bool:
        """It has several frames, or an enhanced SOP class, which states positions per frame."""
        return self.frames > 1 or "Enhanced" in self.sop_class

    @property
    def is_mosaic(self) -> bool:
        """One image whose tiles are the slices of a volume, as Siemens (MOSAIC) and UIH (VFRAME) write it."""
        return self.frames == 1 and not _MOSAICS.isdisjoint(self.image_type)

    @property
    def is_projection(self) -> bool:
        """A radiograph, which has no position in the patient."""
        return self.modality in XRAY_MODALITIES and "3D" not in self.sop_class

    @property
    def is_fluoroscopic(self) -> bool:
        """An image of fluoroscopy or angiography."""
        return self.modality in _FLUOROSCOPIC or any(words in self.sop_class for words in _FLUOROSCOPIC_CLASSES)

    @property
    def is_for_processing(self) -> bool:
        """A radiograph for processing: the detector's values, not prepared for display."""
        return "For Processing" in self.sop_class

    @property
    def is_localizer(self) -> bool:
        """A scout view."""
        return "LOCALIZER" in self.image_type

    @property
    def is_called_localizer(self) -> bool:
        """Its series is called a scout view, as those of MR are, which ImageType does not tell."""
        return _LOCALIZERS.search(self.description) is not None


def parse(path: Path, data: Any, size: int) -> DicomHeader:
    """The header of a parsed data set.

    Args:
        path: the file.
        data: its elements, at least those in `WANTED`.
        size: bytes of the file.

    Raises:
        Exception: one of `PARSE_ERRORS`.
    """
    class_uid = text_of(data, "SOPClassUID") or str(data.file_meta.get("MediaStorageSOPClassUID", ""))
    sop_class = _NEWER_CLASSES.get(class_uid) or uid(class_uid).name
    modality = text_of(data, "Modality") or _MODALITY_OF_CLASS.get(sop_class, "")
    allocated = int(number_of(data, "BitsAllocated") or 0)
    slope, intercept = number_or_nan(data, "RescaleSlope"), number_or_nan(data, "RescaleIntercept")
    sign = number_of(data, "PixelIntensityRelationshipSign")
    return DicomHeader(
        path=path,
        size=size,
        sop_class=sop_class,
        sop_instance=text_of(data, "SOPInstanceUID"),
        series=text_of(data, "SeriesInstanceUID"),
        frame_of_reference=text_of(data, "FrameOfReferenceUID"),
        modality=modality,
        description=text_of(data, "SeriesDescription"),
        number=text_of(data, "SeriesNumber"),
        image_type=tuple(value.strip().upper() for value in text_of(data, "ImageType").split("\\")),
        instance_number=text_of(data, "InstanceNumber"),
        facts=_facts(data),
        position=numbers_of(data, "ImagePositionPatient", 3),
        orientation=numbers_of(data, "ImageOrientationPatient", 6),
        pixel_spacing=numbers_of(data, "PixelSpacing", 2),
        slice_thickness=number_of(data, "SliceThickness"),
        spacing_between=number_of(data, "SpacingBetweenSlices"),
        imager_spacing=numbers_of(data, "ImagerPixelSpacing", 2),
        magnification=number_of(data, "EstimatedRadiographicMagnificationFactor"),
        calibration=text_of(data, "PixelSpacingCalibrationType"),
        lut_shape=text_of(data, "PresentationLUTShape").upper(),
        intensity_sign=None if sign is None else int(sign),
        intensity_relationship=text_of(data, "PixelIntensityRelationship").upper(),
        rows=int(number_of(data, "Rows") or 0),
        columns=int(number_of(data, "Columns") or 0),
        frames=int(number_of(data, "NumberOfFrames") or 1),
        samples=int(number_of(data, "SamplesPerPixel") or 1),
        photometric=text_of(data, "PhotometricInterpretation").upper(),
        bits_allocated=allocated,
        bits_stored=int(number_of(data, "BitsStored") or allocated),
        signed=number_of(data, "PixelRepresentation") == 1,
        slope=1.0 if slope is None else slope,
        intercept=intercept or 0.0,
        has_lut="ModalityLUTSequence" in data,
        syntax=transfer_syntax(data),
        sop_class_uid=class_uid,
        study=text_of(data, "StudyInstanceUID"),
        patient=_patient_key(data),
        gantry_tilt=number_of(data, "GantryDetectorTilt"),
        high_bit=int(number_of(data, "HighBit") or 0),
        padding=(integer_of(data, "PixelPaddingValue"), integer_of(data, "PixelPaddingRangeLimit")),
        units=text_of(data, "Units").upper(),
        windows=windows_of(data),
        pet=pet_facts(data) if modality == "PT" else None,
    )


def _facts(data: Any) -> tuple[tuple[str, str], ...]:
    """Name and value of each of `FACTS`; a private b-value replaces a missing standard one."""
    values = {keyword: text_of(data, keyword) for keyword in FACTS}
    values["DiffusionBValue"] = values["DiffusionBValue"] or private_b_value(data)
    return tuple(values.items())


def _patient_key(data: Any) -> str:
    """A digest of the elements that identify the patient, empty where there are none: for comparing, never for display."""
    identity = "\0".join(text_of(data, keyword).rstrip("^ ").upper() for keyword in _PATIENT)
    return hashlib.sha256(identity.encode()).hexdigest() if identity.strip("\0 ") else ""
