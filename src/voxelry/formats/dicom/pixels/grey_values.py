"""From stored values to grey values: inversion of MONOCHROME1, the modality rescale, padding, and remarks on them.

MONOCHROME1 states how an image is displayed. Where grey values are a physical quantity (`PHYSICAL`: Hounsfield units, activity)
they do not depend on the display and are kept; elsewhere they are inverted, as SimpleITK and highdicom do, so that bright stays
bright.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import Window
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.pixels.codestream import JPEG_2000, used_bits
from voxelry.formats.dicom.voi import rescaled_windows

PHYSICAL = frozenset({"CT", "PT"})
"""Modalities whose grey values are a quantity with a unit, whatever the display."""


def has_padding(headers: Sequence[DicomHeader]) -> bool:
    """Some plane states a PixelPaddingValue."""
    return any(header.padding[0] is not None for header in headers)


def shown_windows(header: DicomHeader) -> tuple[Window, ...]:
    """The VOI windows of a plane in the units of its grey values, which inversion mirrors."""
    if not is_inverted(header):
        return header.windows
    return rescaled_windows(header.windows, -1.0, rescale_of(header, invert=False)[1] + rescale_of(header)[1])


def remarks_of(headers: Sequence[DicomHeader]) -> list[str]:
    """Remarks on how stored values become grey values: inversion, padding, look-up tables."""
    remarks = []
    dark = [header for header in headers if header.photometric == "MONOCHROME1"]
    if any(is_inverted(header) for header in dark):
        remarks.append("MONOCHROME1: grey values inverted")
    elif dark:
        remarks.append(f"MONOCHROME1: grey values kept, as those of {dark[0].modality} do not depend on the display")
    values = sorted({header.padding[0] for header in headers if header.padding[0] is not None})
    if values:
        stated = ", ".join(map(str, values[:3]))
        remarks.append(f"PixelPaddingValue {stated}: such voxels have the lowest value of the others")
    if any(header.has_lut for header in headers):
        remarks.append("grey values by the modality look-up table")
    return [*remarks, *codestream_remarks(headers)]


def codestream_remarks(headers: Sequence[DicomHeader]) -> list[str]:
    """Remarks where codestream and header state other signs or bits, so that values depend on which of them counts."""
    return list(dict.fromkeys(remark for header in headers if (remark := _contradiction(header))))


def _contradiction(header: DicomHeader) -> str:
    stream = header.codestream
    if stream is None:
        return ""
    states_sign = stream.kind == JPEG_2000
    other_sign = states_sign and stream.is_signed != header.signed
    fewer_bits = header.signed and not states_sign and stream.precision < header.bits_stored
    more_bits = header.bits_stored < stream.precision < header.bits_allocated
    if not other_sign and not fewer_bits and not more_bits:
        return ""
    sign = {True: " signed", False: " unsigned"}
    used = used_bits(stream, header.bits_stored, header.bits_allocated, is_signed=header.signed)
    coded = f"{stream.precision}{sign[stream.is_signed] if states_sign else ''}"
    return (
        f"the codestream states {coded} bits, the header {header.bits_stored}{sign[header.signed]}: values taken as {used}"
        f"{sign[header.signed]} bits"
    )


def is_inverted(header: DicomHeader) -> bool:
    """Low stored values are shown bright, and grey values follow the display."""
    return header.photometric == "MONOCHROME1" and header.modality not in PHYSICAL


def rescale_of(header: DicomHeader, *, invert: bool | None = None) -> tuple[float, float]:
    """Slope and intercept from stored values to grey values.

    Args:
        header: header of the plane.
        invert: mirror the stored values within the range of their bits first; None: where `is_inverted`.
    """
    slope, intercept = (1.0, 0.0) if header.has_lut else (header.slope, header.intercept)
    if not (is_inverted(header) if invert is None else invert):
        return slope, intercept
    top = -1 if header.signed and not header.has_lut else 2**header.bits_stored - 1
    return -slope, slope * top + intercept


def padding_of(stored: NDArray[Any], header: DicomHeader) -> NDArray[np.bool_] | None:
    """Pixels with the PixelPaddingValue, or between it and the PixelPaddingRangeLimit.

    Args:
        stored: ``(rows, columns)`` as stored.
        header: header of the plane.

    Returns:
        ``(rows, columns)``; None where the header states none, or one that no stored value can have.
    """
    bounds = [_as_stored(value, header) for value in header.padding if value is not None]
    if header.padding[0] is None or None in bounds or stored.dtype.kind == "f":
        return None
    low, high = min(bounds), max(bounds)  # type: ignore[type-var]
    mask: NDArray[np.bool_] = stored == low if low == high else (stored >= low) & (stored <= high)
    return mask


def _as_stored(value: int, header: DicomHeader) -> int | None:
    """A padding value as the pixels have it: written unsigned (63536 for -2000) by some; None if out of their range."""
    if header.signed and 2**15 <= value < 2**16 and header.bits_stored == 16:
        value -= 2**16
    elif not header.signed and value < 0:
        value += 2**header.bits_allocated
    low = -(2 ** (header.bits_stored - 1)) if header.signed else 0
    return value if low <= value < low + 2**header.bits_stored else None
