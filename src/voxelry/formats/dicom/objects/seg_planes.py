"""Positions of the frames of a DICOM SEG as planes of one regular grid, empty planes left out (DICOM PS3.3 section A.51)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.errors import CorruptFileError, SeriesError
from voxelry.formats.dicom.elements import integer_of, items_of, number_of, numbers_of, text_of
from voxelry.formats.dicom.objects.frame_stack import StoredDistances, stack_of

_AGAIN = "Export it again."
_UNIT = 0.01
"""Largest difference of a direction cosine vector's length from 1, and of the two from perpendicular."""
_SAME_DIRECTION = 1e-4
_SAME_SPACING = 1e-3


@dataclass(frozen=True)
class SegFrame:
    """Position and segment of one frame.

    Attributes:
        position: position of its first pixel in mm, LPS+; None for projections.
        segment: the number of its segment; 0 for label maps, whose pixels are segment numbers.
    """

    position: tuple[float, ...] | None
    segment: int


@dataclass(frozen=True, eq=False)
class SegGrid:
    """The grid that frames span.

    Attributes:
        geometry: ``(columns, rows, slices)`` in RAS+ mm; ``(rows, columns)`` where no frame has a position.
        slices: the slice of each frame.
        is_assumed: the distance between slices is, since the file does not state one that its positions confirm.
        remarks: what was decided.
    """

    geometry: Geometry
    slices: Sequence[int]
    is_assumed: bool = False
    remarks: tuple[str, ...] = ()


def seg_frames(seg: Dataset, numbers: Sequence[int], file: Path) -> tuple[list[SegFrame], list[str]]:
    """The frames in file order, and remarks.

    Args:
        seg: the segmentation.
        numbers: of its segments.
        file: for messages.

    Raises:
        CorruptFileError: the functional groups that describe the frames are missing, as many as no frames, or name no segment.
    """
    groups = items_of(seg, "PerFrameFunctionalGroupsSequence")
    count = integer_of(seg, "NumberOfFrames") or 1
    if not groups or len(groups) != count:
        raise CorruptFileError(
            f"{file}: {count} frames, but {len(groups)} are described (PerFrameFunctionalGroupsSequence)", remedy=_AGAIN
        )
    shared = (items_of(seg, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames, nameless = [], 0
    for index, group in enumerate(groups, start=1):
        segment = 0 if seg.SegmentationType == "LABELMAP" else _segment(group, shared)
        if segment is None:
            nameless += 1
            segment = numbers[0] if len(numbers) == 1 else 0
        if seg.SegmentationType != "LABELMAP" and segment not in numbers:
            named = "names no segment" if segment == 0 else f"is of segment {segment}, which is not described"
            raise CorruptFileError(f"{file}: frame {index} {named}", remedy=_AGAIN)
        frames.append(SegFrame(_position(group, shared, index, file), segment))
    remarks = [f"{nameless} frames name no segment: they are of the only one"] if nameless else []
    placed = [frame for frame in frames if frame.position is not None]
    doubled = len(placed) - len(set(placed))
    return frames, remarks + ([f"{doubled} frames are there twice, of one segment at one position: joined"] if doubled else [])


def _segment(group: Dataset, shared: Dataset) -> int | None:
    item = _group("SegmentIdentificationSequence", group, shared)
    return None if item is None else integer_of(item, "ReferencedSegmentNumber")


def _position(group: Dataset, shared: Dataset, index: int, file: Path) -> tuple[float, ...] | None:
    item = _group("PlanePositionSequence", group, shared)
    if item is None:
        return None
    position = numbers_of(item, "ImagePositionPatient", 3)
    if position is None:
        value = text_of(item, "ImagePositionPatient")
        raise CorruptFileError(f"{file}: frame {index} has the position '{value}', not three numbers", remedy=_AGAIN)
    return position


def grid_of(seg: Dataset, frames: Sequence[SegFrame], file: Path) -> SegGrid:
    """The grid that the frames span.

    Args:
        seg: the segmentation.
        frames: its frames.
        file: for messages.

    Raises:
        SeriesError: the frames are not planes of one regular grid.
        CorruptFileError: some frames have a position and others none, or an orientation or the pixel spacing is missing.
    """
    shared = (items_of(seg, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = items_of(seg, "PerFrameFunctionalGroupsSequence")
    spacing = _pixel_spacing(groups, shared, file)
    placed = [frame.position for frame in frames if frame.position is not None]
    if not placed:
        return _flat(seg, frames, spacing, file)
    if spacing is None:
        raise CorruptFileError(f"{file}: no PixelSpacing (PixelMeasuresSequence)", remedy=_AGAIN)
    if len(placed) < len(frames):
        lost = len(frames) - len(placed)
        raise CorruptFileError(f"{file}: {lost} frames without position (PlanePositionSequence)", remedy=_AGAIN)
    across, down = _orientation(groups, shared, file)
    measures = _group("PixelMeasuresSequence", groups[0], shared) or Dataset()
    stored = StoredDistances(_positive(measures, "SpacingBetweenSlices"), _positive(measures, "SliceThickness"), min(spacing))
    stack = stack_of(np.array(placed), np.cross(across, down), stored, file)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across * spacing[1], down * spacing[0], stack.step
    affine[:3, 3] = stack.origin
    stated = text_of(measures, "SpacingBetweenSlices")
    odd = (f"SpacingBetweenSlices '{stated}' is no distance: positions count",) if stated and stored.spacing is None else ()
    slices = [int(k) for k in stack.slices]
    geometry = Geometry((seg.Columns, seg.Rows, max(slices) + 1), flip_lps_ras(affine))
    return SegGrid(geometry, slices, stack.is_assumed, (*odd, *stack.remarks))


def source_instances(seg: Dataset, grid: SegGrid) -> tuple[tuple[str, int] | None, ...]:
    """The image that the first frame of each slice says it was drawn on, with its frame from 1; None where it names not one."""
    if grid.geometry.ndim == 2:
        return ()
    instances: list[tuple[str, int] | None] = [None] * grid.geometry.shape[2]
    for group, k in zip(items_of(seg, "PerFrameFunctionalGroupsSequence"), grid.slices, strict=True):
        if instances[k] is None:
            derivations = items_of(group, "DerivationImageSequence")
            images = [image for item in derivations for image in items_of(item, "SourceImageSequence")]
            if len(images) == 1:
                uid, frame = text_of(images[0], "ReferencedSOPInstanceUID"), integer_of(images[0], "ReferencedFrameNumber")
                instances[k] = (uid, frame or 1)
    return tuple(instances)


def _group(keyword: str, group: Dataset, shared: Dataset) -> Any:
    """A functional group of one frame, or else the one shared by all frames; None where there is neither."""
    items = items_of(group, keyword) or items_of(shared, keyword)
    return items[0] if items else None


def _distinct(keyword: str, groups: Sequence[Dataset], shared: Dataset) -> list[Any]:
    """The functional groups of all frames, the shared one once; None for frames that have none."""
    own = [items_of(group, keyword) for group in groups]
    common = [(items_of(shared, keyword) or [None])[0]] if not all(own) else []
    return [items[0] for items in own if items] + common


def _positive(measures: Dataset, keyword: str) -> float | None:
    value = number_of(measures, keyword)
    return value if value is not None and value > 0 else None


def _pixel_spacing(groups: Sequence[Dataset], shared: Dataset, file: Path) -> tuple[float, float] | None:
    """Row and column spacing of all frames in mm; None where they state none that is positive."""
    sizes = set()
    for measures in _distinct("PixelMeasuresSequence", groups, shared):
        size = None if measures is None else numbers_of(measures, "PixelSpacing", 2)
        sizes.add((size[0], size[1]) if size is not None and min(size) > 0 else None)
    first = sizes.pop()
    if any(first is None or other is None or not np.allclose(first, other, rtol=_SAME_SPACING, atol=0) for other in sizes):
        raise SeriesError(f"{file}: its frames have different pixel spacings", remedy="Export a segmentation for each.")
    return first


def _flat(seg: Dataset, frames: Sequence[SegFrame], spacing: tuple[float, float] | None, file: Path) -> SegGrid:
    """The grid of a projection, which has one frame for each segment."""
    numbers = [frame.segment for frame in frames]
    if len(set(numbers)) < len(numbers):
        raise CorruptFileError(
            f"{file}: {len(numbers)} frames of {len(set(numbers))} segments, and none has a position (PlanePositionSequence)",
            remedy="Export it again with the plane position of each frame.",
        )
    shared = (items_of(seg, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    measures = _group("PixelMeasuresSequence", items_of(seg, "PerFrameFunctionalGroupsSequence")[0], shared) or Dataset()
    stated = text_of(measures, "PixelSpacing")
    remarks = (f"PixelSpacing '{stated}' is no size: no physical size",) if stated and spacing is None else ()
    return SegGrid(Geometry((seg.Rows, seg.Columns), None, spacing), [0] * len(frames), remarks=remarks)


def _orientation(groups: Sequence[Dataset], shared: Dataset, file: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The unit vectors along rows and down columns that all frames share."""
    rows = []
    for item in _distinct("PlaneOrientationSequence", groups, shared):
        cosines = None if item is None else numbers_of(item, "ImageOrientationPatient", 6)
        if cosines is None:
            raise CorruptFileError(f"{file}: frames without orientation (PlaneOrientationSequence)", remedy=_AGAIN)
        rows.append(cosines)
    values = np.array(rows)
    if not np.allclose(values, values[0], rtol=0, atol=_SAME_DIRECTION):
        raise SeriesError(f"{file}: its frames have different orientations", remedy="Export a segmentation for each.")
    across, down = values[0, :3], values[0, 3:]
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if not np.allclose(lengths, 1, rtol=0, atol=_UNIT) or abs(across @ down) > _UNIT:
        raise CorruptFileError(f"{file}: its orientation {values[0].tolist()} is not that of a plane", remedy=_AGAIN)
    return across / lengths[0], down / lengths[1]
