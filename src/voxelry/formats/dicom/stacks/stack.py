"""Assembles the planes of a DICOM series into a stack: slice order, grid and repairs, from headers alone.

Consistent planes (`consistency`) with even positions (`positions`) make an affine grid; with a tilted gantry, a sheared one.
Uneven positions are an error with the files concerned, or are repaired on request (`repair`); nothing is guessed.

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
from voxelry.formats.dicom.pixels.decode import check_decodable
from voxelry.formats.dicom.pixels.grey_values import has_padding, remarks_of
from voxelry.formats.dicom.stacks.consistency import check_consistent, check_slices
from voxelry.formats.dicom.stacks.positions import (
    SLICE_TOLERANCE_MM,
    EvenSpacing,
    Floats,
    InPlaneShift,
    position_tolerance_mm,
    sort_by_position,
)
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
"""Largest deviation of the row and column directions from unit length and from perpendicular (cosine)."""

SPACING_TAG_TOLERANCE = 0.01
"""Relative difference between SpacingBetweenSlices and the positions from which there is a remark."""

TILT_TAG_TOLERANCE_DEGREES = 0.5
"""Difference between GantryDetectorTilt and the tilt of the positions from which there is a remark."""

MOST_GROWTH = 8
"""Largest factor by which resampling to an upright grid may increase the voxels: beyond it, a position is far off."""

FREE_VOXELS = 2**24
"""An upright grid of up to this many voxels is never too large."""


@dataclass(frozen=True)
class SliceStack:
    """A series on its grid.

    Attributes:
        slices: the plane that each slice of the grid holds, along the normal (row direction x column direction in LPS+); None for
            a slice that is interpolated, moved or padded.
        planes: the planes to decode, in slice order; without repairs the same as `slices`.
        geometry: grid ``(columns, rows, slices)``, RAS+ mm; sheared where the gantry is tilted.
        tilt: gantry tilt in degrees, 0 for an upright stack; positive where slices shift along rows or columns
            (whichever is more) as they go up the normal.
        remarks: decisions about the grid, for people.
        repairs: repairs made, for people.
        resampling: mapping from planes to slices; None where the planes are the slices.

    Example:
        >>> from voxelry.formats.dicom.stacks.stack import assemble
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> from voxelry.formats.dicom import scan_headers
        >>> stack = assemble(scan_headers(folder).planes, "scan")
        >>> stack.geometry.shape, stack.tilt, stack.repairs
        ((16, 12, 12), 0.0, ())
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
        """Some voxels may hold no measured value: planes are padded, or the grid is larger than they are."""
        is_larger = self.resampling is not None and self.resampling.shape[1:] != (self.planes[0].rows, self.planes[0].columns)
        return is_larger or has_padding(self.planes)


@dataclass(frozen=True)
class _PlaneAxes:
    """Row and column direction (unit vectors, LPS+) and pixel spacing (mm) that all planes share."""

    across: Floats
    down: Floats
    row_spacing: float
    column_spacing: float

    @property
    def normal(self) -> Floats:
        cross = np.cross(self.across, self.down)
        return np.asarray(cross / np.linalg.norm(cross), dtype=np.float64)


def assemble(planes: Sequence[DicomHeader], where: str, options: ReadOptions = PLAIN) -> SliceStack:
    """Check that planes form one regular stack, and compute its grid.

    Args:
        planes: headers of one volume, in any order.
        where: the file or folder, for messages.
        options: the requested repairs.

    Returns:
        The stack, in slice order.

    Raises:
        SeriesError: they do not, or only with a repair that is not requested; with the reason and the files concerned.
        ReadError: pixels that cannot be decoded for a reason in the headers.

    Example:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> from voxelry.formats.dicom import scan_headers
        >>> assemble(scan_headers(folder).planes, "scan").geometry.orientation
        'LPS'
    """
    check_slices(planes, where)
    check_consistent(planes, where)
    for plane in planes:
        check_decodable(plane)
    axes = _plane_axes(planes, where)
    ordered, positions = sort_by_position(planes, axes.normal)
    distinct, repairs = remove_duplicates(ordered, positions, axes.normal, where, options.repair)
    if len(distinct) == 1:
        return _single_slice(distinct[0], axes, where, repairs)
    return _stack(distinct, axes, where, options, repairs)


def decode_stack(stack: SliceStack, decode: PlaneDecoder) -> NDArray[np.int16] | NDArray[np.float32]:
    """Decode a stack to grey values, resampled where it is repaired.

    Args:
        stack: from `assemble`.
        decode: decodes planes to grey values ``(planes, rows, columns)``, int16 or float32.

    Returns:
        ``(slices, rows, columns)`` on `SliceStack.geometry`. A repaired stack takes the memory of its result and a few planes.
    """
    values: NDArray[np.int16] | NDArray[np.float32]
    values = decode(stack.planes) if stack.resampling is None else resample_planes(stack.resampling, decode)
    return values


def decode_stack_outside(stack: SliceStack, decode: Callable[[Sequence[DicomHeader]], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Find the voxels of a stack that hold no measured value.

    Args:
        stack: from `assemble`.
        decode: decodes planes to a mask of their padding, ``(planes, rows, columns)``.

    Returns:
        ``(slices, rows, columns)`` on `SliceStack.geometry`.
    """
    return decode(stack.planes) if stack.resampling is None else resample_outside(stack.resampling, decode)


def _single_slice(plane: DicomHeader, axes: _PlaneAxes, where: str, repairs: Sequence[str]) -> SliceStack:
    thickness, remark = _single_spacing(plane, where)
    geometry = _geometry((plane.columns, plane.rows, 1), axes, np.array(plane.position), axes.normal * thickness)
    return SliceStack((plane,), (plane,), geometry, remarks=(remark, *_remarks([plane], None)), repairs=tuple(repairs))


def _stack(planes: list[DicomHeader], axes: _PlaneAxes, where: str, options: ReadOptions, repairs: list[str]) -> SliceStack:
    """A stack of two planes or more, one at each position."""
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    heights = (positions - positions[0]) @ axes.normal
    even, spacing_repairs = even_spacing(planes, heights, where, options.repair)
    shift = in_plane_shift(planes, positions, axes.normal, position_tolerance_mm(even.spacing), where, options.repair)
    repairs = [*repairs, *spacing_repairs]
    tilt = shift.degrees(axes.across, axes.down) if shift.is_tilted else 0.0
    remarks = [*_remarks(planes, even), *_tilt_tag_remark(planes[0], tilt)]
    if "tilt" in options.repair and (shift.is_tilted or not shift.is_even):
        plan, geometry = _upright(planes, axes, even, shift, where)
        repairs.append(
            f"resampled slices that shift sideways by up to {np.linalg.norm(shift.shifts, axis=1).max():.4g} mm, a tilt of "
            f"{abs(tilt):.3g} degrees, onto an upright grid of {plan.shape[2]} x {plan.shape[1]} x {plan.shape[0]} voxels"
        )
        return SliceStack(plan.slices, plan.planes, geometry, tilt, tuple(remarks), tuple(repairs), plan)
    if tilt:
        remarks.append(_tilt_remark(tilt, shift, even, len(planes)))
    step = axes.normal + shift.slope
    origin = positions[0] + shift.start + step * even.start
    shape = (even.count, planes[0].rows, planes[0].columns)
    geometry = _geometry(shape[::-1], axes, origin, step * even.spacing)
    remarks += _distance_remark(positions, origin + np.outer(even.levels * even.spacing, step))
    if not spacing_repairs:
        return SliceStack(tuple(planes), tuple(planes), geometry, tilt, tuple(remarks), tuple(repairs))
    plan = SliceResampling(tuple(planes), even.levels, np.zeros((len(planes), 2)), shape)
    return SliceStack(plan.slices, plan.planes, geometry, tilt, tuple(remarks), tuple(repairs), plan)


def _upright(
    planes: list[DicomHeader], axes: _PlaneAxes, even: EvenSpacing, shift: InPlaneShift, where: str
) -> tuple[SliceResampling, Geometry]:
    """An orthogonal grid, aligned with the pixels of the first plane, that covers every plane at its own position."""
    first = planes[0]
    pixels = np.stack([shift.shifts @ axes.down / axes.row_spacing, shift.shifts @ axes.across / axes.column_spacing], axis=1)
    pixels = round_to_pixels(pixels)
    low, high = np.floor(pixels.min(axis=0)), np.ceil(pixels.max(axis=0))
    rows, columns = (int(size + last - begin) for size, begin, last in zip((first.rows, first.columns), low, high, strict=True))
    if even.count * rows * columns > max(MOST_GROWTH * len(planes) * first.rows * first.columns, FREE_VOXELS):
        raise SeriesError(
            f"{where}: an upright grid of {columns} x {rows} x {even.count} voxels is more than {MOST_GROWTH} times the scan",
            remedy="Read it without the repair 'tilt'.",
            files=files_of(planes),
        )
    origin = np.array(first.position) + axes.normal * even.start
    origin = origin + low[0] * axes.row_spacing * axes.down + low[1] * axes.column_spacing * axes.across
    shape = (even.count, rows, columns)
    return SliceResampling(tuple(planes), even.levels, pixels - low, shape), _geometry(
        shape[::-1], axes, origin, axes.normal * even.spacing
    )


def _distance_remark(positions: Floats, fitted: Floats) -> list[str]:
    """A remark where planes lie further from their slices than along the normal or across it alone is allowed."""
    distance = float(np.linalg.norm(positions - fitted, axis=1).max())
    return [f"slices lie up to {distance:.2g} mm from their positions on the grid"] if distance > SLICE_TOLERANCE_MM else []


def _tilt_remark(tilt: float, shift: InPlaneShift, even: EvenSpacing, count: int) -> str:
    shift_mm = float(np.linalg.norm(shift.slope)) * even.spacing
    doubt = "" if count > 2 else "; two slices alone do not distinguish a tilt from a wrong orientation"
    return f"tilt of {tilt:.3g} degrees: slices shift sideways by {shift_mm:.4g} mm each, so the grid is sheared{doubt}"


def _tilt_tag_remark(plane: DicomHeader, tilt: float) -> list[str]:
    """A remark where GantryDetectorTilt contradicts the positions; signs are not compared, as vendors disagree on them."""
    tag = plane.gantry_tilt
    if tag is None or abs(abs(tag) - abs(tilt)) <= TILT_TAG_TOLERANCE_DEGREES:
        return []
    return [f"GantryDetectorTilt states {abs(tag):.3g} degrees, the positions {abs(tilt):.3g}: positions count"]


def _remarks(planes: Sequence[DicomHeader], even: EvenSpacing | None) -> list[str]:
    remarks = remarks_of(planes)
    if planes[0].is_localizer:
        remarks.append("localizer: a scout view to plan others by, as ImageType says")
    elif planes[0].is_called_localizer:
        remarks.append("perhaps a localizer, a scout view to plan others by: its SeriesDescription says so")
    if not planes[0].frame_of_reference:
        remarks.append("no FrameOfReferenceUID stored")
    if even is None:
        return remarks
    tag = planes[0].spacing_between
    if tag and abs(abs(tag) - even.spacing) > SPACING_TAG_TOLERANCE * even.spacing:
        remarks.append(f"SpacingBetweenSlices states {tag:.4g} mm, the positions {even.spacing:.4g} mm: positions count")
    return remarks


def _geometry(shape: tuple[int, ...], axes: _PlaneAxes, origin: Floats, step: Floats) -> Geometry:
    affine = np.eye(4)
    affine[:3, 0] = axes.across * axes.column_spacing
    affine[:3, 1] = axes.down * axes.row_spacing
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return Geometry(shape, flip_lps_ras(affine))


def _plane_axes(planes: Sequence[DicomHeader], where: str) -> _PlaneAxes:
    """The median directions and pixel spacing of the planes, which differ by rounding."""
    across, down = np.median([plane.orientation for plane in planes], axis=0).reshape(2, 3)
    lengths = float(np.linalg.norm(across)), float(np.linalg.norm(down))
    deviation = max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(across @ down)))
    if deviation > PERPENDICULAR_TOLERANCE:
        raise SeriesError(
            f"{where}: ImageOrientationPatient {planes[0].orientation} is not two perpendicular unit vectors "
            f"({file_names(planes, where)})",
            remedy="Export the original images again.",
            files=files_of(planes),
        )
    rows, columns = np.median([plane.pixel_spacing for plane in planes], axis=0)
    return _PlaneAxes(across / lengths[0], down / lengths[1], float(rows), float(columns))


def _single_spacing(plane: DicomHeader, where: str) -> tuple[float, str]:
    """The depth of a single slice in mm, and a remark that names the element it is from."""
    for element, value in (("SliceThickness", plane.slice_thickness), ("SpacingBetweenSlices", plane.spacing_between)):
        if value is not None and value > 0:
            return value, f"single slice: its depth is {element}, {value:g} mm"
    raise SeriesError(
        f"{where}: a single slice without SliceThickness or SpacingBetweenSlices has no depth ({file_names([plane], where)})",
        remedy="Read the whole series, or export the image as a picture.",
        files=files_of([plane]),
    )
