"""Checks that planes form one volume: each has a position, and all agree in size, spacing, orientation and frame of reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from voxelry.errors import SeriesError
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.stacks.repair import file_names, files_of

ORIENTATION_TOLERANCE = 1e-4
"""Largest difference of direction cosines within a series: 0.02 mm at the edge of a 400 mm field of view."""

PIXEL_SPACING_TOLERANCE_MM = 1e-4
"""Largest difference of pixel spacings within a series: 0.05 mm over 512 pixels."""

_SHOWN = 5
_SECTIONS = frozenset({"CT", "MR", "PT", "NM"})
"""Modalities whose images are slices, with a position in the patient when they were acquired."""


def check_slices(images: Sequence[DicomHeader], where: str) -> None:
    """Refuse planes without a position in the patient, and colour images.

    Args:
        images: planes of one series.
        where: the file or folder, for messages.

    Raises:
        SeriesError: with the problem and the files concerned.
    """
    _refuse_some(
        images,
        lambda h: h.samples != 1 or not h.photometric.startswith("MONOCHROME"),
        where,
        f"colour images ({images[0].photometric})",
        "Only grey images form a volume; export a screenshot as PNG.",
    )
    planes_of = Counter(header.path for header in images)
    _refuse_some(
        images,
        lambda h: h.frames > 1 and planes_of[h.path] == 1 and "Enhanced" not in h.sop_class,
        where,
        "of several frames without a position of each",
        "Export as single-frame or enhanced DICOM.",
    )
    if len(images) > 1:
        _refuse_some(images, lambda h: h.is_projection, where, "X-ray projections", "Name a single file.")
    for label, missing in (
        ("ImagePositionPatient", lambda h: h.position is None),
        ("ImageOrientationPatient", lambda h: h.orientation is None),
        ("PixelSpacing", lambda h: not all(size > 0 for size in h.pixel_spacing or (0,))),
    ):
        remedy = (
            "Export the original images again." if images[0].modality in _SECTIONS else "To read a picture, export it as PNG."
        )
        _refuse_some(images, missing, where, f"images without a usable {label}", remedy)


def _refuse_some(
    images: Sequence[DicomHeader], is_wrong: Callable[[DicomHeader], bool], where: str, what: str, remedy: str
) -> None:
    concerned = [header for header in images if is_wrong(header)]
    if concerned:
        raise SeriesError(
            f"{where}: {len(concerned)} of {len(images)} are {what}: {file_names(concerned, where)}",
            remedy=remedy,
            files=files_of(concerned),
        )


def check_consistent(images: Sequence[DicomHeader], where: str) -> None:
    """Refuse planes that differ in size, spacing, orientation or frame of reference; localizers get an error of their own.

    Args:
        images: planes of one series, with positions.
        where: the file or folder, for messages.

    Raises:
        SeriesError: with the difference and the files concerned.
    """
    localizers = [header for header in images if header.is_localizer]
    if 0 < len(localizers) < len(images):
        raise SeriesError(
            f"{where}: {len(localizers)} of {len(images)} images are localizers: {file_names(localizers, where)}",
            remedy="Move the localizers to a folder of their own.",
            files=files_of(localizers),
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
    examples = ", ".join(repr(value) for value in values[:_SHOWN])
    others = len(images) - len(concerned)
    raise SeriesError(
        f"{where}: images differ in {what} ({examples}): {file_names(concerned, where)} from the other {others}",
        remedy="Move each kind of image to a folder of its own.",
        files=files_of(concerned),
    )
