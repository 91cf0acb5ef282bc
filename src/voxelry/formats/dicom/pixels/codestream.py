"""The size and kind that a compressed frame states, checked against the header before a decoder allocates memory.

JPEG and JPEG-LS: the frame header (ITU-T T.81 section B.2.2, T.87 section C.2.2). JPEG 2000: the SIZ marker (T.800 section
A.5.1).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from voxelry.formats.dicom.pixels.frame_format import FrameFormat

JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LS = 0xC0, 0xC1, 0xC3, 0xF7
"""Kinds of codestream by their start-of-frame marker."""

JPEG_2000 = 0
"""The kind of codestream that begins with a SIZ marker: JPEG 2000, high-throughput or not."""

_FRAME_HEADERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers: SOF0 to SOF15, and SOF55 of JPEG-LS."""

HUFFMAN_CODED = (JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS)
"""Kinds whose grey pictures are one scan."""

_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_RESTARTS = range(0xD0, 0xD8)
_SCAN, _END, _RESTART_INTERVAL = 0xDA, 0xD9, 0xDD
_SCAN_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_START_OF_JPEG = b"\xff\xd8"
_START_OF_JPEG_2000 = b"\xff\x4f\xff\x51"
_LONGEST_BOXES = 4096
_CODING_STYLE, _TILE = 0x52, 0x90
"""Markers of JPEG 2000: COD, and SOT, which ends the header."""


@dataclass(frozen=True)
class Codestream:
    """Size and kind that a compressed frame states.

    Attributes:
        rows, columns: in pixels.
        components: 1 for grey.
        precision: bits of a component.
        kind: the start-of-frame marker of JPEG (0xC0 to 0xCF) and JPEG-LS (0xF7), `JPEG_2000` otherwise.
        offset: where in the bytes the codestream begins, after the boxes of a JP2 file.
        is_signed: components are signed, which JPEG 2000 alone can state.
        is_irreversible: of JPEG 2000, transformed by the lossy wavelet, whatever the transfer syntax says.
    """

    rows: int
    columns: int
    components: int
    precision: int
    kind: int = JPEG_2000
    offset: int = 0
    is_signed: bool = False
    is_irreversible: bool = False


def read_codestream(data: bytes) -> Codestream | None:
    """Read the size and kind that a frame's codestream states.

    Args:
        data: the bytes of a frame.

    Returns:
        None where it is no JPEG, JPEG-LS or JPEG 2000, or breaks off within its header.
    """
    try:
        if data.startswith(_START_OF_JPEG):
            return _jpeg(data)
        start = data.find(_START_OF_JPEG_2000, 0, _LONGEST_BOXES)
        return None if start < 0 else _jpeg_2000(data, start)
    except (struct.error, IndexError):
        return None


def used_bits(stream: Codestream, bits_stored: int, bits_allocated: int, *, is_signed: bool) -> int:
    """How many bits of a decoded word are its value, where codestream and header disagree.

    Args:
        stream: what the codestream states.
        bits_stored: of the header.
        bits_allocated: of the header.
        is_signed: by the header.
    """
    if bits_stored < stream.precision < bits_allocated:
        return stream.precision
    return bits_stored if stream.is_signed == is_signed else min(bits_stored, stream.precision)


def check_codestream(data: bytes, frame: FrameFormat, kinds: Collection[int]) -> Codestream:
    """Refuse a frame that contradicts its header or breaks off, before a decoder sees it.

    Args:
        data: the bytes of the frame.
        frame: storage format that the header states.
        kinds: of codestream that belong to the transfer syntax.

    Returns:
        What it states.

    Raises:
        ValueError: another kind, size or precision, several components, or a JPEG whose scan does not end: decoders would
            allocate what the codestream claims, and fill what is missing with grey.
    """
    stream = read_codestream(data)
    if stream is None:
        raise ValueError("no codestream of that kind begins there")
    if (stream.rows, stream.columns, stream.components) != (*frame.shape, 1):
        stated = f"{stream.rows} x {stream.columns} x {stream.components}"
        raise ValueError(f"the codestream states {stated}, the header {frame.shape[0]} x {frame.shape[1]} x 1")
    if stream.kind not in kinds:
        raise ValueError(f"the codestream is another kind of JPEG, SOF {stream.kind:#x}")
    if not min(2, frame.bits_allocated) <= stream.precision <= frame.bits_allocated:
        raise ValueError(f"the codestream states {stream.precision} bits, the header {frame.bits_allocated}")
    if stream.kind in HUFFMAN_CODED:
        check_scan(data)
    return stream


def _jpeg(data: bytes) -> Codestream | None:
    for marker, at in _segments(data):
        if marker in _FRAME_HEADERS:
            precision, rows, columns, components = struct.unpack(">BHHB", data[at + 4 : at + 10])
            return Codestream(rows, columns, components, precision, marker)
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """The marker and the offset of each segment of a JPEG's header, the first scan's last."""
    at, marker = len(_START_OF_JPEG), 0
    while marker != _SCAN and at < len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            yield marker, at
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]


def _jpeg_2000(data: bytes, start: int) -> Codestream:
    width, height, left, top = struct.unpack(">4L", data[start + 8 : start + 24])
    (components,) = struct.unpack(">H", data[start + 40 : start + 42])
    depth = data[start + 42]
    return Codestream(
        height - top,
        width - left,
        components,
        (depth & 0x7F) + 1,
        offset=start,
        is_signed=depth > 0x7F,
        is_irreversible=_is_irreversible(data, start),
    )


def _is_irreversible(data: bytes, start: int) -> bool:
    """The coding style of a JPEG 2000 codestream names the 9-7 wavelet (T.800 section A.6.1), which is lossy."""
    at = start + 2
    while at + 14 <= len(data) and data[at] == 0xFF and data[at + 1] != _TILE:
        if data[at + 1] == _CODING_STYLE:
            return data[at + 13] == 0
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def check_scan(data: bytes) -> None:
    """Refuse a JPEG without a scan, or whose scan holds anything but restart markers before the end marker.

    Raises:
        ValueError: it is so: decoders would fill what is missing with grey.
    """
    try:
        segments = list(_segments(data))
        restarts = any(marker == _RESTART_INTERVAL and data[at + 4 : at + 6] != b"\0\0" for marker, at in segments)
        scan = next(at for marker, at in segments if marker == _SCAN)
    except (StopIteration, struct.error, IndexError) as error:
        raise ValueError("it breaks off within its header") from error
    for match in _SCAN_MARKER.finditer(data, scan + 2):
        marker = match.group(1)[0]
        if marker == _END:
            return
        if not (restarts and marker in _RESTARTS):
            raise ValueError(f"its scan holds the marker {marker:#x}")
    raise ValueError("its scan does not end")
