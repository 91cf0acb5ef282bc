"""One plain, regular DICOM series: which files belong, in what order, on what grid. All from headers.

Plain means: single-frame grey images of one SeriesInstanceUID that share size, pixel spacing, orientation and frame of
reference, one at each place, at even distances along the normal of the slices. Everything else is refused with the reason
and the files concerned; nothing is guessed.

The grid follows DICOM PS3.3 section C.7.6.2.1.1: the world position of a pixel is ImagePositionPatient plus the column index
times the row direction times the column spacing, plus the row index times the column direction times the row spacing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import SeriesError
from voxelry.geometry import Geometry, flip_lps_ras
from voxelry.read.dicom_header import DicomHeader
from voxelry.read.pixels import check_decodable, is_inverted
from voxelry.read.positions import check_spacing, sort_by_position

ORIENTATION_TOLERANCE = 1e-4
"""How far direction cosines of one series may differ: 0.02 mm at the edge of a 400 mm field of view."""

PERPENDICULAR_TOLERANCE = 1e-3
"""How far the row and column directions may be from unit length and from perpendicular (cosine)."""

PIXEL_SPACING_TOLERANCE_MM = 1e-4
"""How far the pixel spacings of one series may differ: 0.05 mm over 512 pixels."""

_SHOWN = 5


@dataclass(frozen=True)
class Stack:
    """A plain series.

    Attributes:
        slices: headers in slice order, along the normal (row direction x column direction in LPS+).
        geometry: grid ``(columns, rows, slices)``, RAS+ mm.
        remarks: what had to be decided.
    """

    slices: tuple[DicomHeader, ...]
    geometry: Geometry
    remarks: tuple[str, ...]


def only_series(images: Sequence[DicomHeader], where: str) -> Sequence[DicomHeader]:
    """The images, if all are of one series.

    Raises:
        SeriesError: there are several; the message lists them, without anything that names a patient.
    """
    series: dict[str, list[DicomHeader]] = {}
    for header in images:
        series.setdefault(header.series, []).append(header)
    if len(series) == 1:
        return images
    choices = "; ".join(_choice(uid, members) for uid, members in series.items())
    raise SeriesError(f"{where}: holds {len(series)} series: {choices}", remedy="Put the one to read into a folder of its own.")


def _choice(uid: str, members: Sequence[DicomHeader]) -> str:
    first = members[0]
    count = f"{len(members)} file" + ("s" if len(members) > 1 else "")
    return f"'{first.description}' {first.modality or '?'}, series number {first.number or '?'}, {count}, UID {uid or '?'}"


def assemble(images: Sequence[DicomHeader], where: str) -> Stack:
    """Check that the images of one series are a plain, regular stack, and work out its grid.

    Args:
        images: headers of one SeriesInstanceUID, in any order.
        where: the file or folder, for messages.

    Returns:
        The sorted stack.

    Raises:
        SeriesError: they are not; with the reason and the files concerned.
        ReadError: pixels that cannot be decoded for a reason the headers show.
    """
    _check_kind(images, where)
    _check_alike(images, where)
    for header in images:
        check_decodable(header)
    across, down = _directions(images[0], where)
    ordered, positions = sort_by_position(images, np.cross(across, down))
    remarks: list[str] = []
    if len(ordered) > 1:
        step = check_spacing(ordered, positions, np.cross(across, down), where)
    else:
        thickness, remark = _single_spacing(ordered[0], where)
        step = np.cross(across, down) * thickness
        remarks.append(remark)
    if any(is_inverted(header) for header in ordered):
        remarks.append("MONOCHROME1: grey values inverted")
    if not ordered[0].frame_of_reference:
        remarks.append("no FrameOfReferenceUID stored")
    geometry = _geometry(ordered, across, down, step)
    return Stack(tuple(ordered), geometry, tuple(remarks))


def _geometry(
    ordered: Sequence[DicomHeader], across: NDArray[np.float64], down: NDArray[np.float64], step: NDArray[np.float64]
) -> Geometry:
    first = ordered[0]
    assert first.pixel_spacing is not None
    between_rows, between_columns = first.pixel_spacing
    affine = np.eye(4)
    affine[:3, 0] = across * between_columns
    affine[:3, 1] = down * between_rows
    affine[:3, 2] = step
    affine[:3, 3] = np.array(first.position)
    return Geometry((first.columns, first.rows, len(ordered)), flip_lps_ras(affine))


def _check_kind(images: Sequence[DicomHeader], where: str) -> None:
    """Single-frame grey images with a place in the patient."""
    _refuse_some(
        images, lambda h: h.is_multiframe, where, "multi-frame (enhanced) images", "Export as single-frame (classic) DICOM."
    )
    _refuse_some(
        images,
        lambda h: h.samples != 1 or not h.photometric.startswith("MONOCHROME"),
        where,
        f"colour images ({images[0].photometric})",
        "Only grey images form a volume; export a screenshot as PNG.",
    )
    if len(images) > 1:
        _refuse_some(images, lambda h: h.is_projection, where, "X-ray projections", "Name a single file.")
    for label, missing in (
        ("ImagePositionPatient", lambda h: h.position is None),
        ("ImageOrientationPatient", lambda h: h.orientation is None),
        ("PixelSpacing", lambda h: not all(size > 0 for size in h.pixel_spacing or (0,))),
    ):
        _refuse_some(images, missing, where, f"images without a usable {label}", "Export the original images again.")


def _refuse_some(images: Sequence[DicomHeader], wrong: Callable[[DicomHeader], bool], where: str, what: str, remedy: str) -> None:
    concerned = [header for header in images if wrong(header)]
    if concerned:
        raise SeriesError(f"{where}: {len(concerned)} of {len(images)} are {what}: {names(concerned)}", remedy=remedy)


def _check_alike(images: Sequence[DicomHeader], where: str) -> None:
    """One size, spacing, orientation and frame of reference; a localizer is named as such."""
    localizers = [header for header in images if header.is_localizer]
    if 0 < len(localizers) < len(images):
        raise SeriesError(
            f"{where}: {len(localizers)} of {len(images)} images are localizers: {names(localizers)}",
            remedy="Move the localizers to a folder of their own.",
        )
    _check_equal(images, lambda h: h.modality, where, "modality")
    _check_equal(images, lambda h: (h.rows, h.columns), where, "rows and columns")
    _check_equal(images, lambda h: h.photometric, where, "photometric interpretation")
    _check_equal(images, lambda h: h.frame_of_reference, where, "frame of reference")
    _check_near(images, lambda h: h.pixel_spacing, PIXEL_SPACING_TOLERANCE_MM, where, "pixel spacing in mm")
    _check_near(images, lambda h: h.orientation, ORIENTATION_TOLERANCE, where, "orientation")


def _check_equal(images: Sequence[DicomHeader], key: Callable[[DicomHeader], Hashable], where: str, what: str) -> None:
    counts = Counter(key(header) for header in images).most_common()
    if len(counts) > 1:
        _refuse_odd(images, [key(header) != counts[0][0] for header in images], [value for value, _ in counts], where, what)


def _check_near(images: Sequence[DicomHeader], key: Callable[[DicomHeader], Any], limit: float, where: str, what: str) -> None:
    values = np.array([key(header) for header in images])
    usual = values[0]
    if (np.abs(values - usual) > limit).any():
        rounded = [tuple(round(float(x), 4) for x in value) for value in values]
        usual = values[rounded.index(Counter(rounded).most_common(1)[0][0])]
        odd = (np.abs(values - usual) > limit).any(axis=1).tolist()
        _refuse_odd(images, odd, list(dict.fromkeys(rounded)), where, what)


def _refuse_odd(images: Sequence[DicomHeader], odd: list[bool], values: list[Any], where: str, what: str) -> None:
    concerned = [header for header, is_odd in zip(images, odd, strict=True) if is_odd]
    seen = ", ".join(repr(value) for value in values[:_SHOWN])
    raise SeriesError(
        f"{where}: images differ in {what} ({seen}): {names(concerned)} from the other {len(images) - len(concerned)}",
        remedy="Move each kind of image to a folder of its own.",
    )


def _directions(header: DicomHeader, where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along a row and down a column, LPS+."""
    across, down = np.array(header.orientation).reshape(2, 3)
    lengths = float(np.linalg.norm(across)), float(np.linalg.norm(down))
    crooked = max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(across @ down)))
    if crooked > PERPENDICULAR_TOLERANCE:
        raise SeriesError(
            f"{where}: ImageOrientationPatient {header.orientation} is not two perpendicular unit vectors ({header.name})",
            remedy="Export the original images again.",
        )
    return across / lengths[0], down / lengths[1]


def _single_spacing(header: DicomHeader, where: str) -> tuple[float, str]:
    """The depth of a lone slice in mm, and the remark that says where it came from."""
    for what, value in (("SliceThickness", header.slice_thickness), ("SpacingBetweenSlices", header.spacing_between)):
        if value is not None and value > 0:
            return value, f"single slice: its depth is {what}, {value:g} mm"
    raise SeriesError(
        f"{where}: a single slice without SliceThickness or SpacingBetweenSlices has no depth ({header.name})",
        remedy="Read the whole series, or export the image as a picture.",
    )


def names(headers: Sequence[DicomHeader]) -> str:
    """File names for a message, the first few of many."""
    shown = ", ".join(header.name for header in headers[:_SHOWN])
    return shown + (f" and {len(headers) - _SHOWN} more" if len(headers) > _SHOWN else "")
