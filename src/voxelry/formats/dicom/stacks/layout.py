"""How planes lie in the patient, measured without judging: for telling groups apart and for showing them."""

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
    """Where the planes of a group lie.

    Attributes:
        spacing: mm from a plane to the next along their normal, the median where they are uneven; None for a single place.
        tilt: degrees by which planes run off their normal, 0 where they do not.
        missing: planes that an even spacing lacks.
        duplicates: planes at the place of another.
        even: the places lie at even distances, none missing, and do not shift sideways unevenly.
    """

    spacing: float | None
    tilt: float
    missing: int
    duplicates: int
    even: bool


def has_image_plane(plane: DicomHeader) -> bool:
    """The plane says where it lies: position, orientation and pixel spacing."""
    return plane.position is not None and plane.orientation is not None and plane.pixel_spacing is not None


def plane_axes(plane: DicomHeader) -> tuple[Floats, Floats, Floats]:
    """Unit vectors along a row, down a column, and along the normal, LPS+."""
    across, down = np.array(plane.orientation, dtype=np.float64).reshape(2, 3)
    normal = np.cross(across, down)
    return across, down, normal / max(float(np.linalg.norm(normal)), 1e-12)


def measure_layout(planes: Sequence[DicomHeader]) -> StackLayout | None:
    """How planes of one orientation lie; None where one of them has no place.

    Args:
        planes: in any order.

    Returns:
        The layout.
    """
    if not all(has_image_plane(plane) for plane in planes):
        return None
    across, down, normal = plane_axes(planes[0])
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    positions = positions[np.argsort(positions @ normal, kind="stable")]
    heights = (positions - positions[0]) @ normal
    firsts = [run.start for run in slice_positions(heights)]
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
    """A number for each plane, equal for planes at one place: the same height along the normal, the same corner.

    Args:
        planes: with a place each, of one orientation.

    Returns:
        Numbers from 0, in the order of the planes.
    """
    across, down, normal = plane_axes(planes[0])
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    keys = np.stack([_runs(positions @ axis) for axis in (normal, across, down)], axis=1)
    return [int(number) for number in np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)]


def _runs(values: Floats) -> Floats:
    """A number for each value, equal for those within `SAME_POSITION_MM` of their neighbour."""
    order = np.argsort(values, kind="stable")
    numbers = np.empty(len(values))
    numbers[order] = np.concatenate([[0], np.cumsum(np.diff(values[order]) > SAME_POSITION_MM)])
    return numbers


def in_plane_corners(planes: Sequence[DicomHeader]) -> list[tuple[float, float]]:
    """Where each plane's first pixel lies within its plane: mm along rows and down columns, rounded to whole mm."""
    across, down, _ = plane_axes(planes[0])
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    flat = np.rint(np.stack([positions @ across, positions @ down], axis=1))
    return [(float(x), float(y)) for x, y in flat]
