"""Decodes one frame of DICOM pixels from its bytes: native pixels in place, compressed ones by the table of transfer syntaxes.

`transfer_syntaxes` says which decoders serve which syntax. Bits beyond BitsStored, where scanners leave overlays and garbage, are
cleared or sign-extended whatever decoder was used. Two cases differ, both of compressed frames (`_as_stored`): the sign bit of
the codestream is below that of the header; and lossy values overshoot, which is no garbage.
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import CorruptFileError, ReadError, UnsupportedFormatError
from voxelry.formats.dicom.elements import PARSE_ERRORS, short_message
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.pixels.codestream import Codestream, check_codestream, used_bits
from voxelry.formats.dicom.pixels.fragments import PixelElement, Span, read_exactly
from voxelry.formats.dicom.pixels.frame_format import FrameFormat
from voxelry.formats.dicom.pixels.panics import panics_as_errors
from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES, supported_codings, syntax_name

WORD_BITS = (8, 16, 32, 64)
"""BitsAllocated that are read."""


def is_native(header: DicomHeader) -> bool:
    """The pixels are not compressed."""
    row = TRANSFER_SYNTAXES.get(header.syntax)
    return row is not None and row.is_native


def is_deflated(header: DicomHeader) -> bool:
    """The whole data set is compressed."""
    row = TRANSFER_SYNTAXES.get(header.syntax)
    return row is not None and row.is_deflated


def check_codec(header: DicomHeader) -> None:
    """Refuse, from the header alone, pixels that no decoder here knows.

    Raises:
        UnsupportedFormatError: naming the transfer syntax and the codings that can be decoded.
    """
    if header.bits_allocated not in WORD_BITS or not 0 < header.bits_stored <= header.bits_allocated:
        raise UnsupportedFormatError(
            f"{header.path}: pixels of {header.bits_stored} bits in {header.bits_allocated} cannot be decoded",
            remedy="Export the images with 8 or 16 bits allocated.",
        )
    if header.syntax not in TRANSFER_SYNTAXES:
        raise _unknown(frame_format(header))


def frame_format(header: DicomHeader) -> FrameFormat:
    """The storage format of frames, from a header."""
    return FrameFormat(header.path, header.syntax, header.stored_shape, header.bits_allocated, header.bits_stored, header.signed)


def frame_bytes(header: DicomHeader) -> int:
    """Bytes of one native frame."""
    rows, columns = header.stored_shape
    return rows * columns * header.samples * header.bits_allocated // 8


def decode_native(
    stream: IO[bytes], element: PixelElement, header: DicomHeader, out: NDArray[np.uint16] | None = None
) -> NDArray[Any]:
    """An uncompressed frame.

    Args:
        stream: holds the file.
        element: element of its pixels.
        header: header of the frame.
        out: ``(rows, columns)``, contiguous: the bytes are read into it where they need no conversion.

    Returns:
        ``(rows, columns)`` stored values, a view of `out` where that was used; unused bits cleared or sign-extended.

    Raises:
        CorruptFileError: the file ends within the frame.
    """
    count = frame_bytes(header)
    offset = (header.frame - 1) * count
    if element.length < offset + count:
        raise _too_short(header, element.length, offset + count)
    big = TRANSFER_SYNTAXES[header.syntax].is_big_endian
    word = _word(header, element)
    span = (element.offset + offset, count)
    if out is not None and word.itemsize == 2:
        stream.seek(span[0])
        if stream.readinto(out.data.cast("B")) < count:  # type: ignore[attr-defined]
            raise _too_short(header, header.size, span[0] + count)
        values: NDArray[Any] = out.view(word)
        if big:
            values.byteswap(inplace=True)
    else:
        data = read_exactly(stream, span, header.path)
        if big and word.itemsize == 1 and element.is_words:
            data = np.frombuffer(data, dtype=">u2").astype("<u2").tobytes()
        stored = np.frombuffer(data, dtype=word.newbyteorder(">" if big else "<"))
        values = stored.astype(word).reshape(header.stored_shape)
    if values.dtype.kind == "f":
        return values
    return clear_unused(values, header.bits_stored, header.high_bit)


def decode_encapsulated(stream: IO[bytes], fragments: list[Span], header: DicomHeader) -> NDArray[Any]:
    """A compressed frame of a file.

    Args:
        stream: holds the file.
        fragments: fragments of the frame, in order.
        header: header of the frame.

    Returns:
        As `decode_compressed`.

    Raises:
        ReadError: as `decode_compressed`; CorruptFileError where the file ends within a fragment.
    """
    data = b"".join(read_exactly(stream, span, header.path) for span in fragments)
    return decode_compressed(data, frame_format(header))


def decode_compressed(data: bytes, frame: FrameFormat) -> NDArray[Any]:
    """A compressed frame.

    Args:
        data: its bytes.
        frame: storage format that the header states.

    Returns:
        ``(rows, columns)`` stored values, signed where the header states so, unused bits sign-extended or cleared.

    Raises:
        ReadError: no decoder makes sense of it; naming the transfer syntax and each decoder's reason.
        UnsupportedFormatError: no decoder for the transfer syntax.
    """
    row = TRANSFER_SYNTAXES.get(frame.syntax)
    if row is None:
        raise _unknown(frame)
    reasons: list[str] = []
    try:
        stream = check_codestream(data, frame, row.kinds) if row.kinds else None
    except ValueError as error:
        raise _undecodable(frame, str(error)) from error
    for decoder in row.decoders:
        try:
            with panics_as_errors():
                values = decoder.decode(data, frame)
        except PARSE_ERRORS as error:
            reasons.append(f"{decoder.library}: {short_message(error)}")
            continue
        if values.shape == frame.shape and values.dtype.kind in "iu":
            return _as_stored(values, frame, stream, is_lossless=row.is_lossless is True)
        reasons.append(f"{decoder.library} finds {values.shape}, the header states {frame.shape}")
    raise _undecodable(frame, "; ".join(reasons))


def clear_unused(values: NDArray[Any], bits_stored: int, high_bit: int) -> NDArray[Any]:
    """Clear the bits above the highest used one (sign-extend them, if signed) and drop those below the lowest, in place.

    Args:
        values: integers of any shape, writable.
        bits_stored: how many bits are used.
        high_bit: the number of the highest used bit, from 0; anything impossible means ``bits_stored - 1``.

    Returns:
        `values`.
    """
    width = 8 * values.dtype.itemsize
    if bits_stored >= width:
        return values
    above = width - 1 - high_bit if bits_stored - 1 <= high_bit < width else width - bits_stored
    if above:
        values <<= above
    values >>= width - bits_stored
    return values


def _as_stored(values: NDArray[Any], frame: FrameFormat, stream: Codestream | None, *, is_lossless: bool) -> NDArray[Any]:
    """Decoded values in the stored type, whatever signedness the codestream stated.

    Where header and codestream state different signs, the codestream's precision says where the sign bit is, as pydicom has it;
    where it has more bits than the header but not all of a word, they are values too, and no overlay. Values of a lossy frame may
    exceed BitsStored by a little: they are kept, since clearing their bits would make them black.
    """
    kind = "i" if frame.is_signed else "u"
    stored = np.ascontiguousarray(values).view(f"{kind}{values.dtype.itemsize}")
    if not stored.flags.writeable:
        stored = stored.copy()
    differs = stream is not None and stream.is_signed != frame.is_signed
    if not differs and (not is_lossless or (stream is not None and stream.is_irreversible)):
        return stored
    used = frame.bits_stored
    if stream is not None:
        used = used_bits(stream, frame.bits_stored, frame.bits_allocated, is_signed=frame.is_signed)
    return clear_unused(stored, used, used - 1)


def _unknown(frame: FrameFormat) -> UnsupportedFormatError:
    *others, last = supported_codings()
    return UnsupportedFormatError(
        f"{frame.path}: pixels in transfer syntax '{syntax_name(frame.syntax)}' ({frame.syntax}) cannot be decoded here",
        remedy=f"Export the images in one of these codings: {', '.join(others)} or {last}.",
    )


def _undecodable(frame: FrameFormat, problem: str) -> ReadError:
    return ReadError(
        f"{frame.path}: pixels in transfer syntax '{syntax_name(frame.syntax)}' cannot be decoded ({short_message(problem)})",
        remedy="The file is damaged, or coded in a way no decoder here knows: export it uncompressed.",
    )


def _word(header: DicomHeader, element: PixelElement) -> np.dtype[Any]:
    if element.keyword != "PixelData":
        return np.dtype(np.float32 if element.keyword == "FloatPixelData" else np.float64)
    return np.dtype(f"{'i' if header.signed else 'u'}{header.bits_allocated // 8}")


def _too_short(header: DicomHeader, available: int, needed: int) -> CorruptFileError:
    rows, columns = header.stored_shape
    return CorruptFileError(
        f"{header.path}: {available} bytes are too few for frame {header.frame} of {rows} x {columns} pixels ({needed} bytes)",
        remedy="The file is truncated: export or copy it again.",
    )
