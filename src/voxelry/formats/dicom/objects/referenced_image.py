"""The image that a DICOM SEG or RTSTRUCT was drawn on: its references in the file, the search on disk, the check."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from voxelry.core.volume import Volume
from voxelry.errors import CorruptFileError, GridMismatchError, MissingFileError, ReadError
from voxelry.formats.detection import files_below
from voxelry.formats.dicom.dicom_reader import volume_of_group
from voxelry.formats.dicom.elements import PARSE_ERRORS
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.scan import scan_headers
from voxelry.formats.dicom.stacks.groups import group_planes

_NAMING = (
    "FrameOfReferenceUID", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence", "StructureSetROISequence",
)  # fmt: skip
"""The attributes in which a segmentation and a structure set name their image."""

MOST_FILES = 20_000
"""A folder of more files than this is not searched for an image; the user names it."""


@dataclass(frozen=True)
class ReferencedImage:
    """The UIDs by which a DICOM object names its image, empty where it does not.

    Attributes:
        series: SeriesInstanceUID.
        frame_of_reference: FrameOfReferenceUID.
        instances: SOPInstanceUIDs of the slices.
    """

    series: str
    frame_of_reference: str
    instances: frozenset[str]


def referenced_image(data: Dataset) -> ReferencedImage:
    """The image that a structure set names."""
    series = frame_of_reference = ""
    instances = set()
    for space in data.get("ReferencedFrameOfReferenceSequence") or []:
        frame_of_reference = frame_of_reference or str(space.get("FrameOfReferenceUID", ""))
        for study in space.get("RTReferencedStudySequence") or []:
            for item in study.get("RTReferencedSeriesSequence") or []:
                series = series or str(item.get("SeriesInstanceUID", ""))
                instances |= {str(image.get("ReferencedSOPInstanceUID", "")) for image in item.get("ContourImageSequence") or []}
    of_rois = [str(roi.get("ReferencedFrameOfReferenceUID", "")) for roi in data.get("StructureSetROISequence") or []]
    return ReferencedImage(series, frame_of_reference or next(filter(None, of_rois), ""), frozenset(instances))


def image_named_by(path: str | os.PathLike[str]) -> ReferencedImage:
    """The image that a DICOM SEG or RTSTRUCT file names.

    Raises:
        CorruptFileError: its references cannot be parsed.
    """
    try:
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*_NAMING])
        if "ReferencedFrameOfReferenceSequence" in data or "StructureSetROISequence" in data:
            return referenced_image(data)
        series = data.get("ReferencedSeriesSequence") or []
        images = {
            str(image.ReferencedSOPInstanceUID) for item in series for image in item.get("ReferencedInstanceSequence") or []
        }
        first = str(series[0].get("SeriesInstanceUID", "")) if series else ""
    except PARSE_ERRORS as error:
        raise CorruptFileError(f"{path}: its references cannot be read ({error})", remedy="Export it again.") from error
    return ReferencedImage(first, str(data.get("FrameOfReferenceUID", "")), frozenset(images))


def find_image(file: Path, named: ReferencedImage) -> Volume:
    """Find the image that a structure set names in the file's own folder or the one above it.

    Args:
        file: the structure set.
        named: the image that it names.

    Raises:
        MissingFileError: it names none, or the series is not there.
        ReadError: the series is not a regular volume.
    """
    if not named.series:
        raise MissingFileError(f"{file}: names no series that it was drawn on", remedy="Name the image as the reference.")
    for folder in (file.parent, file.parent.parent):
        planes = _planes(folder, named)
        if planes:
            groups = group_planes(planes)
            group = max(groups, key=lambda candidate: sum(plane.sop_instance in named.instances for plane in candidate.planes))
            return volume_of_group(group, str(folder))
    raise MissingFileError(
        f"{file}: the series that it was drawn on ({named.series}) is not beside it", remedy="Name the image as the reference."
    )


def _planes(folder: Path, named: ReferencedImage) -> list[DicomHeader]:
    """The slices of the series in a folder; none where the folder is too large to search."""
    try:
        if sum(1 for _ in islice(files_below(folder), MOST_FILES + 1)) > MOST_FILES:
            return []
        return [plane for plane in scan_headers(folder).planes if plane.series == named.series]
    except OSError as error:
        raise ReadError(f"{folder}: cannot be searched ({error.strerror})", remedy="Name the image as the reference.") from error


def check_same_image(file: Path, named: ReferencedImage, image: Volume) -> list[str]:
    """Check that an image is the one that a DICOM object names; remarks where it is another one in the same space.

    Raises:
        GridMismatchError: another series in another frame of reference.
    """
    if image.source.kind != "dicom" or not image.source.files:
        return []
    same_series = named.series == image.source.series_uid
    own = image.source.frame_of_reference
    same_space = not (own and named.frame_of_reference) or own == named.frame_of_reference
    if not same_space and not same_series:
        raise GridMismatchError(
            f"{file}: its frame of reference ({named.frame_of_reference}) is not that of {image.source.name} ({own})",
            remedy="Name the image that it was drawn on.",
        )
    if not same_space:
        return ["names another frame of reference than its own series has; the series counts"]
    return [] if same_series or not named.series else ["drawn on another series than the reference, in one frame of reference"]
