"""Decoding the planes of a DICOM series on several threads into one array of grey values, rescaled without truncation.

Each plane goes through, in this order: its codec; unused bits cleared; its modality look-up table; inversion, where MONOCHROME1
says that low values are bright; its own rescale slope and intercept.

`grey_values` says which planes are inverted and rescaled how. Voxels with the PixelPaddingValue, outside the imaged field, get
the lowest value of the others (`decode_padding`).
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

from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.elements import quiet_pydicom
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.modality_lut import read_modality_lut
from voxelry.formats.dicom.pixels.codecs import (
    check_codec,
    decode_encapsulated,
    decode_native,
    frame_bytes,
    is_deflated,
    is_native,
)
from voxelry.formats.dicom.pixels.fragments import UNDEFINED, PixelElement, Span, fragments_of_frames, open_pixels
from voxelry.formats.dicom.pixels.grey_values import padding_of, rescale_of
from voxelry.formats.dicom.pixels.transfer_syntaxes import syntax_name
from voxelry.formats.voxels import check_finite, fits_int16

MAX_WORKERS = 4
"""Threads that decode at once; beyond this, reading the files is what takes the time."""

MAX_RATIO = 10_000
"""Largest ratio of a decoded frame of more than `FREE_BYTES` to its file; an empty JPEG 2000 image reaches 5000."""

FREE_BYTES = 2**26
"""A compressed frame of up to this size may be of any ratio."""


@dataclass(frozen=True)
class _DecodedPlane:
    """The rescale, range and padding of a decoded plane.

    Attributes:
        slope, intercept: from stored values to grey values.
        signed: the stored values are signed.
        low, high: the range of the stored values without padding; None where all is padding.
        padding: which pixels are padding, packed eight to a byte; None where none can be.
    """

    slope: float
    intercept: float
    signed: bool
    low: float | None
    high: float | None
    padding: NDArray[np.uint8] | None

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
        UnsupportedFormatError: no decoder for the transfer syntax, naming the codings that have one.
        CorruptFileError: the file is too short for its pixels, they are compressed where it says they are not, or the rescale
            slope is 0 or no number.
    """
    check_codec(header)
    if is_native(header) and header.pixels is not None and header.pixels.length == UNDEFINED:
        raise CorruptFileError(
            f"{header.path}: its pixels are compressed, but its transfer syntax is '{syntax_name(header.syntax)}'",
            remedy="Export the images again, or correct TransferSyntaxUID (0002,0010).",
        )
    rows, columns = header.stored_shape
    needed, available = frame_bytes(header) * header.frames, header.pixel_bytes
    if is_native(header) and not is_deflated(header) and available < needed:
        raise CorruptFileError(
            f"{header.path}: {available} bytes are too few for {header.frames} x {rows} x {columns} pixels ({needed} bytes)",
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
    if not _is_whole(headers):
        return _decode_wide(headers)
    words = np.empty(_shape(headers), dtype=np.uint16)
    planes = _decode_planes(headers, lambda index, stored: _write_word(words[index], stored), words)
    lowest = _lowest_value(planes)
    if all(plane.low is None or _fits(plane) for plane in planes) and lowest is not None:
        _parallel(lambda index: _rescale_in_place(words[index], planes[index], int(lowest)), len(planes))
        return words.view(np.int16)
    result = np.empty(words.shape, dtype=np.float32)
    _parallel(lambda index: _rescale_to_float(result[index], words[index], planes[index], lowest), len(planes))
    return result


def decoding_bytes(headers: Sequence[DicomHeader]) -> tuple[int, int]:
    """Bytes that `decode_slices` takes at its peak, at the least and at the most: the result, and the words it comes from."""
    voxels = math.prod(_shape(headers))
    if not _is_whole(headers):
        return 4 * voxels, 4 * voxels
    certain = all(not header.has_lut and fits_int16(*_stored_range(header), *rescale_of(header)) for header in headers)
    return 2 * voxels, (2 if certain else 6) * voxels


def _stored_range(header: DicomHeader) -> tuple[int, int]:
    half = 1 << (header.bits_stored - 1)
    return (-half, half - 1) if header.signed else (0, 2 * half - 1)


def _is_whole(headers: Sequence[DicomHeader]) -> bool:
    """Every grey value is a whole number, stored in up to 16 bits."""
    rescales = [rescale_of(header) for header in headers]
    whole = all(slope.is_integer() and intercept.is_integer() for slope, intercept in rescales)
    return whole and all(header.bits_allocated <= 16 for header in headers)


def decode_padding(headers: Sequence[DicomHeader]) -> NDArray[np.bool_]:
    """Mask of the voxels that are padding; the pixels are decoded once more for it.

    Args:
        headers: in slice order.

    Returns:
        ``(slices, rows, columns)``, all False where no plane states a PixelPaddingValue.
    """
    padding = np.zeros(_shape(headers), dtype=np.bool_)
    padded = [index for index, header in enumerate(headers) if header.padding[0] is not None]

    def keep(index: int, stored: NDArray[Any]) -> None:
        header = headers[padded[index]]
        mask = padding_of(stored, header)
        if mask is not None:
            padding[padded[index]] = mask

    if padded:
        _decode_frames([headers[index] for index in padded], keep)
    return padding


def _decode_wide(headers: Sequence[DicomHeader]) -> NDArray[np.float32]:
    """Fractions, and stored values of 32 or 64 bits: as float32."""
    result = np.empty(_shape(headers), dtype=np.float32)

    def keep(index: int, stored: NDArray[Any]) -> None:
        check_finite(stored, str(headers[index].path))
        slope, intercept = rescale_of(headers[index])
        with np.errstate(over="ignore"):
            result[index] = stored * np.float64(slope) + intercept
        check_finite(result[index], str(headers[index].path))

    planes = _decode_planes(headers, keep)
    lowest = _lowest_value(planes)
    if lowest is not None:
        _parallel(lambda index: _fill_padding(result[index], planes[index], lowest), len(planes))
    return result


def _decode_planes(
    headers: Sequence[DicomHeader], keep: Callable[[int, NDArray[Any]], None], words: NDArray[np.uint16] | None = None
) -> list[_DecodedPlane]:
    """Decode every plane, hand its stored values to `keep`, and return its rescale, range and padding."""
    planes: list[Any] = [None] * len(headers)

    def receive(index: int, stored: NDArray[Any]) -> None:
        header = headers[index]
        padding = padding_of(stored, header)
        valid = stored if padding is None else _without_padding(stored, padding)
        if header.has_lut:
            table = read_modality_lut(header)
            stored, valid = table.apply(stored), table.apply(valid)
        keep(index, stored)
        low, high = (valid.min().item(), valid.max().item()) if valid.size else (None, None)
        packed = None if valid is stored or padding is None else np.packbits(padding)
        planes[index] = _DecodedPlane(*rescale_of(header), stored.dtype.kind == "i", low, high, packed)

    _decode_frames(headers, receive, words)
    return planes


def _decode_frames(
    headers: Sequence[DicomHeader], receive: Callable[[int, NDArray[Any]], None], words: NDArray[np.uint16] | None = None
) -> None:
    """Call ``receive(index, stored)`` for every plane, several at once; each stored frame is decoded once.

    Args:
        headers: headers of the planes.
        receive: gets the index of a plane and its ``(rows, columns)`` stored values.
        words: ``(slices, rows, columns)``: native values that need no conversion are read into their slice.
    """
    fragments = _FrameFragments()

    def load(frames: Sequence[list[int]]) -> None:
        file = headers[frames[0][0]]
        with open_pixels(file.path, file.pixels) as (stream, element):
            for members in frames:
                first = headers[members[0]]
                out = None if words is None or first.tile is not None else words[members[0]]
                stored = _decode_open(stream, element, first, out, fragments)
                for index in members:
                    receive(index, _tile(stored, headers[index]))

    jobs = _frames_per_open(headers)
    with quiet_pydicom():
        _parallel(lambda job: load(jobs[job]), len(jobs))


def _frames_per_open(headers: Sequence[DicomHeader]) -> list[list[list[int]]]:
    """The frames to decode each time a file is opened; those of a multi-frame file are shared out among `MAX_WORKERS` threads.

    Returns:
        Per open a list of frames, and per frame the indices of its planes: several for a mosaic.
    """
    files: dict[Path, dict[int, list[int]]] = {}
    for index, header in enumerate(headers):
        files.setdefault(header.path, {}).setdefault(header.frame, []).append(index)
    opens: list[list[list[int]]] = []
    for by_frame in files.values():
        frames = list(by_frame.values())
        count = -(-len(frames) // MAX_WORKERS)
        opens += [frames[first : first + count] for first in range(0, len(frames), count)]
    return opens


def _without_padding(stored: NDArray[Any], padding: NDArray[np.bool_]) -> NDArray[Any]:
    """Stored values with padding replaced by a value that is no padding, so that their range is that of the others."""
    if padding.all():
        return stored[:0]
    return np.where(padding, stored.flat[int(padding.argmin())], stored) if padding.any() else stored


class _FrameFragments:
    """The fragments of each frame of multi-frame files, searched for once a file."""

    def __init__(self) -> None:
        self._known: dict[Path, list[list[Span]]] = {}

    def of(self, stream: IO[bytes], element: PixelElement, header: DicomHeader) -> list[Span]:
        frames = self._known.get(header.path)
        if frames is None:
            frames = fragments_of_frames(stream, element, header.frames, header.path)
            if header.frames > 1:
                self._known[header.path] = frames
        return frames[header.frame - 1]


def decode_frame(header: DicomHeader) -> NDArray[Any]:
    """The stored values of a grey frame, unused high bits cleared or sign-extended.

    Args:
        header: header of the frame, or of one of its tiles.

    Returns:
        ``(rows, columns)`` of the stored frame in the stored type.

    Raises:
        ReadError: it cannot be decoded.
    """
    with open_pixels(header.path, header.pixels) as (stream, element):
        return _decode_open(stream, element, header, None, _FrameFragments())


def _decode_open(
    stream: IO[bytes], element: PixelElement, header: DicomHeader, out: NDArray[np.uint16] | None, fragments: _FrameFragments
) -> NDArray[Any]:
    """As `decode_frame`, from an open file.

    Args:
        stream: the open file.
        element: its pixel data element.
        header: header of the frame, or of one of its tiles.
        out: ``(rows, columns)`` to use where native pixels need no conversion.
        fragments: fragments of the frames of multi-frame files.
    """
    if is_native(header):
        return decode_native(stream, element, header, out)
    return decode_encapsulated(stream, fragments.of(stream, element, header), header)


def _tile(stored: NDArray[Any], header: DicomHeader) -> NDArray[Any]:
    if header.tile is None:
        return stored
    row, column = header.tile
    return stored[row : row + header.rows, column : column + header.columns]


def _write_word(target: NDArray[np.uint16], stored: NDArray[Any]) -> None:
    """Write 8 or 16-bit values into 16-bit words, sign-extended."""
    words = target.view(np.int16) if stored.dtype.kind == "i" else target
    if not np.shares_memory(words, stored):
        words[...] = stored


def _fits(plane: _DecodedPlane) -> bool:
    assert plane.low is not None
    assert plane.high is not None
    return fits_int16(plane.low, plane.high, plane.slope, plane.intercept)


def _rescale_in_place(word: NDArray[np.uint16], plane: _DecodedPlane, lowest: int) -> None:
    """Words to grey values in place. Arithmetic modulo 2^16 is exact, since every result fits in int16."""
    if plane.slope != 1:
        word *= np.uint16(int(plane.slope) % 2**16)
    if plane.intercept != 0:
        word += np.uint16(int(plane.intercept) % 2**16)
    _fill_padding(word.view(np.int16), plane, lowest)


def _rescale_to_float(target: NDArray[np.float32], word: NDArray[np.uint16], plane: _DecodedPlane, lowest: float | None) -> None:
    """Words to grey values in float32."""
    target[...] = word.view(np.int16 if plane.signed else np.uint16) * np.float64(plane.slope) + plane.intercept
    if lowest is not None:
        _fill_padding(target, plane, lowest)


def _fill_padding(values: NDArray[Any], plane: _DecodedPlane, lowest: float) -> None:
    if plane.padding is not None:
        values[np.unpackbits(plane.padding, count=values.size).view(np.bool_).reshape(values.shape)] = lowest


def _lowest_value(planes: Sequence[_DecodedPlane]) -> float | None:
    """The lowest grey value that is no padding; None where all is."""
    return min((plane.range[0] for plane in planes if plane.range is not None), default=None)


def _parallel(work: Callable[[int], object], count: int) -> None:
    """``work(0)`` to ``work(count - 1)`` on a few threads."""
    with ThreadPoolExecutor(max_workers=min(MAX_WORKERS, os.cpu_count() or 1, count)) as pool:
        for _ in pool.map(work, range(count)):
            pass


def _shape(headers: Sequence[DicomHeader]) -> tuple[int, int, int]:
    return (len(headers), headers[0].rows, headers[0].columns)
