"""Geometric layout of slices: spacing, gantry tilt, missing and duplicate slices, measured without raising."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.stacks.positions import (
    SAME_POSITION_MM,
    EvenSpacing,
    Floats,
    InPlaneShift,
    fit_in_plane_shift,
    fit_spacing,
    position_tolerance_mm,
    slice_positions,
)


@dataclass(frozen=True)
class StackLayout:
    """The layout of planes of one orientation.

    Attributes:
        spacing: distance in mm of neighbouring planes along their normal, the median of uneven ones; None for a single position.
        tilt: gantry tilt in degrees, 0 for an upright stack.
        missing: number of missing slices of an even spacing.
        duplicates: number of planes at the position of another.
        even: the planes are evenly spaced, none is missing, and none is displaced within its plane.

    Example:
        >>> from voxelry.formats.dicom.stacks.layout import measure_layout
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> from voxelry.formats.dicom import scan_headers
        >>> layout = measure_layout(scan_headers(folder).planes)
        >>> layout.missing, layout.duplicates, layout.even
        (0, 0, True)
    """

    spacing: float | None
    tilt: float
    missing: int
    duplicates: int
    even: bool


def has_image_plane(plane: DicomHeader) -> bool:
    """The plane states position, orientation and pixel spacing (Image Plane Module, DICOM PS3.3 section C.7.6.2)."""
    return plane.position is not None and plane.orientation is not None and plane.pixel_spacing is not None


def plane_axes(plane: DicomHeader) -> tuple[Floats, Floats, Floats]:
    """Unit vectors along a row, along a column, and along the normal, LPS+."""
    across, down = np.array(plane.orientation, dtype=np.float64).reshape(2, 3)
    normal = np.cross(across, down)
    return across, down, normal / max(float(np.linalg.norm(normal)), 1e-12)


def measure_layout(planes: Sequence[DicomHeader]) -> StackLayout | None:
    """Measure the layout of planes of one orientation.

    Args:
        planes: in any order.

    Returns:
        The layout; None where a plane states no position.

    Example:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> from voxelry.formats.dicom import scan_headers
        >>> round(measure_layout(scan_headers(folder).planes).spacing)
        20
    """
    if not all(has_image_plane(plane) for plane in planes):
        return None
    across, down, normal = plane_axes(planes[0])
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    positions = positions[np.argsort(positions @ normal, kind="stable")]
    heights = (positions - positions[0]) @ normal
    firsts = [planes_there.start for planes_there in slice_positions(heights)]
    duplicates = len(planes) - len(firsts)
    if len(firsts) == 1:
        return StackLayout(None, 0.0, 0, duplicates, True)
    fit = fit_spacing(heights[firsts])
    spacing = fit.spacing if fit else float(np.median(np.diff(heights[firsts])))
    shift = fit_in_plane_shift(positions[firsts], normal, position_tolerance_mm(spacing))
    tilt = shift.degrees(across, down) if shift.is_tilted and shift.is_even else 0.0
    return StackLayout(spacing, tilt, fit.missing if fit else 0, duplicates, _is_even(fit, shift))


def _is_even(fit: EvenSpacing | None, shift: InPlaneShift) -> bool:
    return fit is not None and fit.missing == 0 and shift.is_even


def position_numbers(planes: Sequence[DicomHeader]) -> list[int]:
    """Number the distinct positions of planes: equal for planes of the same height along the normal and the same corner.

    Args:
        planes: planes of one orientation, each with a position.

    Returns:
        Numbers from 0, in the order of the planes.
    """
    across, down, normal = plane_axes(planes[0])
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    keys = np.stack([_runs(positions @ axis) for axis in (normal, across, down)], axis=1)
    return [int(number) for number in np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)]


def _runs(values: Floats) -> Floats:
    """Number the distinct values: equal for values within `SAME_POSITION_MM` of their neighbour."""
    order = np.argsort(values, kind="stable")
    numbers = np.empty(len(values))
    numbers[order] = np.concatenate([[0], np.cumsum(np.diff(values[order]) > SAME_POSITION_MM)])
    return numbers


def in_plane_corners(planes: Sequence[DicomHeader]) -> list[tuple[float, float]]:
    """The first pixel of each plane within its plane: mm along rows and along columns, rounded to whole mm."""
    across, down, _ = plane_axes(planes[0])
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    flat = np.rint(np.stack([positions @ across, positions @ down], axis=1))
    return [(float(x), float(y)) for x, y in flat]
