"""Irregular slice positions: a typed error that lists the files, or a requested repair, which is recorded.

| irregularity | error | repair |
|---|---|---|
| several images at one position | `DuplicateSlicesError` | ``duplicates`` drops exact copies: same position, equal grey values |
| missing slices in an even series | `MissingSlicesError` | ``gap`` interpolates the missing slices |
| uneven spacing | `SpacingError` | ``spacing`` resamples to even slices |
| uneven displacement within the plane | `SpacingError` | ``tilt`` moves each slice within its plane |

A gantry tilt is no error: its grid is sheared. ``tilt`` resamples it onto an upright grid.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from voxelry.base.listing import shown
from voxelry.errors import DuplicateSlicesError, MissingSlicesError, SeriesError, SpacingError
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.pixels.decode import decode_slices
from voxelry.formats.dicom.stacks.positions import (
    LARGEST_TILT_DEGREES,
    EvenSpacing,
    Floats,
    InPlaneShift,
    fit_in_plane_shift,
    fit_spacing,
    resampled_spacing,
    slice_positions,
)

SAME_CORNER_MM = 1e-3
"""Largest difference of the positions of copies of a slice: the rounding of a decimal string."""

_SHOWN = 5


def file_names(planes: Sequence[DicomHeader], where: str = "") -> str:
    """File names for a message, relative to `where` if they lie below it; the first few of many."""
    return shown([plane_label(plane, where) for plane in planes], _SHOWN)


def plane_label(plane: DicomHeader, where: str) -> str:
    """The name of a plane in a message: its file, relative to `where` if below it, and its frame if the file has several."""
    below = bool(where) and plane.path.is_relative_to(where) and plane.path != Path(where)
    file = str(plane.path.relative_to(where)) if below else plane.name
    return f"{file} frame {plane.frame}" if plane.frames > 1 else file


def files_of(planes: Sequence[DicomHeader]) -> tuple[str, ...]:
    """Each file once, in order."""
    return tuple(dict.fromkeys(str(plane.path) for plane in planes))


def remove_duplicates(
    ordered: Sequence[DicomHeader], positions: Floats, normal: Floats, where: str, repair: Collection[str]
) -> tuple[list[DicomHeader], list[str]]:
    """Reduce sorted planes to one at each position.

    Args:
        ordered: planes sorted along the normal.
        positions: ``(n, 3)`` LPS+ mm.
        normal: unit vector, LPS+.
        where: the folder, for messages.
        repair: the requested repairs.

    Returns:
        The remaining planes, and a sentence about the dropped ones.

    Raises:
        DuplicateSlicesError: several images at one position that differ, or may not be dropped.
        ReadError: such images cannot be decoded.
    """
    remaining: list[DicomHeader] = []
    dropped: list[DicomHeader] = []
    crowded: list[list[DicomHeader]] = []
    for run in slice_positions((positions - positions[0]) @ normal):
        planes = [ordered[index] for index in run]
        copies = _exact_copies(planes, positions[run.start : run.stop]) if "duplicates" in repair else []
        dropped += copies
        distinct = [plane for plane in planes if not any(plane is copy for copy in copies)]
        remaining.append(distinct[0])
        if len(distinct) > 1:
            crowded.append(distinct)
    if crowded:
        raise _duplicates_error(crowded, len(ordered), where, is_repairing="duplicates" in repair)
    count = f"{len(dropped)} exact " + ("copy" if len(dropped) == 1 else "copies")
    return remaining, [f"dropped {count} of slices: {file_names(dropped, where)}"] if dropped else []


def _exact_copies(planes: Sequence[DicomHeader], positions: Floats) -> list[DicomHeader]:
    """The planes at one position that repeat the first: same corner, same grey values."""
    distances = np.abs(positions - positions[0]).max(axis=1)
    near = [plane for plane, mm in zip(planes[1:], distances[1:], strict=True) if mm < SAME_CORNER_MM]
    if not near:
        return []
    first = decode_slices(planes[:1])
    return [plane for plane in near if np.array_equal(decode_slices([plane]), first)]


def _duplicates_error(
    crowded: Sequence[Sequence[DicomHeader]], count: int, where: str, *, is_repairing: bool
) -> DuplicateSlicesError:
    planes = [plane for group in crowded for plane in group]
    extra = len(planes) - len(crowded)
    first, second = crowded[0][:2]
    remedy = "Remove copies (repair 'duplicates' drops exact ones); put each echo, phase or time point into a folder of its own."
    if is_repairing:
        remedy = (
            "They are no exact copies: put each echo, phase or time point into a folder of its own, or remove the wrong ones."
        )
    if len(planes) == count and len(crowded) == 1 and count > 2:
        return DuplicateSlicesError(
            f"{where}: all {count} images lie at one position, {planes[0].position}: {_difference(first, second)}",
            remedy="Where they are slices, their positions are lost: export the original images again. " + remedy,
            files=files_of(planes),
        )
    return DuplicateSlicesError(
        f"{where}: {extra} of {count} images lie at the position of another, "
        f"as {plane_label(first, where)} and {plane_label(second, where)}: "
        f"{_difference(first, second)}; all: {file_names(planes, where)}",
        remedy=remedy,
        files=files_of(planes),
    )


def _difference(first: DicomHeader, second: DicomHeader) -> str:
    """The difference of two images at one position, in words."""
    if np.abs(np.subtract(first.position or 0, second.position or 0)).max() > 1:
        return f"they lie side by side in one plane, at {first.position} and {second.position}"
    if first.sop_instance == second.sop_instance and first.frame == second.frame:
        return "they have one SOPInstanceUID"
    facts = zip(first.facts, second.facts, strict=True)
    differing = [f"{name} {value or '-'} and {other or '-'}" for (name, value), (_, other) in facts if value != other]
    return f"they differ in {', '.join(differing)}" if differing else "nothing in their headers distinguishes them"


def even_spacing(
    ordered: Sequence[DicomHeader], heights: Floats, where: str, repair: Collection[str]
) -> tuple[EvenSpacing, list[str]]:
    """The even spacing of sorted planes, or the one to resample them to.

    Args:
        ordered: at least two planes, one at each position.
        heights: ``(n,)`` mm along the normal, ascending from 0.
        where: the folder, for messages.
        repair: the requested repairs.

    Returns:
        The spacing, and a sentence about what is repaired.

    Raises:
        MissingSlicesError: missing slices that may not be interpolated.
        SpacingError: uneven slices that may not be resampled, or would need too many slices.
    """
    even = fit_spacing(heights)
    if even is not None and not even.missing:
        return even, []
    if even is not None and _has_missing_slices(even, ordered):
        gaps = np.flatnonzero(even.steps > 1).tolist()
        between = [
            f"{even.steps[i] - 1} between {plane_label(ordered[i], where)} and {plane_label(ordered[i + 1], where)}" for i in gaps
        ]
        listed = "; ".join(between[:_SHOWN]) + (f"; and {len(between) - _SHOWN} more holes" if len(between) > _SHOWN else "")
        if {"gap", "spacing"} & set(repair):
            noun = "slice" if even.missing == 1 else "slices"
            return even, [f"interpolated {even.missing} missing {noun} of {even.count}, {even.spacing:.4g} mm apart: {listed}"]
        raise MissingSlicesError(
            f"{where}: {even.missing} of {even.count} slices are missing at a spacing of {even.spacing:.4g} mm: {listed}",
            remedy="Export the whole series again, or interpolate the missing slices (repair 'gap').",
            files=files_of([ordered[i] for gap in gaps for i in (gap, gap + 1)]),
        )
    return _uneven(ordered, heights, even, where, repair)


def _has_missing_slices(even: EvenSpacing, planes: Sequence[DicomHeader]) -> bool:
    """Slices are missing in an even series: at least half of the steps are single, and thicker slices do not fill the others."""
    if 2 * np.count_nonzero(even.steps == 1) < len(even.steps) or even.missing > len(planes):
        return False
    thickness = np.array([plane.slice_thickness or 0.0 for plane in planes])
    is_gap = even.steps > 1
    is_filled = np.minimum(thickness[:-1], thickness[1:]) >= 0.95 * even.steps * even.spacing
    return not (is_filled[is_gap].all() and np.ptp(thickness) > 0.05 * thickness.max())


def _uneven(
    ordered: Sequence[DicomHeader], heights: Floats, lattice: EvenSpacing | None, where: str, repair: Collection[str]
) -> tuple[EvenSpacing, list[str]]:
    """Even slices to replace uneven ones: on their lattice if that is not much finer, else about as many."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    distances = f"{gaps.min():.4g} to {gaps.max():.4g} mm apart"
    is_unusual = np.abs(gaps - usual) > 0.01 * usual + 1e-3
    concerned = [plane for i, plane in enumerate(ordered) if is_unusual[max(i - 1, 0) : i + 1].any()] or list(ordered)
    even = lattice if lattice is not None and lattice.count <= 2 * len(ordered) else resampled_spacing(heights, usual)
    if "spacing" in repair and even.count <= 2 * len(ordered):
        return even, [f"resampled {len(ordered)} uneven slices, {distances}, to {even.count} slices {even.spacing:.4g} mm apart"]
    remedy = "Split the series, or resample it to even slices (repair 'spacing')."
    if "spacing" in repair:
        remedy = f"{even.count} slices would be interpolated from {len(ordered)}: remove the slices that lie far off."
    raise SpacingError(
        f"{where}: slices are unevenly spaced, {distances} (see {file_names(concerned, where)})",
        remedy=remedy,
        files=files_of(concerned),
    )


def in_plane_shift(
    ordered: Sequence[DicomHeader], positions: Floats, normal: Floats, tolerance: float, where: str, repair: Collection[str]
) -> InPlaneShift:
    """The displacement of slices within their planes.

    Args:
        ordered: at least two planes, one at each position.
        positions: ``(n, 3)`` LPS+ mm.
        normal: unit vector, LPS+.
        tolerance: largest deviation in mm from an even shift.
        where: the folder, for messages.
        repair: the requested repairs.

    Returns:
        An even shift; an uneven one only if the repair ``tilt`` is requested, which undoes it.

    Raises:
        SpacingError: an uneven shift.
        SeriesError: a tilt beyond `LARGEST_TILT_DEGREES`.
    """
    shift = fit_in_plane_shift(positions, normal, tolerance)
    tilt = float(np.degrees(np.arctan(np.linalg.norm(shift.slope))))
    if tilt > LARGEST_TILT_DEGREES:
        raise SeriesError(
            f"{where}: positions run {tilt:.3g} degrees off the normal of the slices, from {ordered[0].position} "
            f"({plane_label(ordered[0], where)}) to {ordered[-1].position} ({plane_label(ordered[-1], where)})",
            remedy="ImageOrientationPatient or ImagePositionPatient is wrong: export the original images again.",
            files=files_of([ordered[0], ordered[-1]]),
        )
    if shift.is_even or "tilt" in repair:
        return shift
    deviations = _deviations(shift, positions @ normal)
    concerned = [plane for plane, mm in zip(ordered, deviations, strict=True) if mm > tolerance]
    raise SpacingError(
        f"{where}: slices shift sideways unevenly, by up to {shift.residuals.max():.4g} mm off a line: "
        f"{file_names(concerned, where)}",
        remedy="Export the original images again, or move each slice back within its plane (repair 'tilt').",
        files=files_of(concerned),
    )


def _deviations(shift: InPlaneShift, heights: Floats) -> Floats:
    """``(planes,)`` distance in mm from the line through most slices, fitted by medians, which outliers do not pull."""
    slope = np.median(np.diff(shift.shifts, axis=0) / np.diff(heights)[:, None], axis=0)
    offsets = shift.shifts - np.outer(heights, slope)
    deviations: Floats = np.linalg.norm(offsets - np.median(offsets, axis=0), axis=1)
    return deviations
