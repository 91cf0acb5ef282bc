"""DICOM pixels: decoded in parallel into one array, rescaled without truncation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import get_decoder

from voxelry.errors import CorruptFileError, ReadError, UnsupportedFormatError
from voxelry.read.dicom_header import PARSE_ERRORS, DicomHeader, quiet_pydicom, short, transfer_syntax, uid
from voxelry.read.voxels import check_finite, fits_int16

MAX_WORKERS = 4
"""Threads that decode at once; beyond this, reading the files is what takes the time."""

_PIXEL_TAGS = (
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration Rows Columns NumberOfFrames BitsAllocated BitsStored "
    "HighBit PixelRepresentation PixelData FloatPixelData DoubleFloatPixelData ExtendedOffsetTable "
    "ExtendedOffsetTableLengths"
).split()


def check_decodable(header: DicomHeader) -> None:
    """Refuse, from the header alone, pixels that cannot be decoded.

    Raises:
        UnsupportedFormatError: no decoder for the transfer syntax; a modality look-up table.
        CorruptFileError: the file is too short for its pixels, or the rescale slope is 0.
    """
    syntax = uid(header.syntax)
    try:
        with quiet_pydicom():
            available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise UnsupportedFormatError(
            f"{header.path}: pixels in transfer syntax '{syntax.name}' ({syntax}) cannot be decoded here",
            remedy="Export the images uncompressed (Explicit VR Little Endian).",
        )
    if header.has_lut:
        raise UnsupportedFormatError(
            f"{header.path}: grey values go through a modality look-up table, which is not read",
            remedy="Export the images with a rescale slope and intercept.",
        )
    wanted = header.rows * header.columns * header.samples * header.frames * header.bits_allocated // 8
    if not syntax.is_compressed and header.size < wanted:
        raise CorruptFileError(
            f"{header.path}: {header.size} bytes are too few for {header.rows} x {header.columns} pixels ({wanted} bytes)",
            remedy="The file is truncated: export or copy it again.",
        )
    if header.slope == 0:
        raise CorruptFileError(f"{header.path}: RescaleSlope is 0", remedy="Export the images again.")


def decode_slices(headers: Sequence[DicomHeader]) -> NDArray[Any]:
    """Grey values of single-frame files of one size.

    Each file's own rescale is applied; MONOCHROME1 is inverted.

    Args:
        headers: in slice order.

    Returns:
        ``(slices, rows, columns)``; int16 where every value is a whole number within int16, else float32.

    Raises:
        ReadError: a file that cannot be decoded, naming it and its transfer syntax.
        NonFiniteError: NaN or infinite values in floating-point pixels.
    """
    if all(header.bits_allocated <= 16 for header in headers):
        return _decode_16_bit(headers)
    return _decode_wide(headers)


def _decode_16_bit(headers: Sequence[DicomHeader]) -> NDArray[Any]:
    """Stored values into one block of 16-bit words, which become grey values in place where int16 holds them all."""
    words = np.empty(_shape(headers), dtype=np.uint16)

    def load(index: int) -> tuple[int, int]:
        header = headers[index]
        frame = decode_frame(header, invert=is_inverted(header)).astype(_word(header), copy=False)
        words[index] = frame.view(np.uint16)
        return int(frame.min()), int(frame.max())

    ends = _in_parallel(load, len(headers))
    fits = [fits_int16(low, high, h.slope, h.intercept) for h, (low, high) in zip(headers, ends, strict=True)]
    if all(fits):
        for header, word in zip(headers, words, strict=True):
            if header.slope != 1 or header.intercept != 0:
                values = word.view(_word(header)).astype(np.int32)
                word.view(np.int16)[...] = values * int(header.slope) + int(header.intercept)
        return words.view(np.int16)
    result = np.empty(words.shape, dtype=np.float32)
    for header, word, target in zip(headers, words, result, strict=True):
        target[...] = word.view(_word(header)) * np.float64(header.slope) + header.intercept
    return result


def _decode_wide(headers: Sequence[DicomHeader]) -> NDArray[np.float32]:
    """Stored values of 32 or 64 bits, as float32."""
    result = np.empty(_shape(headers), dtype=np.float32)

    def load(index: int) -> None:
        header = headers[index]
        frame = decode_frame(header, invert=is_inverted(header))
        check_finite(frame, str(header.path))
        result[index] = frame * np.float64(header.slope) + header.intercept

    _in_parallel(load, len(headers))
    return result


def is_inverted(header: DicomHeader) -> bool:
    """Low stored values are shown bright."""
    return header.photometric == "MONOCHROME1"


def decode_frame(header: DicomHeader, *, invert: bool) -> NDArray[Any]:
    """The stored values of a single-frame grey file, unused high bits cleared or sign-extended.

    Args:
        header: of the file.
        invert: mirror the values within the range of `bits_stored`.

    Returns:
        ``(rows, columns)`` in the stored type.

    Raises:
        ReadError: it cannot be decoded.
    """
    frame = _pixels(header)
    if frame.shape != (header.rows, header.columns):
        raise CorruptFileError(
            f"{header.path}: pixels decode to {frame.shape}, the header says {(header.rows, header.columns)}",
            remedy="Export or copy the file again.",
        )
    if not invert:
        return frame
    if frame.dtype.kind == "f":
        raise UnsupportedFormatError(
            f"{header.path}: floating-point pixels in MONOCHROME1 have no range to invert", remedy="Export as MONOCHROME2."
        )
    if header.signed:
        return ~frame
    highest = frame.dtype.type(2**header.bits_stored - 1)
    inverted: NDArray[Any] = highest - frame
    return inverted


def _pixels(header: DicomHeader) -> NDArray[Any]:
    syntax = uid(header.syntax)
    try:
        data = pydicom.dcmread(header.path, specific_tags=_PIXEL_TAGS, force=True)
        data.file_meta.TransferSyntaxUID = uid(transfer_syntax(data))
        pixels: NDArray[Any] = data.pixel_array
    except PARSE_ERRORS as error:
        kind = ReadError if syntax.is_compressed else CorruptFileError
        raise kind(
            f"{header.path}: pixels in transfer syntax '{syntax.name}' cannot be decoded ({short(error)})",
            remedy="The file is damaged, or coded in a way no decoder here knows: export it uncompressed.",
        ) from error
    return pixels


def _in_parallel(load: Any, count: int) -> list[Any]:
    workers = min(MAX_WORKERS, os.cpu_count() or 1, count)
    with quiet_pydicom(), ThreadPoolExecutor(max_workers=workers) as pool:
        return list(pool.map(load, range(count)))


def _shape(headers: Sequence[DicomHeader]) -> tuple[int, int, int]:
    return (len(headers), headers[0].rows, headers[0].columns)


def _word(header: DicomHeader) -> type[np.int16] | type[np.uint16]:
    return np.int16 if header.signed else np.uint16
