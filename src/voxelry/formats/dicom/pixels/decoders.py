"""The decoders of compressed frames: one function per library, from a frame's bytes to an array of its pixels.

imagecodecs holds CharLS (JPEG-LS), OpenJPEG (JPEG 2000) and libjpeg-turbo (JPEG of 8 and 12 bits, lossless JPEG of 2 to 16 bits),
and releases the interpreter's lock while they decode. RLE is decoded by pylibjpeg-rle, which is written in Rust: imagecodecs
reads beyond the frame where a damaged RLE header points there (docs/adr/0015-codecs.md). `transfer_syntaxes` says which decoder
serves which syntax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.formats.dicom.pixels.codestream import read_codestream
from voxelry.formats.dicom.pixels.frame_format import FrameFormat

_END_OF_IMAGE = b"\xff\xd9"
_RLE_HEADER = 64
"""Bytes of the number of segments and the offsets of up to 15."""
_RLE_PADDING = 1 << 16
"""Bytes of a segment beyond the two that a pixel takes at most: two bytes may become 128."""

DecodeFunction = Callable[[bytes, FrameFormat], NDArray[Any]]
"""From the bytes of a frame and what its header says to ``(rows, columns)`` integers of any sign.

The caller checks the shape and gives the result the sign that the header states. A damaged frame raises any of
`elements.PARSE_ERRORS`; the process must never end, nor memory be allocated without bound.
"""


@dataclass(frozen=True)
class Decoder:
    """A decoder, as rows of `transfer_syntaxes` name it.

    Attributes:
        library: the library that decodes.
        package: the package on PyPI that holds it.
        decode: decodes one frame.

    Example:
        >>> import numpy as np
        >>> from voxelry.formats.dicom.pixels import Decoder
        >>> bytewise = Decoder("numpy", "numpy", lambda data, frame: np.frombuffer(data, np.uint8).reshape(frame.shape))
        >>> bytewise.library
        'numpy'
    """

    library: str
    package: str
    decode: DecodeFunction


def decode_jpeg(data: bytes, frame: FrameFormat) -> NDArray[Any]:  # noqa: ARG001 - as DecodeFunction
    """A JPEG frame: baseline, extended or lossless. What its scan lacks is grey: `check_codestream` finds scans that break off.

    Args:
        data: the codestream.
        frame: storage format that the header states.

    Returns:
        ``(rows, columns)`` uint8 up to 8 bits, else uint16.
    """
    import imagecodecs

    return imagecodecs.jpeg8_decode(data)


def decode_jpeg_ls(data: bytes, frame: FrameFormat) -> NDArray[Any]:  # noqa: ARG001 - as DecodeFunction
    """A JPEG-LS frame, lossless or near-lossless.

    Args:
        data: the codestream.
        frame: storage format that the header states.

    Returns:
        ``(rows, columns)`` uint8 up to 8 bits, else uint16.
    """
    import imagecodecs

    # CharLS 2.4 counts 2^31 bits, for five seconds, where the bytes end before the image without a marker.
    return imagecodecs.jpegls_decode(data + _END_OF_IMAGE)


def decode_jpeg_2000(data: bytes, frame: FrameFormat) -> NDArray[Any]:  # noqa: ARG001 - as DecodeFunction
    """A JPEG 2000 frame, high-throughput or not; boxes before the codestream are skipped.

    Args:
        data: the bytes of the frame.
        frame: storage format that the header states.

    Returns:
        ``(rows, columns)`` of 8, 16 or 32 bits, signed where the codestream states so.
    """
    import imagecodecs

    stream = read_codestream(data)
    return imagecodecs.jpeg2k_decode(data[stream.offset if stream else 0 :], numthreads=1)


def decode_rle(data: bytes, frame: FrameFormat) -> NDArray[Any]:
    """An RLE frame (DICOM PS3.5 annex G); what some writers pad its segments with is dropped.

    Segment by segment: as a whole, the library panics on runs beyond the frame, and prints that by itself.

    Args:
        data: the bytes of the frame.
        frame: storage format that the header states.

    Returns:
        ``(rows, columns)`` unsigned integers of `FrameFormat.bits_allocated`.

    Raises:
        ValueError: the segments are not those of the frame, or break off.
    """
    from rle.rle import decode_segment

    count, pixels = max(1, frame.bits_allocated // 8), frame.shape[0] * frame.shape[1]
    header = np.frombuffer(data[:_RLE_HEADER].ljust(_RLE_HEADER, b"\0"), "<u4")
    bounds = [*map(int, header[1 : count + 1]), len(data)]
    if np.count_nonzero(header[1:]) != count or bounds[0] != _RLE_HEADER or bounds != sorted(set(bounds)):
        raise ValueError(f"{np.count_nonzero(header[1:])} RLE segments from {bounds[:-1]} on in a frame of {len(data)} bytes")
    values = np.zeros(pixels, f"<u{count}")
    for start, end in pairwise(bounds):  # the highest byte comes first
        segment = decode_segment(data[start : min(end, start + 2 * pixels + _RLE_PADDING)])
        if len(segment) < pixels:
            raise ValueError(f"an RLE segment holds {len(segment)} of {pixels} bytes")
        values <<= 8
        values |= np.frombuffer(segment, np.uint8, pixels)
    return values.reshape(frame.shape)


CHARLS = Decoder("CharLS", "imagecodecs", decode_jpeg_ls)
LIBJPEG_TURBO = Decoder("libjpeg-turbo", "imagecodecs", decode_jpeg)
OPENJPEG = Decoder("OpenJPEG", "imagecodecs", decode_jpeg_2000)
PYLIBJPEG_RLE = Decoder("pylibjpeg-rle", "pylibjpeg-rle", decode_rle)
