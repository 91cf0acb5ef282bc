"""The planes of a DICOM file: its header read once, from the first bytes where they hold it, and split into frames.

A file's first `HEAD_BYTES` are read and parsed; only where the pixels do not begin within them is the file itself searched.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import pydicom

from voxelry.errors import CorruptFileError, ReadError
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, short_message, text_of
from voxelry.formats.dicom.header import WANTED, DicomHeader, parse
from voxelry.formats.dicom.multiframe import expand
from voxelry.formats.dicom.pixels.fragments import PixelPlace, find_pixels

HEAD_BYTES = 2**15
"""How much of a file is read at first; nearly every header of a single-frame file is shorter."""

MAX_HEADER_BYTES = 64 * 2**20
"""A deflated header is inflated no further."""

_DEFLATED = str(pydicom.uid.DeflatedExplicitVRLittleEndian).encode()
_LONGEST_META = 2048


def read_planes(path: Path) -> tuple[DicomHeader, ...]:
    """Read the header of one file.

    Args:
        path: the file.

    Returns:
        A header for each plane, see `file_planes`.

    Raises:
        CorruptFileError: it breaks off, or is no DICOM after all.
        ReadError: it cannot be opened, or its frames contradict each other.
    """
    try:
        with path.open("rb") as stream:
            content = FileContent(stream.read(HEAD_BYTES), os.fstat(stream.fileno()).st_size, lambda: stream)
            return file_planes(file_header(path, content), content)
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened ({error.strerror})", remedy="Check its permissions.") from error


@dataclass(frozen=True)
class FileContent:
    """What a file holds, read no further than is needed.

    Attributes:
        head: the first `HEAD_BYTES` bytes, or all there are.
        size: bytes of the file.
        stream: gives the file as a stream that can be searched.
    """

    head: bytes
    size: int
    stream: Callable[[], IO[bytes]]


def file_header(path: Path, content: FileContent, archive: Path | None = None) -> DicomHeader:
    """Read the header of a DICOM file from its first bytes, and from all of it only where these do not hold the header.

    Args:
        path: what it is called.
        content: its bytes.
        archive: the archive that holds it.

    Returns:
        The header, of a multi-frame file as of one plane.

    Raises:
        BrokenHeaderError: it breaks off, or is no DICOM after all.
    """
    data = None
    try:
        with quiet_pydicom():
            data, place = _dataset(content, WANTED)
            header = replace(parse(path, data, content.size), archive=archive, pixels=place)
            if _is_deflated(content):
                header = replace(header, syntax=_DEFLATED.decode())
            _check_whole(header)
    except PARSE_ERRORS as error:
        raise _unreadable(path, f"cannot be read ({short_message(error)})", data) from error
    except _HeaderEndsEarly as error:
        raise _unreadable(path, str(error), data) from error
    return header


def file_planes(header: DicomHeader, content: FileContent) -> tuple[DicomHeader, ...]:
    """The planes of a file.

    Args:
        header: of the file.
        content: its bytes.

    Returns:
        A header for each plane: one for a single-frame file or an object that is no image, one a frame for an enhanced
        multi-frame file, one a tile for a mosaic.

    Raises:
        ReadError: the frames contradict each other.
    """
    if not (header.is_image and (header.is_multiframe or "MOSAIC" in header.image_type)) or header.is_projection:
        return (header,)
    try:
        with quiet_pydicom():
            return expand(header, _dataset(content, None)[0])
    except PARSE_ERRORS as error:
        raise CorruptFileError(
            f"{header.path}: the frames of this file cannot be told ({short_message(error)})",
            remedy="Export it as single-frame (classic) DICOM.",
        ) from error


class _HeaderEndsEarly(Exception):  # noqa: N818 - what happened, seen in this module only
    """The header ends too early."""


def _check_whole(header: DicomHeader) -> None:
    if not header.sop_class or ("Image Storage" in header.sop_class and not (header.rows and header.columns)):
        raise _HeaderEndsEarly("breaks off: SOPClassUID or Rows and Columns are missing")


def _unreadable(path: Path, what: str, data: Any) -> BrokenHeaderError:
    series = "" if data is None else text_of(data, "SeriesInstanceUID")
    return BrokenHeaderError(f"{path}: the DICOM header {what}", remedy="Export or copy the file again.", series=series)


class BrokenHeaderError(CorruptFileError):
    """A DICOM file whose header cannot be read to its end.

    Attributes:
        series_uid: the series it says to belong to, empty where that is lost too.
    """

    def __init__(self, problem: str, *, remedy: str = "", series: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.series_uid = series


def _is_deflated(content: FileContent) -> bool:
    return _DEFLATED in content.head[: 132 + _LONGEST_META]


def _dataset(content: FileContent, wanted: list[Any] | None) -> tuple[Any, PixelPlace | None]:
    """The parsed elements up to the pixels, and where these lie; None where they lie nowhere, as in a deflated file."""
    if _is_deflated(content):
        return _parsed(io.BytesIO(_inflated(content)), wanted)[0], None
    if len(content.head) >= content.size:
        return _parsed(io.BytesIO(content.head), wanted)
    data, place = _within(content.head, wanted)
    return _parsed(content.stream(), wanted) if place is None else (data, place)


def _parsed(stream: IO[bytes], wanted: list[Any] | None) -> tuple[Any, PixelPlace | None]:
    stream.seek(0)
    data = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=wanted, force=True)
    return data, find_pixels(stream, data)


def _within(head: bytes, wanted: list[Any] | None) -> tuple[Any, PixelPlace | None]:
    """The parsed elements, if the pixels begin within the first bytes; no place where the header goes on."""
    try:
        return _parsed(io.BytesIO(head), wanted)
    except PARSE_ERRORS:
        return None, None


def _inflated(content: FileContent) -> bytes:
    """A deflated file's elements, inflated as far as `MAX_HEADER_BYTES` and marked as plain (PS3.5 section A.5)."""
    start = 144 + int.from_bytes(content.head[140:144], "little")
    stream = io.BytesIO(content.head) if len(content.head) >= content.size else content.stream()
    stream.seek(start)
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(MAX_HEADER_BYTES), MAX_HEADER_BYTES)
    return content.head[:start].replace(_DEFLATED, _DEFLATED[:-3] + b"\0\0\0") + inflated
