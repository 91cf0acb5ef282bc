"""The regular stack that planes at known positions belong to, some of its slices left out (DICOM PS3.3 section C.7.6.16.2.3).

Positions count. The slices of the stack are as far apart as the positions allow: the largest distance of which all gaps between
planes are multiples. A stored distance, or thickness, that divides it evenly says that slices without a plane lie between; a
distance that does not is overruled with a remark.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import GRID_TOLERANCE_VOXEL
from voxelry.errors import SeriesError

STACK_TOLERANCE_MM = 0.05
"""Largest distance of a plane from its slice, or `GRID_TOLERANCE_VOXEL` of the spacing where that is more."""

MOST_SLICES = 8192
"""More slices than this are refused: no scan has so many, and a damaged position may imply any number."""

_MOST_PARTS = 12
"""The smallest gap between planes is divided into at most so many slices."""
_SAME_PART = 0.005
"""Largest distance of a plane from its slice where gaps are divided, in slices."""
_SAME_NUMBER = 0.02
"""Relative difference up to which a stored distance agrees with the positions."""


@dataclass(frozen=True)
class StoredDistances:
    """What a file says of the distance between its slices, in mm; None where it does not, or says nothing positive.

    Attributes:
        spacing: SpacingBetweenSlices.
        thickness: SliceThickness.
        pixels: the smaller pixel spacing.
    """

    spacing: float | None
    thickness: float | None
    pixels: float


@dataclass(frozen=True, eq=False)
class FrameStack:
    """A regular stack.

    Attributes:
        origin: ``(3,)`` position of the first slice, mm, LPS+.
        step: ``(3,)`` from one slice to the next.
        slices: the slice of each plane, from 0.
        is_assumed: no two planes are neighbours at a distance that the file states, so that slices may be thinner or thicker.
        remarks: how the distance was decided, where the file is odd.
    """

    origin: NDArray[np.float64]
    step: NDArray[np.float64]
    slices: NDArray[np.int64]
    is_assumed: bool
    remarks: tuple[str, ...]


def stack_of(positions: NDArray[np.float64], normal: NDArray[np.float64], stored: StoredDistances, file: Path) -> FrameStack:
    """The stack that planes belong to.

    Args:
        positions: ``(planes, 3)`` of their first pixels, mm, LPS+; several may be equal.
        normal: ``(3,)`` unit vector across the planes.
        stored: the distances that the file states.
        file: for messages.

    Raises:
        SeriesError: the planes are not slices of one regular stack, or of too many.
    """
    heights = positions @ normal
    levels, level_of = _levels(heights)
    if len(levels) == 1:
        distance, remarks = _of_one_plane(stored)
        return FrameStack(positions[0], normal * distance, np.zeros(len(positions), np.int64), True, remarks)
    gaps = np.diff(levels)
    best: tuple[float, float] | None = None
    for parts in range(1, _MOST_PARTS + 1):
        distance = float(gaps.min()) / parts
        places = np.concatenate([[0.0], np.round(gaps / distance).cumsum()])
        if places[-1] >= MOST_SLICES:
            raise SeriesError(f"{file}: its frames span {places[-1] + 1:.0f} slices, at most {MOST_SLICES} are read")
        fitted = _fitted(positions, normal, places[level_of].astype(np.int64))
        if fitted[2] <= _tolerance(fitted[1], stored, parts):
            return _finest(*fitted[:2], places[level_of].astype(np.int64), float(gaps.min()), stored)
        best = min(best or (np.inf, np.inf), (fitted[2], float(np.linalg.norm(fitted[1]))))
    assert best is not None
    raise SeriesError(
        f"{file}: frames lie up to {best[0]:.3g} mm off a regular stack of {best[1]:.4g} mm",
        remedy="Export it on its image's grid.",
    )


def _levels(heights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The distinct heights, ascending, and which of them each plane has; nearer ones than the tolerance are one."""
    order = np.argsort(heights, kind="stable")
    rank = np.concatenate([[0], (np.diff(heights[order]) > STACK_TOLERANCE_MM).cumsum()])
    level_of = np.empty(len(heights), np.int64)
    level_of[order] = rank
    return np.bincount(level_of, heights) / np.bincount(level_of), level_of


def _of_one_plane(stored: StoredDistances) -> tuple[float, tuple[str, ...]]:
    """The thickness of the only slice, and a remark where the file states none."""
    distance = stored.spacing or stored.thickness
    if distance is not None:
        return distance, ()
    return stored.pixels, (f"one plane, and no thickness is stored: taken to be {stored.pixels:g} mm thick",)


def _fitted(
    positions: NDArray[np.float64], normal: NDArray[np.float64], places: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Origin and step by least squares, along the normal where that fits as well, and the largest distance of a plane from it."""
    centred = places - places.mean()
    step = centred @ positions / (centred @ centred)
    straight = normal * (step @ normal)
    fits: list[tuple[NDArray[np.float64], NDArray[np.float64], float]] = []
    for candidate in (straight, step):
        origin = (positions - places[:, None] * candidate).mean(axis=0)
        fits.append((origin, candidate, float(np.abs(positions - origin - places[:, None] * candidate).max())))
    return fits[0] if fits[0][2] <= max(STACK_TOLERANCE_MM / 5, 2 * fits[1][2]) else fits[1]


def _tolerance(step: NDArray[np.float64], stored: StoredDistances, parts: int) -> float:
    """Largest offset that is allowed; tighter for divided gaps, which fit anything if they are small enough."""
    distance = float(np.linalg.norm(step))
    allowed = max(GRID_TOLERANCE_VOXEL * min(distance, stored.pixels), STACK_TOLERANCE_MM)
    return allowed if parts == 1 else min(allowed, _SAME_PART * distance)


def _finest(
    origin: NDArray[np.float64],
    step: NDArray[np.float64],
    places: NDArray[np.int64],
    gap: float,
    stored: StoredDistances,
) -> FrameStack:
    """The stack with as many empty slices between those of the positions as the file says there are."""
    distance = float(np.linalg.norm(step))
    by_spacing, by_thickness = _parts(distance, stored.spacing), _parts(distance, stored.thickness)
    remarks: list[str] = []
    parts = by_spacing or by_thickness or 1
    if by_spacing and by_spacing > 1 and by_thickness == 1:
        parts, by_spacing = 1, 0
    if stored.spacing and not by_spacing:
        remarks.append(
            f"SpacingBetweenSlices {stored.spacing:g} mm contradicts the positions of the frames: these count, "
            f"slices are {distance / parts:.6g} mm apart"
        )
    elif parts > 1 and not by_spacing:
        remarks.append(
            f"frames lie {gap:.6g} mm apart and are {stored.thickness:g} mm thick: slices between them are taken to be empty"
        )
    is_assumed = not (by_spacing and np.isclose(gap, distance / parts, rtol=_SAME_NUMBER))
    return FrameStack(origin, step / parts, places * parts, is_assumed, tuple(remarks))


def _parts(distance: float, stored: float | None) -> int:
    """Into how many parts a stored distance divides another evenly; 0 where it does not."""
    if stored is None:
        return 0
    parts = round(distance / stored)
    return parts if parts and abs(distance - parts * stored) <= _SAME_NUMBER * stored else 0
