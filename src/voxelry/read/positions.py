"""Slice positions: sorted along the normal and checked to be evenly spaced, one at each place, without tilt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import SeriesError
from voxelry.read.dicom_header import DicomHeader

SLICE_TOLERANCE_MM = 0.05
"""How far a slice may lie from its place on the even grid: scanners write positions rounded."""

SLICE_TOLERANCE_RATIO = 0.01
"""The same as a part of the spacing, where that allows more; where slices are very thin, a quarter of the spacing bounds it."""

SAME_PLACE_MM = 1e-3
"""Slices closer than this lie at one place."""

_SHOWN = 5


def sort_by_position(images: Sequence[DicomHeader], normal: NDArray[np.float64]) -> tuple[list[DicomHeader], NDArray[np.float64]]:
    """Sort along the normal; slices at one place by file name.

    Args:
        images: with positions.
        normal: unit vector, LPS+.

    Returns:
        The sorted headers, and their positions ``(n, 3)``, LPS+ mm.
    """
    ordered = sorted(images, key=lambda header: (float(np.dot(normal, np.array(header.position))), str(header.path)))
    return ordered, np.array([header.position for header in ordered], dtype=np.float64)


def tolerance_mm(spacing: float) -> float:
    """How far in mm slices of this spacing may be out of place."""
    return max(min(SLICE_TOLERANCE_MM, spacing / 4), SLICE_TOLERANCE_RATIO * spacing)


def check_spacing(
    ordered: Sequence[DicomHeader], positions: NDArray[np.float64], normal: NDArray[np.float64], where: str
) -> NDArray[np.float64]:
    """Check that sorted slices are evenly spaced along the normal.

    Args:
        ordered: headers, at least two.
        positions: ``(n, 3)`` of their first pixels, LPS+ mm.
        normal: unit vector, LPS+.
        where: the folder, for messages.

    Returns:
        The vector from a slice to the next, along the normal, LPS+ mm.

    Raises:
        SeriesError: duplicates, missing slices, uneven spacing, or a tilt; naming the files on either side.
    """
    gaps = np.diff(positions @ normal)
    _check_duplicates(ordered, gaps, where)
    spacing = float(np.median(gaps))
    limit = tolerance_mm(spacing)
    _check_gaps(ordered, gaps, spacing, limit, where)
    even = float((positions[-1] - positions[0]) @ normal) / (len(positions) - 1)
    expected = positions[0] @ normal + even * np.arange(len(positions))
    out_of_place = np.abs(positions @ normal - expected)
    if out_of_place.max() > limit:
        _refuse_uneven(ordered, gaps, [int(np.argmax(out_of_place))], where)
    _check_tilt(ordered, positions, normal, limit, where)
    step: NDArray[np.float64] = normal * even
    return step


def _check_duplicates(ordered: Sequence[DicomHeader], gaps: NDArray[np.float64], where: str) -> None:
    """Two images at one place: a copy, or echoes, phases and time points in one series."""
    same = np.flatnonzero(gaps < SAME_PLACE_MM)
    if not len(same):
        return
    one, other = ordered[int(same[0])], ordered[int(same[0]) + 1]
    shown = [str(header.path.relative_to(where) if header.path.is_relative_to(where) else header.path) for header in (one, other)]
    raise SeriesError(
        f"{where}: {len(same)} of {len(ordered)} images lie at the place of another, as {shown[0]} and {shown[1]}: "
        f"{_difference(one, other)}",
        remedy="Remove copies; put each echo, phase or time point into a folder of its own.",
    )


def _difference(one: DicomHeader, other: DicomHeader) -> str:
    """What tells two images at one place apart."""
    if one.sop_instance == other.sop_instance:
        return "they are copies, with one SOPInstanceUID"
    facts = zip(one.facts, other.facts, strict=True)
    differing = [f"{name} {mine or '-'} and {theirs or '-'}" for (name, mine), (_, theirs) in facts if mine != theirs]
    return f"they differ in {', '.join(differing)}" if differing else "nothing in their headers tells them apart"


def _check_gaps(ordered: Sequence[DicomHeader], gaps: NDArray[np.float64], spacing: float, limit: float, where: str) -> None:
    """Gaps of whole multiples of the spacing are missing slices, others are uneven."""
    odd = np.flatnonzero(np.abs(gaps - spacing) > 2 * limit)
    if not len(odd):
        return
    steps = np.rint(gaps / spacing)
    holes = (steps[odd] >= 2) & (np.abs(gaps[odd] - steps[odd] * spacing) <= limit * steps[odd])
    if not holes.all():
        _refuse_uneven(ordered, gaps, odd.tolist(), where)
    between = "; ".join(f"between {ordered[i].name} and {ordered[i + 1].name}" for i in odd[:_SHOWN].tolist())
    raise SeriesError(
        f"{where}: {int((steps[odd] - 1).sum())} slices are missing at a spacing of {spacing:.4g} mm: {between}",
        remedy="Export the whole series again.",
    )


def _refuse_uneven(ordered: Sequence[DicomHeader], gaps: NDArray[np.float64], at: Sequence[int], where: str) -> None:
    files = ", ".join(ordered[index].name for index in at[:_SHOWN])
    raise SeriesError(
        f"{where}: slices are unevenly spaced, {gaps.min():.4g} to {gaps.max():.4g} mm apart (see {files})",
        remedy="Resample or split the series so that slices are evenly spaced.",
    )


def _check_tilt(
    ordered: Sequence[DicomHeader],
    positions: NDArray[np.float64],
    normal: NDArray[np.float64],
    limit: float,
    where: str,
) -> None:
    """Slices must not shift sideways from one to the next."""
    offsets = positions - positions[0]
    sideways = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1)
    if sideways.max() <= limit:
        return
    run = float(offsets[-1] @ normal)
    angle = float(np.degrees(np.arctan2(sideways[-1], run)))
    worst = int(np.argmax(sideways))
    raise SeriesError(
        f"{where}: slices shift sideways by up to {sideways[worst]:.4g} mm ({ordered[0].name} to {ordered[worst].name}), "
        f"a tilt of {angle:.3g} degrees, as of a tilted gantry",
        remedy="Correct the tilt by resampling onto an upright grid first.",
    )
