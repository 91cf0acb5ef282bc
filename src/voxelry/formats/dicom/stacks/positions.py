"""Slice positions: sorted along the slice normal and fitted by evenly spaced slices, with missing slices and gantry tilt.

Two least-squares fits, both judged by one absolute tolerance in mm (`position_tolerance_mm`):

* heights, the distances along the normal: ``start + spacing * level``, with integer levels from 0; a level without a plane is a
  missing slice.
* in-plane shifts, the remaining displacement across the normal: ``start + slope * height``. The slope is the gantry tilt; sign
  and direction follow from the positions, so that any tilt of an oblique stack is the same case. It is 0 where rounding explains
  the shifts; `start` is then their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from voxelry.formats.dicom.header import DicomHeader

SLICE_TOLERANCE_MM = 0.06
"""Largest distance of a slice from its fitted position: scanners round positions to 0.1 mm at worst, which moves a slice by up to
0.05 mm, and the fit by up to 0.01 mm more."""

SAME_POSITION_MM = 0.02
"""Slices closer than this are at the same position: twice the 0.01 mm by which rounded copies of a position differ."""

LARGEST_TILT_DEGREES = 60.0
"""Gantries tilt by up to 30 degrees; a larger angle than this means a wrong orientation or position."""

SMALLEST_TILT = 1e-4
"""mm of shift per mm of height: less may come from an orientation with rounded decimals."""

_EXACT_MM = 1e-3
_CLEAR = 0.02
_ROUNDING_MM = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EvenSpacing:
    """Evenly spaced slices along the normal.

    Attributes:
        start: height of the first slice in mm.
        spacing: distance of neighbouring slices in mm.
        levels: ``(planes,)`` slice index of each plane, ascending; integers from 0 where the planes are evenly spaced, fractions
            where uneven planes lie between the slices of a grid to resample to.
        count: number of slices.
    """

    start: float
    spacing: float
    levels: Floats
    count: int

    @property
    def steps(self) -> NDArray[np.int64]:
        """``(planes - 1,)`` slices from each plane to the next: more than 1 where slices are missing."""
        return np.rint(np.diff(self.levels)).astype(np.int64)

    @property
    def missing(self) -> int:
        """Number of slices without a plane."""
        return self.count - len(self.levels)


@dataclass(frozen=True, eq=False)
class InPlaneShift:
    """Displacement of slices within their planes, as by a tilted gantry.

    Attributes:
        shifts: ``(planes, 3)`` LPS+ mm, of each plane relative to the first.
        start: ``(3,)`` fitted shift at height 0.
        slope: ``(3,)`` mm of shift per mm of height, 0 for an upright stack.
        residuals: ``(planes,)`` distance in mm of each plane from the fit.
        tolerance: largest residual in mm of an even shift.
    """

    shifts: Floats
    start: Floats
    slope: Floats
    residuals: Floats
    tolerance: float

    @property
    def is_even(self) -> bool:
        """The shift is proportional to the height, or zero, for every slice."""
        return bool(self.residuals.max() <= self.tolerance)

    @property
    def is_tilted(self) -> bool:
        """Slices shift in proportion to their height."""
        return bool(self.slope.any())

    def degrees(self, across: Floats, down: Floats) -> float:
        """The tilt, with the sign of its larger component: along rows (`across`) or down columns (`down`)."""
        components = float(self.slope @ across), float(self.slope @ down)
        larger = max(components, key=abs)
        return float(np.copysign(np.degrees(np.arctan(np.linalg.norm(self.slope))), larger))


def sort_by_position(planes: Sequence[DicomHeader], normal: Floats) -> tuple[list[DicomHeader], Floats]:
    """Sort planes along the normal, those at the same position by file name.

    Args:
        planes: with positions.
        normal: unit vector, LPS+.

    Returns:
        The sorted headers, and their positions ``(n, 3)``, LPS+ mm.
    """
    ordered = sorted(planes, key=lambda plane: (float(np.dot(normal, np.array(plane.position))), str(plane.path), plane.name))
    return ordered, np.array([plane.position for plane in ordered], dtype=np.float64)


def position_tolerance_mm(spacing: float) -> float:
    """Largest distance of slices of this spacing from their fitted positions: `SLICE_TOLERANCE_MM`, or spacing / 4 if less."""
    return min(SLICE_TOLERANCE_MM, spacing / 4) + _ROUNDING_MM


def slice_positions(heights: Floats) -> list[range]:
    """The distinct positions of sorted planes.

    Args:
        heights: ``(n,)`` ascending, mm.

    Returns:
        For each position the range of planes there; a single plane each in a series without duplicates.
    """
    average = float(heights[-1] - heights[0]) / max(len(heights) - 1, 1)
    near = max(_EXACT_MM, min(SAME_POSITION_MM, average / 4))
    starts = [0, *(int(i) + 1 for i in np.flatnonzero(np.diff(heights) > near)), len(heights)]
    return [range(first, last) for first, last in pairwise(starts)]


def fit_spacing(heights: Floats) -> EvenSpacing | None:
    """Fit evenly spaced slices, some of which may be missing.

    The initial spacing is the average of the gaps close to the smallest; each gap is rounded to a multiple of it, and a fit to
    all heights then gives spacing and start. A series without every other slice is an even one of twice the spacing.

    Args:
        heights: ``(n,)`` ascending, mm, at least two, one at each position.

    Returns:
        The fit, or None where a plane lies further from its fitted position than `position_tolerance_mm`.
    """
    gaps = np.diff(heights)
    smallest = float(gaps.min())
    spacing = float(gaps[gaps <= smallest + 2 * position_tolerance_mm(smallest)].mean())
    levels = np.concatenate([[0.0], np.cumsum(np.maximum(np.rint(gaps / spacing), 1))])
    for _ in range(2):
        slope, offset = _fit_line(levels, heights)
        spacing, start = float(slope), float(offset)
        levels = np.rint((heights - start) / spacing)
    residual = float(np.abs(heights - start - spacing * levels).max())
    is_one_each = levels[0] == 0 and (np.diff(levels) >= 1).all()
    if not is_one_each or residual > position_tolerance_mm(spacing):
        return None
    return EvenSpacing(start, spacing, levels, int(levels[-1]) + 1)


def resampled_spacing(heights: Floats, spacing: float) -> EvenSpacing:
    """Even slices from the first plane to the last, as the target of resampling unevenly spaced planes.

    Args:
        heights: ``(n,)`` ascending, mm.
        spacing: desired spacing in mm; adjusted so that a whole number of steps spans the stack.
    """
    extent = float(heights[-1] - heights[0])
    steps = max(round(extent / spacing), 1)
    spacing = extent / steps
    levels = (heights - heights[0]) / spacing
    whole = np.rint(levels)
    return EvenSpacing(
        float(heights[0]), spacing, np.where(np.abs(levels - whole) * spacing < _EXACT_MM, whole, levels), steps + 1
    )


def fit_in_plane_shift(positions: Floats, normal: Floats, tolerance: float) -> InPlaneShift:
    """Fit the displacement of slices across their normal.

    Args:
        positions: ``(n, 3)`` of sorted planes, LPS+ mm, at least two.
        normal: unit vector, LPS+.
        tolerance: largest residual in mm of an even shift.

    Returns:
        The fit of a line; of a point, where that fits and the line is no tilt. Two tilted planes always have residual 0.
    """
    offsets = positions - positions[0]
    heights = offsets @ normal
    shifts = offsets - np.outer(heights, normal)
    slope, start = _fit_line(heights, shifts)
    residuals = np.linalg.norm(shifts - start - np.outer(heights, slope), axis=1)
    middle = shifts.mean(axis=0)
    from_middle = np.linalg.norm(shifts - middle, axis=1)
    if not _is_tilt(slope, residuals, float(heights[-1]), tolerance) and from_middle.max() <= tolerance:
        return InPlaneShift(shifts, middle, np.zeros(3), from_middle, tolerance)
    return InPlaneShift(shifts, start, slope, residuals, tolerance)


def _is_tilt(slope: Floats, residuals: Floats, extent: float, tolerance: float) -> bool:
    """The shift over the whole stack is larger than rounding explains, or too regular to be rounding."""
    rate = float(np.linalg.norm(slope))
    shift = rate * extent
    is_larger = rate > SMALLEST_TILT and shift > _EXACT_MM
    is_regular = len(residuals) > 2 and float(residuals.max()) < _CLEAR * shift
    return shift > tolerance or (is_larger and is_regular)


def _fit_line(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept of the least-squares line through ``y(x)``, for each column of `y`."""
    centred = x - x.mean()
    slope = centred @ y / (centred @ centred)
    return slope, y.mean(axis=0) - slope * x.mean()
