"""Where the frames of a DICOM segmentation lie: planes of one regular grid, some of them left out (DICOM PS3.3 section A.51)."""

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
"""How far a frame may lie off its plane of the grid, or `GRID_TOLERANCE_VOXEL` of the spacing where that is more."""

MOST_SLICES = 8192
"""More planes than this are refused: no scan has so many, a damaged position claims any number."""

_SAME_HEIGHT_DIGITS = 3


@dataclass(frozen=True)
class Plane:
    """Where one frame lies.

    Attributes:
        position: of its first pixel in mm, LPS+; None for projections.
        segment: the number of its segment; 0 for label maps, whose pixels say it.
    """

    position: tuple[float, ...] | None
    segment: int


def planes_of(seg: Dataset, file: Path) -> list[Plane]:
    """The plane of each frame, in file order.

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
    return [_plane(frame, seg) for frame in groups]


def grid_of(seg: Dataset, planes: Sequence[Plane], file: Path) -> tuple[Geometry, list[int]]:
    """The grid that the frames span, and each frame's slice on it.

    Args:
        seg: the segmentation.
        planes: of its frames.
        file: for messages.

    Returns:
        ``(columns, rows, slices)`` in RAS+ mm; ``(rows, columns)`` where no frame has a position.

    Raises:
        SeriesError: frames that are not planes of one regular grid.
        CorruptFileError: some frames have a position, others have none; or no orientation is given.
    """
    first = seg.PerFrameFunctionalGroupsSequence[0]
    measures = _group("PixelMeasuresSequence", first, seg) or Dataset()
    spacing = [float(value) for value in measures.get("PixelSpacing") or ()]
    placed = [plane.position for plane in planes if plane.position is not None]
    if not placed:
        return _flat(seg, planes, spacing, file)
    orientation = _orientation(seg, file)
    if len(placed) < len(planes) or len(spacing) != 2:
        raise CorruptFileError(
            f"{file}: {len(planes) - len(placed)} frames without position (PlanePositionSequence) or no PixelSpacing",
            remedy="Export it again.",
        )
    across, down = orientation[:3], orientation[3:]
    normal = np.cross(across, down)
    positions = np.array(placed)
    stack = _stack(positions, normal, spacing, measures, file)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across * spacing[1], down * spacing[0], stack.step
    affine[:3, 3] = stack.origin
    if max(stack.places) >= MOST_SLICES:
        raise SeriesError(f"{file}: its frames span {max(stack.places) + 1} slices, at most {MOST_SLICES} are read")
    return Geometry((seg.Columns, seg.Rows, max(stack.places) + 1), flip_lps_ras(affine)), stack.places


def _group(keyword: str, frame: Dataset, seg: Dataset) -> Dataset | None:
    """A functional group of one frame, else the one that all frames share."""
    shared = (seg.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    items = frame.get(keyword) or shared.get(keyword)
    return items[0] if items else None


def _plane(frame: Dataset, seg: Dataset) -> Plane:
    position = _group("PlanePositionSequence", frame, seg)
    segment = _group("SegmentIdentificationSequence", frame, seg)
    return Plane(
        tuple(float(value) for value in position.ImagePositionPatient) if position is not None else None,
        int(segment.ReferencedSegmentNumber) if segment is not None and seg.SegmentationType != "LABELMAP" else 0,
    )


def _flat(seg: Dataset, planes: Sequence[Plane], spacing: list[float], file: Path) -> tuple[Geometry, list[int]]:
    """The grid of a projection: one frame a segment."""
    numbers = [plane.segment for plane in planes]
    if len(set(numbers)) < len(numbers):
        raise CorruptFileError(
            f"{file}: {len(numbers)} frames of {len(set(numbers))} segments, and none has a position (PlanePositionSequence)",
            remedy="Export it again with the plane position of each frame.",
        )
    size = (spacing[0], spacing[1]) if len(spacing) == 2 else None
    return Geometry((seg.Rows, seg.Columns), None, size), [0] * len(planes)


def _orientation(seg: Dataset, file: Path) -> NDArray[np.float64]:
    """Six direction cosines that all frames have."""
    found = [_group("PlaneOrientationSequence", frame, seg) for frame in seg.PerFrameFunctionalGroupsSequence]
    if any(item is None for item in found):
        raise CorruptFileError(f"{file}: frames without orientation (PlaneOrientationSequence)", remedy="Export it again.")
    values = np.array([item.ImageOrientationPatient for item in found if item is not None], dtype=np.float64)
    if values.shape[1] != 6 or not np.allclose(values, values[0], rtol=0, atol=1e-4):
        raise SeriesError(f"{file}: its frames have different orientations", remedy="Export a segmentation for each.")
    first: NDArray[np.float64] = values[0]
    return first


@dataclass(frozen=True)
class _Stack:
    """A regular stack: its first plane, the step to the next (mm, LPS+), each frame's number, and how far off frames lie."""

    origin: NDArray[np.float64]
    step: NDArray[np.float64]
    places: list[int]
    worst: float


def _stack(
    positions: NDArray[np.float64], normal: NDArray[np.float64], spacing: list[float], measures: Dataset, file: Path
) -> _Stack:
    """The stack by the first distance between slices that all frames fit."""
    heights = positions @ normal
    best: _Stack | None = None
    for distance in _distances(np.unique(heights.round(_SAME_HEIGHT_DIGITS)), measures):
        for stack in _fits(positions, heights, normal, distance):
            if stack.worst <= max(GRID_TOLERANCE_VOXEL * min(distance, *spacing), STACK_TOLERANCE_MM):
                return stack
            best = stack if best is None or stack.worst < best.worst else best
    if best is None:
        raise SeriesError(f"{file}: one plane, and no distance between slices is stored", remedy="Export it with SliceThickness.")
    raise SeriesError(
        f"{file}: frames lie up to {best.worst:.3g} mm off a regular stack of {np.linalg.norm(best.step):.4g} mm",
        remedy="Export it on its image's grid.",
    )


def _fits(
    positions: NDArray[np.float64], heights: NDArray[np.float64], normal: NDArray[np.float64], distance: float
) -> Iterator[_Stack]:
    """The stack along the normal, and the sheared one (a tilted gantry) by the outermost frames."""
    places = np.round((heights - heights.min()) / distance)
    low, high = int(heights.argmin()), int(heights.argmax())
    steps = [normal * distance]
    if places[high] > 0:
        steps.append((positions[high] - positions[low]) / places[high])
    for step in steps:
        off = np.abs(positions - positions[low] - places[:, None] * step).max()
        yield _Stack(positions[low], step, [int(place) for place in places.clip(max=2**31)], float(off))


def _distances(heights: NDArray[np.float64], measures: Dataset) -> Iterator[float]:
    """Distances between slices in mm that may be meant: as stored, the smallest between frames, the thickness."""
    for value in (
        measures.get("SpacingBetweenSlices"),
        None if len(heights) < 2 else np.diff(heights).min(),
        measures.get("SliceThickness"),
    ):
        if value is not None and float(value) > 0:
            yield float(value)
