"""What a compressed frame says of itself: looked at before any decoder allocates memory for it.

JPEG and JPEG-LS: the frame header (ITU-T T.81 section B.2.2, T.87 section C.2.2). JPEG 2000: the SIZ marker (T.800 section
A.5.1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_FRAME_HEADERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers: SOF0 to SOF15, and SOF55 of JPEG-LS."""

_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_J2K = b"\xff\x4f\xff\x51"
_JPEG = b"\xff\xd8"
_SCAN = 0xDA


@dataclass(frozen=True)
class Codestream:
    """The size of a compressed frame.

    Attributes:
        rows, columns: in pixels.
        components: 1 for grey.
        precision: bits of a component.
        marker: the kind of JPEG: 0xC0 to 0xCF, 0xF7 for JPEG-LS; 0 for JPEG 2000.
        offset: where in the bytes the codestream begins, after the boxes of a JP2 file.
    """

    rows: int
    columns: int
    components: int
    precision: int
    marker: int = 0
    offset: int = 0


def look_at(data: bytes) -> Codestream | None:
    """The size that a frame's codestream states.

    Args:
        data: the bytes of a frame.

    Returns:
        None where it is no JPEG, JPEG-LS or JPEG 2000, or breaks off before it says.
    """
    try:
        if data.startswith(_JPEG):
            return _jpeg(data)
        start = data.find(_J2K, 0, 4096)
        return None if start < 0 else _jpeg_2000(data, start)
    except (struct.error, IndexError):
        return None


def _jpeg(data: bytes) -> Codestream | None:
    at = 2
    while at < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAME_HEADERS:
            precision, rows, columns, components = struct.unpack(">BHHB", data[at + 4 : at + 10])
            return Codestream(rows, columns, components, precision, marker)
        elif marker == _SCAN:
            return None
        else:
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


def _jpeg_2000(data: bytes, start: int) -> Codestream:
    width, height, left, top = struct.unpack(">4L", data[start + 8 : start + 24])
    (components,) = struct.unpack(">H", data[start + 40 : start + 42])
    return Codestream(height - top, width - left, components, (data[start + 42] & 0x7F) + 1, offset=start)
