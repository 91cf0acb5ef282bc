"""The image that a DICOM SEG or RTSTRUCT was drawn on: its references in the file, the search on disk, the check."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydicom.dataset import Dataset

from voxelry.core.volume import Volume
from voxelry.errors import CorruptFileError, GridMismatchError, MissingFileError, ReadError, SelectionError
from voxelry.formats.detection import files_below
from voxelry.formats.dicom.dicom_reader import volume_of_group
from voxelry.formats.dicom.elements import PARSE_ERRORS, items_of, text_of
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.objects.stored_object import read_object
from voxelry.formats.dicom.scan import scan_headers
from voxelry.formats.dicom.stacks.groups import group_planes
from voxelry.formats.read_options import Repair
from voxelry.formats.reader import read

_NAMING = (
    "FrameOfReferenceUID", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence", "StructureSetROISequence",
    "ROIContourSequence",
)  # fmt: skip
"""The attributes in which a segmentation and a structure set name their image."""

MOST_FILES = 20_000
"""A folder of more files than this is not searched for an image; the user names it."""


@dataclass(frozen=True)
class ReferencedSeries:
    """A series that a DICOM object names.

    Attributes:
        uid: SeriesInstanceUID.
        frame_of_reference: FrameOfReferenceUID that it is listed under, empty where there is none.
        instances: SOPInstanceUIDs of its slices.
    """

    uid: str
    frame_of_reference: str
    instances: frozenset[str]


@dataclass(frozen=True)
class ReferencedImage:
    """The UIDs by which a DICOM object names its image.

    Attributes:
        series: the series that it may be, in the order of the file; empty where it names none.
        frame_of_reference: FrameOfReferenceUID of its positions, empty where it states none or several.
        others: the series that it names beside these, whose positions none of its structures has.
    """

    series: tuple[ReferencedSeries, ...]
    frame_of_reference: str
    others: tuple[ReferencedSeries, ...] = ()

    def names(self, series: str) -> bool:
        """Whether a SeriesInstanceUID is that of a named series."""
        return any(item.uid == series for item in self.series)

    def frames_of(self, image: Volume) -> frozenset[str]:
        """The frames of reference whose positions are those of an image: its own, and what its series is listed under."""
        listed = {item.frame_of_reference for item in (*self.series, *self.others) if item.uid == image.source.series_uid}
        return frozenset({image.source.frame_of_reference, *listed} - {""})

    def frame_of_instances(self, instances: Iterable[str]) -> str:
        """The frame of reference that the series of some SOPInstanceUIDs is listed under, empty where they are in none."""
        wanted = frozenset(instances)
        series = (item for item in (*self.series, *self.others) if item.instances & wanted)
        return next((item.frame_of_reference for item in series), "")


def referenced_image(data: Dataset) -> ReferencedImage:
    """The image that a structure set names.

    Of several series it may be those in the frames of reference of the structures, and of these those that contours name.
    """
    series = []
    for space in items_of(data, "ReferencedFrameOfReferenceSequence"):
        frame = text_of(space, "FrameOfReferenceUID")
        studies = items_of(space, "RTReferencedStudySequence")
        for item in (item for study in studies for item in items_of(study, "RTReferencedSeriesSequence")):
            images = frozenset(text_of(image, "ReferencedSOPInstanceUID") for image in items_of(item, "ContourImageSequence"))
            series.append(ReferencedSeries(text_of(item, "SeriesInstanceUID"), frame, images))
    of_rois = {text_of(roi, "ReferencedFrameOfReferenceUID") for roi in items_of(data, "StructureSetROISequence")} - {""}
    listed = [item for item in series if item.uid]
    used = [item for item in listed if item.frame_of_reference in of_rois] or listed
    if len(used) > 1:
        drawn_on = _instances_of_contours(data)
        used = [item for item in used if item.instances & drawn_on] or used
    frames = (of_rois | {item.frame_of_reference for item in listed} - {""}) or {text_of(data, "FrameOfReferenceUID")}
    others = tuple(item for item in listed if item not in used)
    return ReferencedImage(tuple(used), frames.pop() if len(frames) == 1 else "", others)


def _instances_of_contours(data: Dataset) -> frozenset[str]:
    """SOPInstanceUIDs that the contours of a structure set name."""
    drawings = items_of(data, "ROIContourSequence")
    contours = (contour for drawing in drawings for contour in items_of(drawing, "ContourSequence"))
    return frozenset(
        text_of(image, "ReferencedSOPInstanceUID") for contour in contours for image in items_of(contour, "ContourImageSequence")
    )


def image_named_by(path: str | os.PathLike[str]) -> ReferencedImage:
    """The image that a DICOM SEG or RTSTRUCT file names.

    Raises:
        UnsupportedFormatError: an unknown transfer syntax.
        CorruptFileError: its references cannot be parsed.
    """
    try:
        data = read_object(Path(path), tags=_NAMING)
        if "ReferencedFrameOfReferenceSequence" in data or "StructureSetROISequence" in data:
            return referenced_image(data)
        frame = text_of(data, "FrameOfReferenceUID")
        series = []
        for item in items_of(data, "ReferencedSeriesSequence"):
            images = items_of(item, "ReferencedInstanceSequence")
            instances = frozenset(text_of(image, "ReferencedSOPInstanceUID") for image in images)
            series.append(ReferencedSeries(text_of(item, "SeriesInstanceUID"), frame, instances))
    except PARSE_ERRORS as error:
        raise CorruptFileError(f"{path}: its references cannot be read ({error})", remedy="Export it again.") from error
    return ReferencedImage(tuple(item for item in series if item.uid), frame)


def read_image(
    path: str | os.PathLike[str], named: ReferencedImage | None, *, series: str | None = None, repair: Sequence[Repair] = ()
) -> Volume:
    """The image at a path; of several volumes the selected one, else the one that a DICOM object names.

    Args:
        path: a file or folder, as `read` takes it.
        named: the image that the object names, None where there is no such object.
        series: as `read` takes it.
        repair: as `read` takes it.

    Raises:
        SelectionError: several volumes, of which neither `series` nor `named` picks one.
        ReadError: as `read`.
    """
    try:
        return read(path, series=series, repair=repair)
    except SelectionError:
        if series is not None or named is None or not named.series:
            raise
    volumes, reasons = [], []
    for item in named.series:
        try:
            volumes.append(read(path, series=item.uid, repair=repair))
        except SelectionError as error:
            reasons.append(error)
    if len(volumes) == 1:
        return volumes[0]
    if not volumes:
        raise min(reasons, key=lambda error: len(error.choices))
    raise _ambiguous(Path(path), [volume.source.series_uid for volume in volumes])


def find_image(file: Path, named: ReferencedImage) -> Volume:
    """Find the image that a structure set names in the file's own folder or the one above it.

    Args:
        file: the structure set.
        named: the image that it names.

    Raises:
        MissingFileError: it names none, or the series is not there.
        SelectionError: several of the series that it names are there.
        ReadError: the series is not a regular volume.
    """
    if not named.series:
        raise MissingFileError(f"{file}: names no series that it was drawn on", remedy="Name the image as the reference.")
    instances = frozenset[str]().union(*(item.instances for item in named.series))
    for folder in (file.parent, file.parent.parent):
        planes = _planes(folder, named)
        if len({plane.series for plane in planes}) > 1:
            raise _ambiguous(file, sorted({plane.series for plane in planes}))
        if planes:
            groups = group_planes(planes)
            group = max(groups, key=lambda candidate: sum(plane.sop_instance in instances for plane in candidate.planes))
            return volume_of_group(group, str(folder))
    names = ", ".join(item.uid for item in named.series)
    raise MissingFileError(
        f"{file}: the series that it was drawn on ({names}) is not beside it", remedy="Name the image as the reference."
    )


def _ambiguous(file: Path, series: Sequence[str]) -> SelectionError:
    return SelectionError(
        f"{file}: drawn on one of several series ({', '.join(series)})",
        remedy="Name the image as the reference, one series of them.",
        choices=series,
    )


def _planes(folder: Path, named: ReferencedImage) -> list[DicomHeader]:
    """The slices of the series in a folder; none where the folder is too large to search."""
    try:
        if sum(1 for _ in islice(files_below(folder), MOST_FILES + 1)) > MOST_FILES:
            return []
        return [plane for plane in scan_headers(folder).planes if named.names(plane.series)]
    except OSError as error:
        raise ReadError(f"{folder}: cannot be searched ({error.strerror})", remedy="Name the image as the reference.") from error


def check_same_image(file: Path, named: ReferencedImage, image: Volume) -> list[str]:
    """Check that an image is the one that a DICOM object names; remarks where it is another one in the same space.

    Raises:
        GridMismatchError: another series in another frame of reference.
    """
    if image.source.kind != "dicom" or not image.source.files:
        return []
    own, stated = image.source.frame_of_reference, named.frame_of_reference
    if own and stated and stated not in named.frames_of(image):
        raise GridMismatchError(
            f"{file}: its frame of reference ({stated}) is not that of {image.source.name} ({own})",
            remedy="Name the image that it was drawn on.",
        )
    if own and stated and stated != own:
        return ["names another frame of reference than its own series has; the series counts"]
    if not named.series or named.names(image.source.series_uid):
        return []
    return ["drawn on another series than the reference, in one frame of reference"]
