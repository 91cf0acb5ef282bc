"""Slice positions: sorted along the normal, fitted by an even line, with its holes, its tilt, and what lies off it.

Two fits by least squares, both judged by one absolute tolerance in mm (`position_tolerance_mm`):

* heights, the distances along the normal: ``start + spacing * level``. Whole levels from 0; one left out is a missing slice.
* sideways shifts, what is left across the normal: ``shift + slope * height``. A slope is the tilt of a gantry; its sign and
  direction are whatever the positions say, so every tilt of every oblique stack is the same case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from voxelry.formats.dicom.header import DicomHeader

SLICE_TOLERANCE_MM = 0.06
"""How far a slice may lie from its place on the fitted line: scanners write positions rounded, to 0.1 mm at worst, which puts a
slice up to 0.05 mm out of place, and the fit up to 0.01 mm more."""

SAME_POSITION_MM = 0.02
"""Slices closer than this lie at one place: twice the 0.01 mm by which rounded copies of a position differ."""

LARGEST_TILT_DEGREES = 60.0
"""Gantries tilt by up to 30 degrees; slices that run further off their normal have a wrong orientation or position."""

SMALLEST_TILT = 1e-4
"""mm of shift for each mm of height: less may come from an orientation whose decimals were rounded."""

_EXACT_MM = 1e-3
_CLEAR = 0.02
_ROUNDING_MM = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EvenSpacing:
    """Slices at even heights.

    Attributes:
        start: height in mm of the first slice.
        spacing: mm from a slice to the next.
        levels: ``(planes,)`` the slice at which each plane lies, ascending; whole numbers from 0 for a series on one lattice,
            fractions where uneven planes lie between the slices of a grid to resample to.
        count: slices.
    """

    start: float
    spacing: float
    levels: Floats
    count: int

    @property
    def steps(self) -> NDArray[np.int64]:
        """``(planes - 1,)`` slices from each plane to the next: more than 1 at a hole."""
        return np.rint(np.diff(self.levels)).astype(np.int64)

    @property
    def missing(self) -> int:
        """Slices that no plane gives."""
        return self.count - len(self.levels)


@dataclass(frozen=True, eq=False)
class InPlaneShift:
    """How slices shift across their normal.

    Attributes:
        shifts: ``(planes, 3)`` LPS+ mm, of each plane against the first.
        start: ``(3,)`` fitted shift at height 0.
        slope: ``(3,)`` mm of shift for each mm of height.
        off: ``(planes,)`` mm by which each plane lies off the fit.
        limit: mm, the tolerance it is judged by.
        reach: mm, the height of the last plane above the first.
    """

    shifts: Floats
    start: Floats
    slope: Floats
    off: Floats
    limit: float
    reach: float

    @property
    def is_even(self) -> bool:
        """Every slice shifts in step with its height, or not at all."""
        return bool(self.off.max() <= self.limit)

    @property
    def is_tilted(self) -> bool:
        """The shift over the whole stack is more than rounding explains, or so even that it is no rounding."""
        slope = float(np.linalg.norm(self.slope))
        shift = slope * self.reach
        is_clear = len(self.off) > 2 and slope > SMALLEST_TILT and shift > _EXACT_MM and float(self.off.max()) < _CLEAR * shift
        return shift > self.limit or is_clear

    def degrees(self, across: Floats, down: Floats) -> float:
        """The tilt, with the sign of its larger part: along rows (`across`) or down columns."""
        parts = float(self.slope @ across), float(self.slope @ down)
        larger = max(parts, key=abs)
        return float(np.copysign(np.degrees(np.arctan(np.linalg.norm(self.slope))), larger))


def sort_by_position(planes: Sequence[DicomHeader], normal: Floats) -> tuple[list[DicomHeader], Floats]:
    """Sort along the normal; planes at one place by file name.

    Args:
        planes: with positions.
        normal: unit vector, LPS+.

    Returns:
        The sorted headers, and their positions ``(n, 3)``, LPS+ mm.
    """
    ordered = sorted(planes, key=lambda plane: (float(np.dot(normal, np.array(plane.position))), str(plane.path), plane.name))
    return ordered, np.array([plane.position for plane in ordered], dtype=np.float64)


def position_tolerance_mm(spacing: float) -> float:
    """How far in mm slices of this spacing may be out of place: `SLICE_TOLERANCE_MM`, a quarter of it where slices are thin."""
    return min(SLICE_TOLERANCE_MM, spacing / 4) + _ROUNDING_MM


def slice_positions(heights: Floats) -> list[range]:
    """Runs of planes that lie at one place.

    Args:
        heights: ``(n,)`` ascending, mm.

    Returns:
        For each place the planes there; in a plain series each alone.
    """
    average = float(heights[-1] - heights[0]) / max(len(heights) - 1, 1)
    near = max(_EXACT_MM, min(SAME_POSITION_MM, average / 4))
    starts = [0, *(int(i) + 1 for i in np.flatnonzero(np.diff(heights) > near)), len(heights)]
    return [range(first, last) for first, last in pairwise(starts)]


def fit_spacing(heights: Floats) -> EvenSpacing | None:
    """Fit an even lattice, some of whose slices may be missing.

    The spacing begins as the average of the gaps about as small as the smallest; each gap is a whole number of it, and a fit
    to all heights then gives spacing and start. A series with every other slice left out is an even one of twice the spacing.

    Args:
        heights: ``(n,)`` ascending, mm, at least two, one at each place.

    Returns:
        The fit, or None where a plane lies further from its place than `position_tolerance_mm`.
    """
    gaps = np.diff(heights)
    smallest = float(gaps.min())
    spacing = float(gaps[gaps <= smallest + 2 * position_tolerance_mm(smallest)].mean())
    levels = np.concatenate([[0.0], np.cumsum(np.maximum(np.rint(gaps / spacing), 1))])
    for _ in range(2):
        slope, offset = _straight(levels, heights)
        spacing, start = float(slope), float(offset)
        levels = np.rint((heights - start) / spacing)
    even = EvenSpacing(start, spacing, levels, int(levels[-1]) + 1)
    off = float(np.abs(heights - start - spacing * levels).max())
    one_each = levels[0] == 0 and (np.diff(levels) >= 1).all()
    return even if one_each and off <= position_tolerance_mm(spacing) else None


def resampled_spacing(heights: Floats, spacing: float) -> EvenSpacing:
    """Even slices from the first plane to the last, as the target of resampling unevenly spaced planes.

    Args:
        heights: ``(n,)`` ascending, mm.
        spacing: mm, about what is wanted; it is adjusted so that a whole number of steps spans the stack.
    """
    reach = float(heights[-1] - heights[0])
    steps = max(round(reach / spacing), 1)
    spacing = reach / steps
    levels = (heights - heights[0]) / spacing
    whole = np.rint(levels)
    return EvenSpacing(
        float(heights[0]), spacing, np.where(np.abs(levels - whole) * spacing < _EXACT_MM, whole, levels), steps + 1
    )


def fit_in_plane_shift(positions: Floats, normal: Floats, limit: float) -> InPlaneShift:
    """Fit how slices shift across their normal.

    Args:
        positions: ``(n, 3)`` of sorted planes, LPS+ mm, at least two.
        normal: unit vector, LPS+.
        limit: mm, the tolerance.

    Returns:
        The fit. Two planes always lie on it.
    """
    offsets = positions - positions[0]
    heights = offsets @ normal
    shifts = offsets - np.outer(heights, normal)
    slope, start = _straight(heights, shifts)
    off = np.linalg.norm(shifts - start - np.outer(heights, slope), axis=1)
    return InPlaneShift(shifts, start, slope, off, limit, float(heights[-1]))


def _straight(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Slope and value at 0 of the line of least squares through ``y(x)``, for each column of `y`."""
    centred = x - x.mean()
    slope = centred @ y / (centred @ centred)
    return slope, y.mean(axis=0) - slope * x.mean()
