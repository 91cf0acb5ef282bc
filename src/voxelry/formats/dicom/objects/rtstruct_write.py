"""Writer of RTSTRUCT, DICOM's RT Structure Set (PS3.3 A.19): every label as closed contours on the slices of its scan.

Contours run along the edges of voxels, with keyholes for holes (`outline`), so that a reader that fills the voxel centres inside
gets the mask back. Each contour lies in the plane of its own slice and names that instance, so that a tilted series needs no
resampling. Coordinates are rounded to 1e-6 mm, half of which is the largest error, and fit the 16 characters of a DS.

A label without a voxel is kept as a structure without contours, as PS3.3 C.8.8.6 allows: looked for and absent. The file is in
implicit VR, since explicit VR limits a contour to 64 KiB (about 1900 points).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.charset import default_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from voxelry.base.files import atomic_path
from voxelry.core.geometry import flip_lps_ras
from voxelry.core.labels import ANATOMICAL_STRUCTURE
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, UsageError
from voxelry.formats.dicom.objects.derived_object import checked_text, derived_object, save_object
from voxelry.formats.dicom.objects.references import InstanceReference, SourceSeries, code_item, reference_item
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm, property_type
from voxelry.formats.dicom.objects.source_series import source_series
from voxelry.formats.file_segments import LONGEST_TEXT, NOTE_END, Segment, segments_of
from voxelry.formats.outline import area, outlines, pixels_inside

log = logging.getLogger(__name__)

_SERIES_OFFSET = 2000
_DECIMALS = 6
_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, retired; RT Referenced Study items name it all the same."""
_CONTOUR_DATA = Tag(tag_for_keyword("ContourData") or 0)


@dataclass(frozen=True)
class _ContourPlanes:
    """The planes that contours are drawn in.

    Attributes:
        origins: ``(slices, 3)`` LPS mm, the centre of each slice's first pixel.
        steps: ``(2, 3)`` LPS mm from a pixel to the next column and to the next row.
        images: the image of each slice, None for an interpolated slice.
    """

    origins: NDArray[np.float64]
    steps: NDArray[np.float64]
    images: Sequence[InstanceReference | None]


@dataclass(frozen=True)
class _StructureSize:
    """A structure's size in voxels: as labelled, by voxel centres within its contours, and as its contours enclose it."""

    voxels: int
    counted: int
    enclosed: float

    @property
    def change(self) -> str:
        """The change of volume by smoothing, in words."""
        enclosed, counted = ((value / self.voxels - 1) * 100 for value in (self.enclosed, self.counted))
        return f"Contours smoothed: they enclose {enclosed:+.2f} % of volume, {counted:+.2f} % counted by voxel centres"


def write_rtstruct(
    labels: LabelMap,
    source: Volume,
    path: str | os.PathLike[str],
    *,
    smooth: bool = False,
    algorithm: Algorithm | None = None,
    series_description: str = "Segmentation contours",
) -> Path:
    """Write labels as an RT Structure Set that refers to their scan.

    Structures are numbered 1..n in the order of the table; labels may overlap. Voxels of the table's ignore value belong to
    none.

    Args:
        labels: on the scan's grid (axes may be flipped or permuted; they are re-indexed), on any number of layers.
        source: the scan as read from DICOM ``(column, row, slice)``; tilted and enhanced multi-frame series too.
        path: the file; replaced if it exists.
        smooth: smooth the contours. The change of volume is written into each ROIDescription and logged.
        algorithm: the algorithm that made the labels; None for voxelry itself.
        series_description: the name that viewers list the series by, at most 64 characters.

    Returns:
        The path.

    Raises:
        ExportError: the source is not DICOM, not as read, or a projection; or the table is empty.
        GridMismatchError: the labels lie on another grid.
        LabelError: values that the table does not know.
        UsageError: `smooth` is neither True nor False.

    Example:
        >>> import voxelry as vx
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.phantom.dicom import write_dicom
        >>> phantom = small_phantom()
        >>> scan = vx.read(write_dicom(phantom, "scan")[0])
        >>> from voxelry.formats.dicom.objects import write_rtstruct
        >>> path = write_rtstruct(phantom.labels, scan, "organs.rtstruct.dcm")
        >>> "liver" in vx.read_labels(path, reference=scan).table.names
        True
    """
    if not isinstance(smooth, bool):
        raise UsageError(f"smooth is {smooth!r}", remedy="Give true or false.")
    if source.geometry.ndim != 3:
        raise ExportError(
            f"{path}: contours need a position in the patient, a projection has none", remedy="Write SEG, PNG or COCO."
        )
    if not len(labels.table):
        raise ExportError(f"{path}: the label table is empty, a structure set needs a structure", remedy="Name the labels.")
    algorithm = algorithm or Algorithm()
    checked_text(series_description, path)
    aligned = labels.on_grid(source.geometry)
    series = source_series(source, path)
    structure_set = derived_object(
        series.headers[0], RTStructureSetStorage, "RTSTRUCT", series_description=series_description, series_offset=_SERIES_OFFSET
    )
    _describe_set(structure_set, series)
    planes = _planes(series, source)
    for segment in segments_of(aligned):
        contours, size = _contours(aligned, segment, planes, smooth=smooth)
        roi = _roi(segment, structure_set.FrameOfReferenceUID, algorithm)
        roi.ROIVolume = f"{size.enclosed * (source.geometry.voxel_volume or 0.0) / 1000:.10g}"
        notes = [segment.note, size.change if smooth and size.voxels else ""]
        if any(notes):
            roi.ROIDescription = NOTE_END.join(filter(None, notes))
        if smooth and size.voxels:
            log.info("%s: %s: %s", Path(path).name, segment.name, size.change)
        structure_set.StructureSetROISequence.append(roi)
        structure_set.ROIContourSequence.append(_roi_contour(segment, contours))
        structure_set.RTROIObservationsSequence.append(_observation(segment))
    with atomic_path(path) as temporary:
        save_object(structure_set, temporary, transfer_syntax=ImplicitVRLittleEndian)
    return Path(path)


def _describe_set(structure_set: Dataset, scan: SourceSeries) -> None:
    """Add the Structure Set module with empty ROI sequences."""
    structure_set.OperatorsName = None
    structure_set.StructureSetLabel, structure_set.StructureSetName = "SEGMENTATION", "Segmentation"
    structure_set.StructureSetDescription = "Made by software for research, not reviewed"
    structure_set.StructureSetDate, structure_set.StructureSetTime, structure_set.ApprovalStatus = (
        structure_set.ContentDate,
        structure_set.ContentTime,
        "UNAPPROVED",
    )
    del structure_set.ContentDate, structure_set.ContentTime
    series, study, space = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = scan.headers[0].SeriesInstanceUID
    series.ContourImageSequence = [reference_item(instance) for instance in scan.instances]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_COMPONENT, structure_set.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    space.FrameOfReferenceUID, space.RTReferencedStudySequence = structure_set.FrameOfReferenceUID, [study]
    structure_set.ReferencedFrameOfReferenceSequence = [space]
    structure_set.StructureSetROISequence, structure_set.ROIContourSequence, structure_set.RTROIObservationsSequence = [], [], []


def _planes(series: SourceSeries, source: Volume) -> _ContourPlanes:
    """The planes of the slices: positions from their own headers, orientation from the grid."""
    assert source.geometry.affine is not None
    origins = np.array([header.ImagePositionPatient for header in series.headers], dtype=np.float64)
    return _ContourPlanes(origins, flip_lps_ras(source.geometry.affine[:3, :2].T), series.references)


def _contours(
    labels: LabelMap, segment: Segment, planes: _ContourPlanes, *, smooth: bool
) -> tuple[list[Dataset], _StructureSize]:
    """The contours of a structure, and its size."""
    contours: list[Dataset] = []
    voxels, counted, enclosed = 0, 0, 0.0
    if segment.item is None or segment.item.box is None:
        return contours, _StructureSize(voxels, counted, enclosed)
    columns, rows, slices = segment.item.box
    corner, inside = np.array([columns.start, rows.start]), segment.item.mask(labels)
    for k in range(slices.start, slices.stop):
        mask = inside[:, :, k - slices.start]
        voxels += int(np.count_nonzero(mask))
        for ring in outlines(mask, smooth=smooth):
            enclosed += area(ring)
            counted += pixels_inside(ring) if smooth else 0
            points = planes.origins[k] + (ring + corner) @ planes.steps
            contours.append(_contour(len(contours) + 1, points, planes.images[k]))
    return contours, _StructureSize(voxels, counted, enclosed)


def _contour(number: int, points: NDArray[np.float64], image: InstanceReference | None) -> Dataset:
    contour = Dataset()
    if image is not None:
        contour.ContourImageSequence = [reference_item(image)]
    contour.ContourGeometricType, contour.NumberOfContourPoints, contour.ContourNumber = "CLOSED_PLANAR", len(points), number
    data = decimal_string(points)
    contour[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(data), data, 0, True, True)
    contour.set_original_encoding(True, True, default_encoding)  # otherwise pydicom parses the data and writes it again
    return contour


def decimal_string(points: NDArray[np.float64]) -> bytes:
    """Coordinates in mm as the value of a DS: at most 16 characters each, rounded to 1e-6 mm (beyond 10 m to 10 digits)."""
    rounded = (np.round(points, _DECIMALS) + 0.0).ravel().tolist()
    data = ("%.10g\\" * len(rounded))[:-1] % tuple(rounded)
    return (data + " " * (len(data) % 2)).encode("ascii")


def _roi(segment: Segment, frame_of_reference: str, algorithm: Algorithm) -> Dataset:
    roi = Dataset()
    roi.ROINumber, roi.ReferencedFrameOfReferenceUID, roi.ROIName = segment.number, frame_of_reference, segment.name
    roi.ROIGenerationAlgorithm, roi.ROIGenerationDescription = (
        algorithm.kind.upper(),
        f"{algorithm.name} {algorithm.version}"[:LONGEST_TEXT],
    )
    return roi


def _roi_contour(segment: Segment, contours: list[Dataset]) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber, item.ROIDisplayColor = segment.number, list(segment.label.rgb)
    item.RecommendedDisplayCIELabValue = list(segment.label.cielab)
    if contours:
        item.ContourSequence = contours
    return item


def _observation(segment: Segment) -> Dataset:
    """The codes of the structure; ORGAN where the table has it as an anatomical structure."""
    observation, label = Dataset(), segment.label
    observation.ObservationNumber = observation.ReferencedROINumber = segment.number
    observation.RTROIInterpretedType = "ORGAN" if label.category.value == ANATOMICAL_STRUCTURE.value else None
    observation.ROIInterpreter = None
    kind = code_item(property_type(label))
    if label.modifier is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [code_item(label.modifier)]
    observation.RTROIIdentificationCodeSequence = [kind]
    observation.SegmentedPropertyCategoryCodeSequence = [code_item(label.category)]
    return observation
