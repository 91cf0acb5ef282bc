"""What is wrong with the places of slices: a typed error that lists the files, or a repair that was asked for and is recorded.

| wrong | error | policy that mends it |
|---|---|---|
| several images at one place | `DuplicateSlicesError` | ``duplicates`` drops exact copies: one place, equal grey values |
| a hole in an even series | `MissingSlicesError` | ``gap`` interpolates the missing slices |
| uneven spacing | `SpacingError` | ``spacing`` resamples to even slices |
| slices that shift sideways unevenly | `SpacingError` | ``tilt`` moves each within its plane |

A tilt is not wrong: its grid is sheared, and stated. ``tilt`` resamples it onto an upright grid.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

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
"""How far apart copies of a slice may state their positions: that is the rounding of a decimal string, no other place."""

_SHOWN = 5


def file_names(planes: Sequence[DicomHeader], where: str = "") -> str:
    """File names for a message, relative to `where` where they lie below it; the first few of many."""
    shown = ", ".join(plane_label(plane, where) for plane in planes[:_SHOWN])
    return shown + (f" and {len(planes) - _SHOWN} more" if len(planes) > _SHOWN else "")


def plane_label(plane: DicomHeader, where: str) -> str:
    """What to call a plane in a message: its file below `where`, and its frame where the file has several."""
    below = bool(where) and plane.path.is_relative_to(where) and plane.path != Path(where)
    file = str(plane.path.relative_to(where)) if below else plane.name
    return f"{file} frame {plane.frame}" if plane.frames > 1 else file


def files_of(planes: Sequence[DicomHeader]) -> tuple[str, ...]:
    """Each file once, in order."""
    return tuple(dict.fromkeys(str(plane.path) for plane in planes))


def remove_duplicates(
    ordered: Sequence[DicomHeader], positions: Floats, normal: Floats, where: str, repair: Collection[str]
) -> tuple[list[DicomHeader], list[str]]:
    """Sorted planes, one at each place.

    Args:
        ordered: planes sorted along the normal.
        positions: ``(n, 3)`` LPS+ mm.
        normal: unit vector, LPS+.
        where: the folder, for messages.
        repair: the policies asked for.

    Returns:
        The planes that stay, and what was dropped, as sentences.

    Raises:
        DuplicateSlicesError: several images at one place, which may not be dropped or differ.
        ReadError: such images cannot be decoded.
    """
    kept: list[DicomHeader] = []
    dropped: list[DicomHeader] = []
    crowded: list[list[DicomHeader]] = []
    for run in slice_positions((positions - positions[0]) @ normal):
        here = [ordered[index] for index in run]
        copies = _copies(here, positions[run.start : run.stop]) if "duplicates" in repair else []
        dropped += copies
        distinct = [plane for plane in here if not any(plane is copy for copy in copies)]
        kept.append(distinct[0])
        if len(distinct) > 1:
            crowded.append(distinct)
    if crowded:
        raise _duplicates(crowded, len(ordered), where, asked="duplicates" in repair)
    count = f"{len(dropped)} exact " + ("copy" if len(dropped) == 1 else "copies")
    return kept, [f"dropped {count} of slices: {file_names(dropped, where)}"] if dropped else []


def _copies(here: Sequence[DicomHeader], positions: Floats) -> list[DicomHeader]:
    """Which of the planes at one place only repeat the first: same corner, same grey values."""
    off = np.abs(positions - positions[0]).max(axis=1)
    near = [plane for plane, mm in zip(here[1:], off[1:], strict=True) if mm < SAME_CORNER_MM]
    if not near:
        return []
    first = decode_slices(here[:1])
    return [plane for plane in near if np.array_equal(decode_slices([plane]), first)]


def _duplicates(crowded: Sequence[Sequence[DicomHeader]], count: int, where: str, *, asked: bool) -> DuplicateSlicesError:
    planes = [plane for here in crowded for plane in here]
    extra = len(planes) - len(crowded)
    one, other = crowded[0][:2]
    remedy = "Remove copies (repair 'duplicates' drops exact ones); put each echo, phase or time point into a folder of its own."
    if asked:
        remedy = (
            "They are no exact copies: put each echo, phase or time point into a folder of its own, or remove the wrong ones."
        )
    if len(planes) == count and len(crowded) == 1 and count > 2:
        return DuplicateSlicesError(
            f"{where}: all {count} images lie at one place, {planes[0].position}: {_difference(one, other)}",
            remedy="Where they are slices, their positions are lost: export the original images again. " + remedy,
            files=files_of(planes),
        )
    return DuplicateSlicesError(
        f"{where}: {extra} of {count} images lie at the place of another, "
        f"as {plane_label(one, where)} and {plane_label(other, where)}: "
        f"{_difference(one, other)}; all: {file_names(planes, where)}",
        remedy=remedy,
        files=files_of(planes),
    )


def _difference(one: DicomHeader, other: DicomHeader) -> str:
    """What tells two images at one place apart."""
    if np.abs(np.subtract(one.position or 0, other.position or 0)).max() > 1:
        return f"they lie side by side in one plane, at {one.position} and {other.position}"
    if one.sop_instance == other.sop_instance and one.frame == other.frame:
        return "they have one SOPInstanceUID"
    facts = zip(one.facts, other.facts, strict=True)
    differing = [f"{name} {mine or '-'} and {theirs or '-'}" for (name, mine), (_, theirs) in facts if mine != theirs]
    return f"they differ in {', '.join(differing)}" if differing else "nothing in their headers tells them apart"


def even_spacing(
    ordered: Sequence[DicomHeader], heights: Floats, where: str, repair: Collection[str]
) -> tuple[EvenSpacing, list[str]]:
    """The even slices that sorted planes make, or are to be resampled to.

    Args:
        ordered: at least two planes, one at each place.
        heights: ``(n,)`` mm along the normal, ascending from 0.
        where: the folder, for messages.
        repair: the policies asked for.

    Returns:
        The even slices, and what is repaired, as sentences.

    Raises:
        MissingSlicesError: holes that may not be filled.
        SpacingError: uneven slices that may not be resampled, or that no sensible grid fits.
    """
    even = fit_spacing(heights)
    if even is not None and not even.missing:
        return even, []
    if even is not None and _is_holes(even, ordered):
        at = np.flatnonzero(even.steps > 1).tolist()
        between = [
            f"{even.steps[i] - 1} between {plane_label(ordered[i], where)} and {plane_label(ordered[i + 1], where)}" for i in at
        ]
        listed = "; ".join(between[:_SHOWN]) + (f"; and {len(between) - _SHOWN} more holes" if len(between) > _SHOWN else "")
        if {"gap", "spacing"} & set(repair):
            many = "slice" if even.missing == 1 else "slices"
            return even, [f"interpolated {even.missing} missing {many} of {even.count}, {even.spacing:.4g} mm apart: {listed}"]
        raise MissingSlicesError(
            f"{where}: {even.missing} of {even.count} slices are missing at a spacing of {even.spacing:.4g} mm: {listed}",
            remedy="Export the whole series again, or interpolate the missing slices (repair 'gap').",
            files=files_of([ordered[i] for hole in at for i in (hole, hole + 1)]),
        )
    return _uneven(ordered, heights, even, where, repair)


def _is_holes(even: EvenSpacing, planes: Sequence[DicomHeader]) -> bool:
    """Holes in an even series: at least half of the steps are single, and thicker slices do not explain the others."""
    if 2 * np.count_nonzero(even.steps == 1) < len(even.steps) or even.missing > len(planes):
        return False
    thickness = np.array([plane.slice_thickness or 0.0 for plane in planes])
    hole = even.steps > 1
    filled = np.minimum(thickness[:-1], thickness[1:]) >= 0.95 * even.steps * even.spacing
    return not (filled[hole].all() and np.ptp(thickness) > 0.05 * thickness.max())


def _uneven(
    ordered: Sequence[DicomHeader], heights: Floats, lattice: EvenSpacing | None, where: str, repair: Collection[str]
) -> tuple[EvenSpacing, list[str]]:
    """Even slices to replace uneven ones: on their lattice if that is not much finer, else about as many."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    seen = f"{gaps.min():.4g} to {gaps.max():.4g} mm apart"
    off = np.abs(gaps - usual) > 0.01 * usual + 1e-3
    outer = [i for i in range(len(ordered)) if off[max(i - 1, 0) : i + 1].any()]
    concerned = [ordered[i] for i in outer] or list(ordered)
    even = lattice if lattice is not None and lattice.count <= 2 * len(ordered) else resampled_spacing(heights, usual)
    if "spacing" in repair and even.count <= 2 * len(ordered):
        return even, [f"resampled {len(ordered)} uneven slices, {seen}, to {even.count} slices {even.spacing:.4g} mm apart"]
    remedy = "Split the series, or resample it to even slices (repair 'spacing')."
    if "spacing" in repair:
        remedy = f"{even.count} slices would be interpolated from {len(ordered)}: remove the slices that lie far off."
    raise SpacingError(
        f"{where}: slices are unevenly spaced, {seen} (see {file_names(concerned, where)})",
        remedy=remedy,
        files=files_of(concerned),
    )


def in_plane_shift(
    ordered: Sequence[DicomHeader], positions: Floats, normal: Floats, limit: float, where: str, repair: Collection[str]
) -> InPlaneShift:
    """How the slices shift across their normal.

    Args:
        ordered: at least two planes, one at each place.
        positions: ``(n, 3)`` LPS+ mm.
        normal: unit vector, LPS+.
        limit: mm, the tolerance.
        where: the folder, for messages.
        repair: the policies asked for.

    Returns:
        Shifts in step with the height; uneven ones only where ``tilt`` will undo them.

    Raises:
        SpacingError: uneven shifts.
        SeriesError: slices that run too far off their normal.
    """
    found = fit_in_plane_shift(positions, normal, limit)
    tilt = float(np.degrees(np.arctan(np.linalg.norm(found.slope))))
    if tilt > LARGEST_TILT_DEGREES:
        raise SeriesError(
            f"{where}: positions run {tilt:.3g} degrees off the normal of the slices, from {ordered[0].position} "
            f"({plane_label(ordered[0], where)}) to {ordered[-1].position} ({plane_label(ordered[-1], where)})",
            remedy="ImageOrientationPatient or ImagePositionPatient is wrong: export the original images again.",
            files=files_of([ordered[0], ordered[-1]]),
        )
    if found.is_even or "tilt" in repair:
        return found
    concerned = [plane for plane, off in zip(ordered, _off_usual(found, positions @ normal), strict=True) if off > limit]
    raise SpacingError(
        f"{where}: slices shift sideways unevenly, by up to {found.off.max():.4g} mm off a line: {file_names(concerned, where)}",
        remedy="Export the original images again, or move each slice back within its plane (repair 'tilt').",
        files=files_of(concerned),
    )


def _off_usual(found: InPlaneShift, heights: Floats) -> Floats:
    """``(planes,)`` mm off the line that most slices lie on: medians, which one slice out of line does not pull."""
    slope = np.median(np.diff(found.shifts, axis=0) / np.diff(heights)[:, None], axis=0)
    left = found.shifts - np.outer(heights, slope)
    off: Floats = np.linalg.norm(left - np.median(left, axis=0), axis=1)
    return off
