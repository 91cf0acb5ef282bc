"""DICOM pixels: decoded in parallel into one array, rescaled without truncation.

Each plane goes through, in this order: its codec; unused bits cleared; its modality look-up table; inversion, where MONOCHROME1
says that low values are bright; its own rescale slope and intercept.

MONOCHROME1 states how an image is displayed. Where grey values are a physical quantity (`PHYSICAL`: Hounsfield units, activity)
they do not depend on the display and are kept; elsewhere they are inverted, as SimpleITK and highdicom do, so that bright stays
bright. Voxels with the PixelPaddingValue, outside the imaged field, get the lowest value of the others (`decode_outside`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import Window
from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.elements import quiet_pydicom
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.modality_lut import read_lut
from voxelry.formats.dicom.pixels.codecs import (
    check_codec,
    decode_encapsulated,
    decode_native,
    frame_bytes,
    is_deflated,
    is_native,
)
from voxelry.formats.dicom.pixels.fragments import PixelPlace, Span, fragments_of_frames, open_pixels
from voxelry.formats.dicom.voi import rescaled_windows
from voxelry.formats.voxels import check_finite, fits_int16

MAX_WORKERS = 4
"""Threads that decode at once; beyond this, reading the files is what takes the time."""

PHYSICAL = frozenset({"CT", "PT"})
"""Modalities whose grey values are a quantity with a unit, whatever the display."""

MAX_RATIO = 10_000
"""How many times its file a compressed frame of more than `FREE_BYTES` may be; an empty JPEG 2000 image reaches 5000."""

FREE_BYTES = 2**26
"""A compressed frame of up to this size may be of any ratio."""


@dataclass(frozen=True)
class _Plane:
    """What was learned of one plane while it was decoded.

    Attributes:
        slope, intercept: from the numbers that were kept to grey values.
        signed: how these numbers are to be understood.
        low, high: their range, padding left out; None where all is padding.
        outside: which pixels are padding, packed eight to a byte; None where none can be.
    """

    slope: float
    intercept: float
    signed: bool
    low: float | None
    high: float | None
    outside: NDArray[np.uint8] | None

    @property
    def range(self) -> tuple[float, float] | None:
        """Of the grey values, lowest first."""
        if self.low is None or self.high is None:
            return None
        ends = self.low * self.slope + self.intercept, self.high * self.slope + self.intercept
        return min(ends), max(ends)


def check_decodable(header: DicomHeader) -> None:
    """Refuse, from the header alone, pixels that cannot be decoded.

    Raises:
        UnsupportedFormatError: no decoder for the transfer syntax, naming the package that has one.
        CorruptFileError: the file is too short for its pixels, or the rescale slope is 0 or no number.
    """
    check_codec(header)
    rows, columns = header.stored_shape
    wanted, there = frame_bytes(header) * header.frames, header.pixel_bytes
    if is_native(header) and not is_deflated(header) and there < wanted:
        raise CorruptFileError(
            f"{header.path}: {there} bytes are too few for {header.frames} x {rows} x {columns} pixels ({wanted} bytes)",
            remedy="The file is truncated: export or copy it again.",
        )
    if frame_bytes(header) > max(FREE_BYTES, MAX_RATIO * header.size):
        raise CorruptFileError(
            f"{header.path}: {header.size} bytes cannot hold {rows} x {columns} pixels, however compressed",
            remedy="The file is damaged: export or copy it again.",
        )
    if header.slope == 0 or not math.isfinite(header.slope + header.intercept):
        wrong = "RescaleSlope is 0" if header.slope == 0 else "RescaleSlope or RescaleIntercept is not one number"
        raise CorruptFileError(f"{header.path}: {wrong}", remedy="Export the images again.")


def decode_slices(headers: Sequence[DicomHeader]) -> NDArray[Any]:
    """Grey values of planes of one size, each by its own rescale.

    A file that holds several planes is decoded frame by frame; never more than a few frames are held beside the result.

    Args:
        headers: in slice order.

    Returns:
        ``(slices, rows, columns)``; int16 where every value is a whole number within int16, else float32.

    Raises:
        ReadError: a file that cannot be decoded, naming it and its transfer syntax.
        NonFiniteError: NaN or infinite values in floating-point pixels.
    """
    lines = [rescale_of(header) for header in headers]
    whole = all(slope.is_integer() and intercept.is_integer() for slope, intercept in lines)
    if not whole or any(header.bits_allocated > 16 for header in headers):
        return _decode_wide(headers)
    words = np.empty(_shape(headers), dtype=np.uint16)
    planes = _decode(headers, lambda index, stored: _keep_word(words[index], stored), words)
    lowest = _lowest(planes)
    if all(plane.low is None or _fits(plane) for plane in planes) and lowest is not None:
        _each(lambda index: _settle(words[index], planes[index], int(lowest)), len(planes))
        return words.view(np.int16)
    result = np.empty(words.shape, dtype=np.float32)
    _each(lambda index: _widen(result[index], words[index], planes[index], lowest), len(planes))
    return result


def decode_outside(headers: Sequence[DicomHeader]) -> NDArray[np.bool_]:
    """Which voxels are padding; the pixels are decoded for it once more.

    Args:
        headers: in slice order.

    Returns:
        ``(slices, rows, columns)``, all False where no plane states a PixelPaddingValue.
    """
    outside = np.zeros(_shape(headers), dtype=np.bool_)
    concerned = [index for index, header in enumerate(headers) if header.padding[0] is not None]

    def keep(index: int, stored: NDArray[Any]) -> None:
        header = headers[concerned[index]]
        found = padding_of(stored, header)
        if found is not None:
            outside[concerned[index]] = found

    if concerned:
        _run([headers[index] for index in concerned], keep)
    return outside


def has_padding(headers: Sequence[DicomHeader]) -> bool:
    """Some plane states a PixelPaddingValue."""
    return any(header.padding[0] is not None for header in headers)


def shown_windows(header: DicomHeader) -> tuple[Window, ...]:
    """The VOI windows of a plane in the units of its grey values, which inversion mirrors."""
    if not is_inverted(header):
        return header.windows
    return rescaled_windows(header.windows, -1.0, rescale_of(header, invert=False)[1] + rescale_of(header)[1])


def remarks_of(headers: Sequence[DicomHeader]) -> list[str]:
    """What is to be said of how stored values become grey values."""
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
    return remarks


def is_inverted(header: DicomHeader) -> bool:
    """Low stored values are shown bright, and grey values follow the display."""
    return header.photometric == "MONOCHROME1" and header.modality not in PHYSICAL


def rescale_of(header: DicomHeader, *, invert: bool | None = None) -> tuple[float, float]:
    """Slope and intercept from stored values to grey values.

    Args:
        header: of the plane.
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
        header: of the plane.

    Returns:
        ``(rows, columns)``; None where the header states none, or one that no stored value can have.
    """
    bounds = [_as_stored(value, header) for value in header.padding if value is not None]
    if header.padding[0] is None or None in bounds or stored.dtype.kind == "f":
        return None
    low, high = min(bounds), max(bounds)  # type: ignore[type-var]
    found: NDArray[np.bool_] = stored == low if low == high else (stored >= low) & (stored <= high)
    return found


def _as_stored(value: int, header: DicomHeader) -> int | None:
    """A padding value as the pixels have it: written unsigned (63536 for -2000) by some; None if out of their range."""
    if header.signed and 2**15 <= value < 2**16 and header.bits_stored == 16:
        value -= 2**16
    elif not header.signed and value < 0:
        value += 2**header.bits_allocated
    low = -(2 ** (header.bits_stored - 1)) if header.signed else 0
    return value if low <= value < low + 2**header.bits_stored else None


def _decode_wide(headers: Sequence[DicomHeader]) -> NDArray[np.float32]:
    """Fractions, and stored values of 32 or 64 bits: as float32."""
    result = np.empty(_shape(headers), dtype=np.float32)

    def keep(index: int, stored: NDArray[Any]) -> None:
        check_finite(stored, str(headers[index].path))
        slope, intercept = rescale_of(headers[index])
        with np.errstate(over="ignore"):
            result[index] = stored * np.float64(slope) + intercept
        check_finite(result[index], str(headers[index].path))

    planes = _decode(headers, keep)
    lowest = _lowest(planes)
    if lowest is not None:
        _each(lambda index: _fill(result[index], planes[index], lowest), len(planes))
    return result


def _decode(
    headers: Sequence[DicomHeader], keep: Callable[[int, NDArray[Any]], None], words: NDArray[np.uint16] | None = None
) -> list[_Plane]:
    """Decode every plane, hand its numbers to `keep`, and note what is needed to finish it."""
    planes: list[Any] = [None] * len(headers)

    def take(index: int, stored: NDArray[Any]) -> None:
        header = headers[index]
        outside = padding_of(stored, header)
        valid = stored if outside is None else _without(stored, outside)
        if header.has_lut:
            table = read_lut(header)
            stored, valid = table.apply(stored), table.apply(valid)
        keep(index, stored)
        low, high = (valid.min().item(), valid.max().item()) if valid.size else (None, None)
        packed = None if valid is stored or outside is None else np.packbits(outside)
        planes[index] = _Plane(*rescale_of(header), stored.dtype.kind == "i", low, high, packed)

    _run(headers, take, words)
    return planes


def _run(
    headers: Sequence[DicomHeader], take: Callable[[int, NDArray[Any]], None], words: NDArray[np.uint16] | None = None
) -> None:
    """Call ``take(index, stored)`` for every plane, several at once; each stored frame is decoded once.

    Args:
        headers: of the planes.
        take: is given the ``(rows, columns)`` stored values of a plane.
        words: ``(slices, rows, columns)``: a plane's values may lie in its slice already, where no conversion was needed.
    """
    frames: dict[tuple[Path, int], list[int]] = {}
    for index, header in enumerate(headers):
        frames.setdefault((header.path, header.frame), []).append(index)
    indices = _FragmentIndices()

    def load(members: list[int]) -> None:
        first = headers[members[0]]
        out = None if words is None or first.tile is not None else words[members[0]]
        stored = decode_frame(first, out, indices)
        for index in members:
            take(index, _tile(stored, headers[index]))

    jobs = list(frames.values())
    with quiet_pydicom():
        _each(lambda job: load(jobs[job]), len(jobs))


def _without(stored: NDArray[Any], outside: NDArray[np.bool_]) -> NDArray[Any]:
    """The values that are no padding, as far as their range goes: one of them stands wherever padding is."""
    if outside.all():
        return stored[:0]
    return np.where(outside, stored.flat[int(outside.argmin())], stored) if outside.any() else stored


class _FragmentIndices:
    """Where the frames of multi-frame files lie, found once a file."""

    def __init__(self) -> None:
        self._known: dict[Path, list[list[Span]]] = {}

    def of(self, stream: IO[bytes], place: PixelPlace, header: DicomHeader) -> list[Span]:
        found = self._known.get(header.path)
        if found is None:
            found = fragments_of_frames(stream, place, header.frames, header.path)
            if header.frames > 1:
                self._known[header.path] = found
        return found[header.frame - 1]


def decode_frame(
    header: DicomHeader, out: NDArray[np.uint16] | None = None, indices: _FragmentIndices | None = None
) -> NDArray[Any]:
    """The stored values of a grey frame, unused high bits cleared or sign-extended.

    Args:
        header: of the frame, or of one of its tiles.
        out: ``(rows, columns)`` to use where native pixels need no conversion.
        indices: remembers where frames lie.

    Returns:
        ``(rows, columns)`` of the stored frame in the stored type.

    Raises:
        ReadError: it cannot be decoded.
    """
    with open_pixels(header.path, header.pixels) as (stream, place):
        if is_native(header):
            return decode_native(stream, place, header, out)
        return decode_encapsulated(stream, (indices or _FragmentIndices()).of(stream, place, header), header)


def _tile(stored: NDArray[Any], header: DicomHeader) -> NDArray[Any]:
    if header.tile is None:
        return stored
    row, column = header.tile
    return stored[row : row + header.rows, column : column + header.columns]


def _keep_word(target: NDArray[np.uint16], stored: NDArray[Any]) -> None:
    """Write 8 or 16-bit values into 16-bit words, sign-extended."""
    words = target.view(np.int16) if stored.dtype.kind == "i" else target
    if not np.shares_memory(words, stored):
        words[...] = stored


def _fits(plane: _Plane) -> bool:
    assert plane.low is not None
    assert plane.high is not None
    return fits_int16(plane.low, plane.high, plane.slope, plane.intercept)


def _settle(word: NDArray[np.uint16], plane: _Plane, lowest: int) -> None:
    """Words to grey values in place. Arithmetic modulo 2^16 is exact, since every result fits in int16."""
    if plane.slope != 1:
        word *= np.uint16(int(plane.slope) % 2**16)
    if plane.intercept != 0:
        word += np.uint16(int(plane.intercept) % 2**16)
    _fill(word.view(np.int16), plane, lowest)


def _widen(target: NDArray[np.float32], word: NDArray[np.uint16], plane: _Plane, lowest: float | None) -> None:
    """Words to grey values in float32."""
    target[...] = word.view(np.int16 if plane.signed else np.uint16) * np.float64(plane.slope) + plane.intercept
    if lowest is not None:
        _fill(target, plane, lowest)


def _fill(values: NDArray[Any], plane: _Plane, lowest: float) -> None:
    if plane.outside is not None:
        values[np.unpackbits(plane.outside, count=values.size).view(np.bool_).reshape(values.shape)] = lowest


def _lowest(planes: Sequence[_Plane]) -> float | None:
    """The lowest grey value that is no padding; None where all is."""
    return min((plane.range[0] for plane in planes if plane.range is not None), default=None)


def _each(work: Callable[[int], object], count: int) -> None:
    """``work(0)`` to ``work(count - 1)`` on a few threads."""
    with ThreadPoolExecutor(max_workers=min(MAX_WORKERS, os.cpu_count() or 1, count)) as pool:
        for _ in pool.map(work, range(count)):
            pass


def _shape(headers: Sequence[DicomHeader]) -> tuple[int, int, int]:
    return (len(headers), headers[0].rows, headers[0].columns)
