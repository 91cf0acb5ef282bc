"""The image that a DICOM structure set was drawn on: what the file says of it, and where it lies."""

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
"""What a segmentation and a structure set say of their image."""

MOST_FILES = 20_000
"""A folder of more files is not searched for an image: name it."""


@dataclass(frozen=True)
class Referenced:
    """What a structure set says of its image, empty where it does not.

    Attributes:
        series: SeriesInstanceUID.
        frame: FrameOfReferenceUID.
        instances: SOPInstanceUIDs of the slices.
    """

    series: str
    frame: str
    instances: frozenset[str]


def referenced(data: Dataset) -> Referenced:
    """The image of a structure set."""
    series = frame = ""
    instances = set()
    for one in data.get("ReferencedFrameOfReferenceSequence") or []:
        frame = frame or str(one.get("FrameOfReferenceUID", ""))
        for study in one.get("RTReferencedStudySequence") or []:
            for item in study.get("RTReferencedSeriesSequence") or []:
                series = series or str(item.get("SeriesInstanceUID", ""))
                instances |= {str(image.get("ReferencedSOPInstanceUID", "")) for image in item.get("ContourImageSequence") or []}
    frames = [str(roi.get("ReferencedFrameOfReferenceUID", "")) for roi in data.get("StructureSetROISequence") or []]
    return Referenced(series, frame or next((one for one in frames if one), ""), frozenset(instances))


def named_by(path: str | os.PathLike[str]) -> Referenced:
    """The image that a DICOM SEG or RTSTRUCT file names.

    Raises:
        CorruptFileError: its references cannot be parsed.
    """
    try:
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*_NAMING])
        if "ReferencedFrameOfReferenceSequence" in data or "StructureSetROISequence" in data:
            return referenced(data)
        series = data.get("ReferencedSeriesSequence") or []
        images = {str(one.ReferencedSOPInstanceUID) for item in series for one in item.get("ReferencedInstanceSequence") or []}
        first = str(series[0].get("SeriesInstanceUID", "")) if series else ""
    except PARSE_ERRORS as error:
        raise CorruptFileError(f"{path}: its references cannot be read ({error})", remedy="Export it again.") from error
    return Referenced(first, str(data.get("FrameOfReferenceUID", "")), frozenset(images))


def find_image(file: Path, wanted: Referenced) -> Volume:
    """The image that a structure set names, from the file's own folder or the one above it.

    Args:
        file: the structure set.
        wanted: what it says of its image.

    Raises:
        MissingFileError: it names none, or none of that name is there.
        ReadError: the series is no regular volume.
    """
    if not wanted.series:
        raise MissingFileError(f"{file}: names no series that it was drawn on", remedy="Name the image as the reference.")
    for folder in (file.parent, file.parent.parent):
        planes = _planes(folder, wanted)
        if planes:
            groups = group_planes(planes)
            group = max(groups, key=lambda one: sum(plane.sop_instance in wanted.instances for plane in one.planes))
            return volume_of_group(group, str(folder))
    raise MissingFileError(
        f"{file}: the series that it was drawn on ({wanted.series}) is not beside it", remedy="Name the image as the reference."
    )


def _planes(folder: Path, wanted: Referenced) -> list[DicomHeader]:
    """The slices of the series that lie in a folder, none in one too large to search."""
    try:
        if sum(1 for _ in islice(files_below(folder), MOST_FILES + 1)) > MOST_FILES:
            return []
        return [plane for plane in scan_headers(folder).planes if plane.series == wanted.series]
    except OSError as error:
        raise ReadError(f"{folder}: cannot be searched ({error.strerror})", remedy="Name the image as the reference.") from error


def compared(file: Path, wanted: Referenced, image: Volume) -> list[str]:
    """Whether an image is the one that a structure set names; what to remark where it is not quite.

    Raises:
        GridMismatchError: it is another series of another frame of reference.
    """
    if image.source.kind != "dicom" or not image.source.files:
        return []
    same_series = wanted.series == image.source.series_uid
    other = image.source.frame_of_reference
    same_frame = not (other and wanted.frame) or other == wanted.frame
    if not same_frame and not same_series:
        raise GridMismatchError(
            f"{file}: its frame of reference ({wanted.frame}) is not that of {image.source.name} ({other})",
            remedy="Name the image that it was drawn on.",
        )
    if not same_frame:
        return ["names another frame of reference than its own series has; the series counts"]
    return [] if same_series or not wanted.series else ["drawn on another series than the reference, in one frame of reference"]
