"""The byte ranges of each frame in a DICOM file, so that frames are read one by one and the file is parsed only once.

Native pixels lie frame after frame. Encapsulated ones lie in fragments (DICOM PS3.5 section A.4): one a frame, or as many as the
basic offset table says, or as many as there are until the next codestream begins.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pydicom

from voxelry.errors import CorruptFileError, ReadError
from voxelry.formats.dicom.deflated import open_inflated
from voxelry.formats.dicom.elements import PARSE_ERRORS

PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
"""The three elements that may hold pixels."""

UNDEFINED = 0xFFFFFFFF
"""The length of an element whose value is a sequence of fragments."""

_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN"})
_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""First bytes of a JPEG or JPEG-LS stream, and of a JPEG 2000 stream."""

Span = tuple[int, int]
"""Offset and length in bytes."""


@dataclass(frozen=True)
class PixelElement:
    """The position of the pixel data in a file.

    Attributes:
        offset: offset of its first byte, from the start of the file.
        length: bytes, or `UNDEFINED` for encapsulated pixels.
        keyword: one of `PIXEL_KEYWORDS`.
        is_words: the value representation is OW: in big endian, bytes lie in pairs of the wrong order.
    """

    offset: int
    length: int
    keyword: str = "PixelData"
    is_words: bool = True


def find_pixel_element(stream: IO[bytes], data: Any) -> PixelElement | None:
    """The pixel data element that begins where the stream stands, as `pydicom.dcmread` leaves it before the pixels.

    Args:
        stream: the file.
        data: the elements before, for the byte order and whether value representations are written.

    Returns:
        The element, or None where none begins there.
    """
    implicit, little = data.original_encoding
    start = stream.tell()
    head = stream.read(12)
    order = "<" if little else ">"
    if len(head) < (8 if implicit else 12):
        return None
    group, number = struct.unpack(order + "HH", head[:4])
    keyword = PIXEL_KEYWORDS.get(group << 16 | number)
    if keyword is None or not (implicit or head[4:6] in _LONG_VRS):
        return None
    at = 4 if implicit else 8
    (length,) = struct.unpack(order + "L", head[at : at + 4])
    return PixelElement(start + at + 4, length, keyword, implicit or head[4:6] == b"OW")


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise ReadError(
            f"{path}: cannot be opened ({error.strerror})", remedy="It was there when its header was read."
        ) from error


@contextmanager
def open_pixels(path: Path, element: PixelElement | None) -> Iterator[tuple[IO[bytes], PixelElement]]:
    """Open the stream that holds a file's pixels, and say where in it they are.

    Args:
        path: the file.
        element: from the header scan; None parses the file again (deflated files, whose pixels are nowhere in the file).

    Raises:
        CorruptFileError: the file has no pixels.
    """
    if element is not None:
        with _opened(path) as stream:
            yield stream, element
        return
    with _opened(path) as stream:
        value, keyword, is_native = _parsed_pixels(stream, path)
    yield io.BytesIO(value), PixelElement(0, len(value) if is_native else UNDEFINED, keyword)


def _parsed_pixels(stream: IO[bytes], path: Path) -> tuple[bytes, str, bool]:
    """The value of the pixel data element, its keyword, and whether it is native rather than encapsulated."""
    try:
        with open_inflated(path, stream) as plain:
            data = pydicom.dcmread(plain, specific_tags=list(PIXEL_KEYWORDS.values()), force=True)
        for keyword in PIXEL_KEYWORDS.values():
            if keyword in data:
                syntax = data.file_meta.get("TransferSyntaxUID")
                return data.get_item(keyword).value or b"", keyword, syntax is None or not syntax.is_encapsulated
    except PARSE_ERRORS as error:  # of a damaged length, whose value fits into no memory, too
        raise _truncated(path) from error
    raise CorruptFileError(f"{path}: holds no pixels", remedy="Export or copy the file again.")


def read_exactly(stream: IO[bytes], span: Span, path: Path) -> bytes:
    """The bytes of a span.

    Raises:
        CorruptFileError: the file ends before them.
    """
    stream.seek(span[0])
    data = stream.read(span[1])
    if len(data) < span[1]:
        raise _truncated(path)
    return data


def first_fragment(head: bytes, element: PixelElement) -> bytes:
    """As much of the first fragment as the first bytes of a file hold; empty for native pixels.

    Args:
        head: the first bytes.
        element: the pixel data of the same file.
    """
    if element.length != UNDEFINED:
        return b""
    table = int.from_bytes(head[element.offset + 4 : element.offset + 8], "little")
    return head[element.offset + 16 + table :]


def fragments_of_frames(stream: IO[bytes], element: PixelElement, frames: int, path: Path) -> list[list[Span]]:
    """The fragments of each frame of encapsulated pixels.

    Args:
        stream: open file.
        element: the pixel data.
        frames: how many the header states.
        path: for messages.

    Returns:
        `frames` lists.

    Raises:
        CorruptFileError: the file ends within a fragment, or the fragments do not make up `frames` frames.
    """
    table, *fragments = _items(stream, element, path)
    if frames == 1:
        return [fragments]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    starts = _starts_by_table(read_exactly(stream, table, path), fragments) or _starts_by_content(stream, fragments)
    if len(starts) != frames or starts[0] != 0:
        raise CorruptFileError(
            f"{path}: {len(fragments)} fragments of pixels do not make up the {frames} frames that the header states",
            remedy="The file is incomplete: export or copy it again.",
        )
    return [fragments[start:stop] for start, stop in zip(starts, [*starts[1:], len(fragments)], strict=True)]


def _items(stream: IO[bytes], element: PixelElement, path: Path) -> list[Span]:
    """The offset table and every fragment."""
    size = stream.seek(0, os.SEEK_END)
    at, items = element.offset, list[Span]()
    while at + 8 <= size:
        stream.seek(at)
        group, number, length = struct.unpack("<HHL", stream.read(8))
        tag = group << 16 | number
        if tag != _ITEM:
            break
        if at + 8 + length > size:
            raise _truncated(path)
        items.append((at + 8, length))
        at += 8 + length
    else:
        tag = _END if at >= size and len(items) > 1 else 0  # some writers leave the delimiter out at the end of a file
    if tag != _END or len(items) < 2:
        raise _truncated(path)
    return items


def _starts_by_table(table: bytes, fragments: list[Span]) -> list[int]:
    """Indices of the first fragment of each frame by the basic offset table; empty where it is empty or wrong."""
    offsets = struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4])
    first = fragments[0][0] - 8
    known = {at - 8 - first: index for index, (at, _) in enumerate(fragments)}
    starts = [known.get(offset, -1) for offset in offsets]
    return starts if -1 not in starts and starts == sorted(set(starts)) else []


def _starts_by_content(stream: IO[bytes], fragments: list[Span]) -> list[int]:
    """Indices of the fragments that begin with the start of a codestream."""
    starts = []
    for index, (at, _) in enumerate(fragments):
        stream.seek(at)
        if stream.read(4).startswith(_STARTS):
            starts.append(index)
    return starts


def _truncated(path: Path) -> CorruptFileError:
    return CorruptFileError(f"{path}: breaks off within its pixels", remedy="The file is truncated: export or copy it again.")
