"""Positions of the frames of a DICOM SEG as planes of one regular grid, empty planes left out (DICOM PS3.3 section A.51)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from voxelry.core.geometry import GRID_TOLERANCE_VOXEL, Geometry, flip_lps_ras
from voxelry.errors import CorruptFileError, SeriesError

STACK_TOLERANCE_MM = 0.05
"""Largest distance of a frame from its plane of the grid, or `GRID_TOLERANCE_VOXEL` of the spacing where that is more."""

MOST_SLICES = 8192
"""More planes than this are refused: no scan has so many, and a damaged position may imply any number."""

_SAME_HEIGHT_DIGITS = 3


@dataclass(frozen=True)
class SegFrame:
    """Position and segment of one frame.

    Attributes:
        position: position of its first pixel in mm, LPS+; None for projections.
        segment: the number of its segment; 0 for label maps, whose pixels are segment numbers.
    """

    position: tuple[float, ...] | None
    segment: int


def seg_frames(seg: Dataset, file: Path) -> list[SegFrame]:
    """The frames in file order.

    Raises:
        CorruptFileError: the functional groups that describe the frames are missing or do not number the frames.
    """
    groups = seg.get("PerFrameFunctionalGroupsSequence") or []
    count = int(seg.get("NumberOfFrames") or 1)
    if not groups or len(groups) != count:
        raise CorruptFileError(
            f"{file}: {count} frames, but {len(groups)} are described (PerFrameFunctionalGroupsSequence)",
            remedy="Export it again.",
        )
    return [_frame(group, seg) for group in groups]


def grid_of(seg: Dataset, frames: Sequence[SegFrame], file: Path) -> tuple[Geometry, list[int]]:
    """The grid that the frames span, and the slice of each frame.

    Args:
        seg: the segmentation.
        frames: its frames.
        file: for messages.

    Returns:
        ``(columns, rows, slices)`` in RAS+ mm; ``(rows, columns)`` where no frame has a position.

    Raises:
        SeriesError: the frames are not planes of one regular grid.
        CorruptFileError: some frames have a position and others none, or an orientation is missing.
    """
    first = seg.PerFrameFunctionalGroupsSequence[0]
    measures = _group("PixelMeasuresSequence", first, seg) or Dataset()
    spacing = [float(value) for value in measures.get("PixelSpacing") or ()]
    placed = [frame.position for frame in frames if frame.position is not None]
    if not placed:
        return _flat(seg, frames, spacing, file)
    orientation = _orientation(seg, file)
    if len(placed) < len(frames) or len(spacing) != 2:
        raise CorruptFileError(
            f"{file}: {len(frames) - len(placed)} frames without position (PlanePositionSequence) or no PixelSpacing",
            remedy="Export it again.",
        )
    across, down = orientation[:3], orientation[3:]
    normal = np.cross(across, down)
    positions = np.array(placed)
    stack = _stack(positions, normal, spacing, measures, file)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across * spacing[1], down * spacing[0], stack.step
    affine[:3, 3] = stack.origin
    if max(stack.slices) >= MOST_SLICES:
        raise SeriesError(f"{file}: its frames span {max(stack.slices) + 1} slices, at most {MOST_SLICES} are read")
    return Geometry((seg.Columns, seg.Rows, max(stack.slices) + 1), flip_lps_ras(affine)), stack.slices


def _group(keyword: str, frame: Dataset, seg: Dataset) -> Dataset | None:
    """A functional group of one frame, or else the one shared by all frames."""
    shared = (seg.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    items = frame.get(keyword) or shared.get(keyword)
    return items[0] if items else None


def _frame(group: Dataset, seg: Dataset) -> SegFrame:
    position = _group("PlanePositionSequence", group, seg)
    segment = _group("SegmentIdentificationSequence", group, seg)
    return SegFrame(
        tuple(float(value) for value in position.ImagePositionPatient) if position is not None else None,
        int(segment.ReferencedSegmentNumber) if segment is not None and seg.SegmentationType != "LABELMAP" else 0,
    )


def _flat(seg: Dataset, frames: Sequence[SegFrame], spacing: list[float], file: Path) -> tuple[Geometry, list[int]]:
    """The grid of a projection, which has one frame for each segment."""
    numbers = [frame.segment for frame in frames]
    if len(set(numbers)) < len(numbers):
        raise CorruptFileError(
            f"{file}: {len(numbers)} frames of {len(set(numbers))} segments, and none has a position (PlanePositionSequence)",
            remedy="Export it again with the plane position of each frame.",
        )
    size = (spacing[0], spacing[1]) if len(spacing) == 2 else None
    return Geometry((seg.Rows, seg.Columns), None, size), [0] * len(frames)


def _orientation(seg: Dataset, file: Path) -> NDArray[np.float64]:
    """The six direction cosines that all frames share."""
    items = [_group("PlaneOrientationSequence", frame, seg) for frame in seg.PerFrameFunctionalGroupsSequence]
    if any(item is None for item in items):
        raise CorruptFileError(f"{file}: frames without orientation (PlaneOrientationSequence)", remedy="Export it again.")
    values = np.array([item.ImageOrientationPatient for item in items if item is not None], dtype=np.float64)
    if values.shape[1] != 6 or not np.allclose(values, values[0], rtol=0, atol=1e-4):
        raise SeriesError(f"{file}: its frames have different orientations", remedy="Export a segmentation for each.")
    first: NDArray[np.float64] = values[0]
    return first


@dataclass(frozen=True)
class _FrameStack:
    """A regular stack: first plane, step to the next (mm, LPS+), slice of each frame, largest distance of a frame from it."""

    origin: NDArray[np.float64]
    step: NDArray[np.float64]
    slices: list[int]
    largest_offset: float


def _stack(
    positions: NDArray[np.float64], normal: NDArray[np.float64], spacing: list[float], measures: Dataset, file: Path
) -> _FrameStack:
    """The stack with the first candidate distance between slices that all frames fit."""
    heights = positions @ normal
    best: _FrameStack | None = None
    for distance in _distances(np.unique(heights.round(_SAME_HEIGHT_DIGITS)), measures):
        for stack in _fits(positions, heights, normal, distance):
            if stack.largest_offset <= max(GRID_TOLERANCE_VOXEL * min(distance, *spacing), STACK_TOLERANCE_MM):
                return stack
            best = stack if best is None or stack.largest_offset < best.largest_offset else best
    if best is None:
        raise SeriesError(f"{file}: one plane, and no distance between slices is stored", remedy="Export it with SliceThickness.")
    raise SeriesError(
        f"{file}: frames lie up to {best.largest_offset:.3g} mm off a regular stack of {np.linalg.norm(best.step):.4g} mm",
        remedy="Export it on its image's grid.",
    )


def _fits(
    positions: NDArray[np.float64], heights: NDArray[np.float64], normal: NDArray[np.float64], distance: float
) -> Iterator[_FrameStack]:
    """The stack along the normal, and the sheared one (gantry tilt) through the outermost frames."""
    slices = np.round((heights - heights.min()) / distance)
    low, high = int(heights.argmin()), int(heights.argmax())
    steps = [normal * distance]
    if slices[high] > 0:
        steps.append((positions[high] - positions[low]) / slices[high])
    for step in steps:
        offset = np.abs(positions - positions[low] - slices[:, None] * step).max()
        yield _FrameStack(positions[low], step, [int(k) for k in slices.clip(max=2**31)], float(offset))


def _distances(heights: NDArray[np.float64], measures: Dataset) -> Iterator[float]:
    """Candidate distances between slices in mm: as stored, the smallest between frames, the slice thickness."""
    for value in (
        measures.get("SpacingBetweenSlices"),
        None if len(heights) < 2 else np.diff(heights).min(),
        measures.get("SliceThickness"),
    ):
        if value is not None and float(value) > 0:
            yield float(value)
