"""One DICOM series: its planes in slice order, on what grid, and what had to be repaired. All from headers.

Planes that are alike (`alike`) and lie evenly (`positions`) make an affine grid; where a gantry was tilted, a sheared one.
What does not lie evenly is refused with the files concerned, or repaired where that was asked for (`repair`); nothing is guessed.

The grid follows DICOM PS3.3 section C.7.6.2.1.1: the world position of a pixel is ImagePositionPatient plus the column index
times the row direction times the column spacing, plus the row index times the column direction times the row spacing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.errors import SeriesError
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.pixels.decode import check_decodable, has_padding, remarks_of
from voxelry.formats.dicom.stacks.consistency import check_consistent, check_slices
from voxelry.formats.dicom.stacks.positions import EvenSpacing, Floats, InPlaneShift, position_tolerance_mm, sort_by_position
from voxelry.formats.dicom.stacks.repair import even_spacing, file_names, files_of, in_plane_shift, remove_duplicates
from voxelry.formats.dicom.stacks.slice_resampling import (
    PlaneDecoder,
    SliceResampling,
    resample_outside,
    resample_planes,
    round_to_pixels,
)
from voxelry.formats.read_options import PLAIN, ReadOptions

PERPENDICULAR_TOLERANCE = 1e-3
"""How far the row and column directions may be from unit length and from perpendicular (cosine)."""

SPACING_TAG_TOLERANCE = 0.01
"""By what part SpacingBetweenSlices may differ from the distance of the positions without a remark."""

TILT_TAG_TOLERANCE_DEGREES = 0.5
"""How far GantryDetectorTilt may be from the tilt of the positions without a remark."""

MOST_GROWTH = 8
"""How many times its voxels a series may have after it was made upright: what asks for more has a position far off."""

FREE_VOXELS = 2**24
"""An upright grid of up to so many voxels is never too large."""


@dataclass(frozen=True)
class SliceStack:
    """A series on its grid.

    Attributes:
        slices: per slice of the grid, along the normal (row direction x column direction in LPS+), the plane it holds; None for
            a slice that is interpolated, moved or padded.
        planes: the planes to decode, in slice order; without repairs the same as `slices`.
        geometry: grid ``(columns, rows, slices)``, RAS+ mm; sheared where the planes shift sideways evenly.
        tilt: degrees by which slices run off their normal, 0 for a plain series; positive where they shift along rows or down
            columns (whichever is more) as they go up the normal.
        remarks: what had to be decided.
        repairs: what was mended, as asked.
        resampling: how planes become slices; None where they are the slices.
    """

    slices: tuple[DicomHeader | None, ...]
    planes: tuple[DicomHeader, ...]
    geometry: Geometry
    tilt: float = 0.0
    remarks: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    resampling: SliceResampling | None = None

    @property
    def has_outside(self) -> bool:
        """Some voxels may hold no measured value: the planes are padded, or moved on a grid larger than they are."""
        grown = self.resampling is not None and self.resampling.shape[1:] != (self.planes[0].rows, self.planes[0].columns)
        return grown or has_padding(self.planes)


@dataclass(frozen=True)
class _PlaneAxes:
    """Directions and pixel size that all planes share: unit vectors LPS+, mm."""

    across: Floats
    down: Floats
    between_rows: float
    between_columns: float

    @property
    def normal(self) -> Floats:
        cross = np.cross(self.across, self.down)
        return np.asarray(cross / np.linalg.norm(cross), dtype=np.float64)


def assemble(planes: Sequence[DicomHeader], where: str, options: ReadOptions = PLAIN) -> SliceStack:
    """Check that planes form one regular stack, and work out its grid.

    Args:
        planes: headers that belong together, in any order.
        where: the file or folder, for messages.
        options: which repairs are asked for.

    Returns:
        The stack, in slice order.

    Raises:
        SeriesError: they do not, or not without a repair that was not asked for; with the reason and the files concerned.
        ReadError: pixels that cannot be decoded for a reason the headers show.
    """
    check_slices(planes, where)
    check_consistent(planes, where)
    for plane in planes:
        check_decodable(plane)
    frame = _shared(planes, where)
    ordered, positions = sort_by_position(planes, frame.normal)
    kept, repairs = remove_duplicates(ordered, positions, frame.normal, where, options.repair)
    if len(kept) == 1:
        thickness, remark = _single_spacing(kept[0], where)
        geometry = _geometry((kept[0].columns, kept[0].rows, 1), frame, np.array(kept[0].position), frame.normal * thickness)
        remarks = (remark, *_remarks(kept, None))
        return SliceStack(tuple(kept), tuple(kept), geometry, remarks=remarks, repairs=tuple(repairs))
    return _stack(kept, frame, where, options, repairs)


def decode_stack(stack: SliceStack, decode: PlaneDecoder) -> NDArray[np.int16] | NDArray[np.float32]:
    """The grey values of a stack, resampled where that was asked for.

    Args:
        stack: from `assemble`.
        decode: gives the grey values ``(planes, rows, columns)`` of planes, int16 or float32.

    Returns:
        ``(slices, rows, columns)`` on `SliceStack.geometry`. A repaired stack takes the memory of its result and a few planes.
    """
    values: NDArray[np.int16] | NDArray[np.float32]
    values = decode(stack.planes) if stack.resampling is None else resample_planes(stack.resampling, decode)
    return values


def decode_stack_outside(stack: SliceStack, decode: Callable[[Sequence[DicomHeader]], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Which voxels of a stack hold no measured value.

    Args:
        stack: from `assemble`.
        decode: gives which pixels of planes are padding, ``(planes, rows, columns)``.

    Returns:
        ``(slices, rows, columns)`` on `SliceStack.geometry`.
    """
    return decode(stack.planes) if stack.resampling is None else resample_outside(stack.resampling, decode)


def _stack(kept: list[DicomHeader], frame: _PlaneAxes, where: str, options: ReadOptions, repairs: list[str]) -> SliceStack:
    """Two planes or more, one at each place."""
    positions = np.array([plane.position for plane in kept], dtype=np.float64)
    heights = (positions - positions[0]) @ frame.normal
    even, mended = even_spacing(kept, heights, where, options.repair)
    shift = in_plane_shift(kept, positions, frame.normal, position_tolerance_mm(even.spacing), where, options.repair)
    repairs = [*repairs, *mended]
    tilt = shift.degrees(frame.across, frame.down) if shift.is_tilted else 0.0
    remarks = [*_remarks(kept, even), *_tilt_tag_remark(kept[0], tilt)]
    if "tilt" in options.repair and (shift.is_tilted or not shift.is_even):
        plan, geometry = _upright(kept, frame, even, shift, where)
        repairs.append(
            f"resampled slices that shift sideways by up to {np.linalg.norm(shift.shifts, axis=1).max():.4g} mm, a tilt of "
            f"{abs(tilt):.3g} degrees, onto an upright grid of {plan.shape[2]} x {plan.shape[1]} x {plan.shape[0]} voxels"
        )
        return SliceStack(plan.slices, plan.planes, geometry, tilt, tuple(remarks), tuple(repairs), plan)
    if tilt:
        remarks.append(_tilt_remark(tilt, shift, even, len(kept)))
    start, slope = (shift.start, shift.slope) if tilt else (np.zeros(3), np.zeros(3))
    origin = positions[0] + start + (frame.normal + slope) * even.start
    shape = (even.count, kept[0].rows, kept[0].columns)
    geometry = _geometry(shape[::-1], frame, origin, (frame.normal + slope) * even.spacing)
    if not mended:
        return SliceStack(tuple(kept), tuple(kept), geometry, tilt, tuple(remarks), tuple(repairs))
    plan = SliceResampling(tuple(kept), even.levels, np.zeros((len(kept), 2)), shape)
    return SliceStack(plan.slices, plan.planes, geometry, tilt, tuple(remarks), tuple(repairs), plan)


def _upright(
    kept: list[DicomHeader], frame: _PlaneAxes, even: EvenSpacing, shift: InPlaneShift, where: str
) -> tuple[SliceResampling, Geometry]:
    """An orthogonal grid on the pixels of the first plane that holds every plane, each moved to where it lies."""
    first = kept[0]
    pixels = np.stack(
        [shift.shifts @ frame.down / frame.between_rows, shift.shifts @ frame.across / frame.between_columns], axis=1
    )
    pixels = round_to_pixels(pixels)
    low, high = np.floor(pixels.min(axis=0)), np.ceil(pixels.max(axis=0))
    rows, columns = (int(size + last - begin) for size, begin, last in zip((first.rows, first.columns), low, high, strict=True))
    if even.count * rows * columns > max(MOST_GROWTH * len(kept) * first.rows * first.columns, FREE_VOXELS):
        raise SeriesError(
            f"{where}: an upright grid of {columns} x {rows} x {even.count} voxels is more than {MOST_GROWTH} times the scan",
            remedy="Read it without the repair 'tilt'.",
            files=files_of(kept),
        )
    origin = np.array(first.position) + frame.normal * even.start
    origin = origin + low[0] * frame.between_rows * frame.down + low[1] * frame.between_columns * frame.across
    shape = (even.count, rows, columns)
    return SliceResampling(tuple(kept), even.levels, pixels - low, shape), _geometry(
        shape[::-1], frame, origin, frame.normal * even.spacing
    )


def _tilt_remark(tilt: float, shift: InPlaneShift, even: EvenSpacing, count: int) -> str:
    aside = float(np.linalg.norm(shift.slope)) * even.spacing
    told = "" if count > 2 else "; two slices alone cannot tell a tilt from a wrong orientation"
    return f"tilt of {tilt:.3g} degrees: slices shift sideways by {aside:.4g} mm each, so the grid is sheared{told}"


def _tilt_tag_remark(plane: DicomHeader, tilt: float) -> list[str]:
    """Where GantryDetectorTilt contradicts the positions; its sign is left aside, as makers do not agree on it."""
    stated = plane.gantry_tilt
    if stated is None or abs(abs(stated) - abs(tilt)) <= TILT_TAG_TOLERANCE_DEGREES:
        return []
    return [f"GantryDetectorTilt says {abs(stated):.3g} degrees, the positions {abs(tilt):.3g}: positions count"]


def _remarks(kept: Sequence[DicomHeader], even: EvenSpacing | None) -> list[str]:
    remarks = remarks_of(kept)
    if not kept[0].frame_of_reference:
        remarks.append("no FrameOfReferenceUID stored")
    if even is None:
        return remarks
    stated = kept[0].spacing_between
    if stated and abs(abs(stated) - even.spacing) > SPACING_TAG_TOLERANCE * even.spacing:
        remarks.append(f"SpacingBetweenSlices says {stated:.4g} mm, the positions {even.spacing:.4g} mm: positions count")
    return remarks


def _geometry(shape: tuple[int, ...], frame: _PlaneAxes, origin: Floats, step: Floats) -> Geometry:
    affine = np.eye(4)
    affine[:3, 0] = frame.across * frame.between_columns
    affine[:3, 1] = frame.down * frame.between_rows
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return Geometry(shape, flip_lps_ras(affine))


def _shared(planes: Sequence[DicomHeader], where: str) -> _PlaneAxes:
    """The directions and the pixel size, the median over the jitter of rounding."""
    across, down = np.median([plane.orientation for plane in planes], axis=0).reshape(2, 3)
    lengths = float(np.linalg.norm(across)), float(np.linalg.norm(down))
    crooked = max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(across @ down)))
    if crooked > PERPENDICULAR_TOLERANCE:
        raise SeriesError(
            f"{where}: ImageOrientationPatient {planes[0].orientation} is not two perpendicular unit vectors "
            f"({file_names(planes, where)})",
            remedy="Export the original images again.",
            files=files_of(planes),
        )
    rows, columns = np.median([plane.pixel_spacing for plane in planes], axis=0)
    return _PlaneAxes(across / lengths[0], down / lengths[1], float(rows), float(columns))


def _single_spacing(plane: DicomHeader, where: str) -> tuple[float, str]:
    """The depth of a lone slice in mm, and the remark that says where it came from."""
    for what, value in (("SliceThickness", plane.slice_thickness), ("SpacingBetweenSlices", plane.spacing_between)):
        if value is not None and value > 0:
            return value, f"single slice: its depth is {what}, {value:g} mm"
    raise SeriesError(
        f"{where}: a single slice without SliceThickness or SpacingBetweenSlices has no depth ({file_names([plane], where)})",
        remedy="Read the whole series, or export the image as a picture.",
        files=files_of([plane]),
    )
