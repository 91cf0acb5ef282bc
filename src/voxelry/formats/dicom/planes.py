"""Reads the header of a DICOM file and splits it into image planes, one for each frame or mosaic tile.

The file's first bytes (`FileContent.head`) are parsed; the rest of the file is read only where the pixels do not begin in them.
"""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pydicom

from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.deflated import SYNTAX, inflated_head, is_deflated
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, short_message, text_of
from voxelry.formats.dicom.header import WANTED, DicomHeader, parse
from voxelry.formats.dicom.multiframe import enhanced_projection, expand
from voxelry.formats.dicom.pixels.codestream import read_codestream
from voxelry.formats.dicom.pixels.fragments import PixelElement, find_pixel_element, first_fragment
from voxelry.formats.file_content import FileContent, open_content

MAX_HEADER_BYTES = 64 * 2**20
"""A deflated header is inflated up to this size."""

_SOP_CLASS = pydicom.tag.Tag("SOPClassUID")
_META_GROUP = 2


def read_planes(path: str | os.PathLike[str]) -> tuple[DicomHeader, ...]:
    """The headers of one file's planes.

    Args:
        path: the file.

    Returns:
        A header for each plane, see `file_planes`.

    Raises:
        CorruptFileError: it is truncated, or no DICOM.
        ReadError: it cannot be opened, or its frames contradict each other.

    Example:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> len(read_planes(folder / "IM0001.dcm"))
        1
    """
    file = Path(path)
    with open_content(file) as content:
        return file_planes(file_header(file, content), content)


def file_header(path: Path, content: FileContent, archive: Path | None = None) -> DicomHeader:
    """The header of a DICOM file, parsed from its first bytes, or from the whole file if they do not hold all of it.

    Args:
        path: the file's name, for messages.
        content: its bytes.
        archive: the archive that holds it.

    Returns:
        One header, for a multi-frame file too.

    Raises:
        BrokenHeaderError: it is truncated, or no DICOM.
    """
    data = None
    try:
        with quiet_pydicom():
            data, element = _dataset(content, WANTED)
            stated = None if element is None else read_codestream(first_fragment(content.head, element))
            header = replace(parse(path, data, content.size), archive=archive, pixels=element, codestream=stated)
            if is_deflated(content.head):
                header = replace(header, syntax=SYNTAX)
            _check_complete(header)
    except PARSE_ERRORS as error:
        raise _unreadable(path, f"cannot be read ({short_message(error)})", data) from error
    except _TruncatedHeaderError as error:
        raise _unreadable(path, str(error), data) from error
    return header


def sop_class_of(content: FileContent) -> str:
    """The SOPClassUID of a DICOM file, of its file meta information where the data set is damaged; empty where both are."""
    try:
        with quiet_pydicom():
            class_uid = text_of(_dataset(content, [_SOP_CLASS])[0], "SOPClassUID")
    except PARSE_ERRORS:
        class_uid = ""
    try:
        return class_uid or text_of(file_meta(content.head), "MediaStorageSOPClassUID")
    except PARSE_ERRORS:
        return ""


def file_meta(head: bytes) -> Any:
    """The file meta information among a file's first bytes, empty where there is none; what follows is not parsed.

    Raises:
        Exception: any of `elements.PARSE_ERRORS`, where it is damaged.
    """
    stream = io.BytesIO(head[132:] if head[128:132] == b"DICM" else head)
    return pydicom.filereader.read_dataset(
        stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != _META_GROUP
    )


def file_planes(header: DicomHeader, content: FileContent) -> tuple[DicomHeader, ...]:
    """The planes of a file.

    Args:
        header: the file's header.
        content: its bytes.

    Returns:
        A header for each plane: one for a single-frame file or an object that is no image, one for each frame of an enhanced
        multi-frame file, one for each tile of a mosaic.

    Raises:
        ReadError: the frames contradict each other.
    """
    if not (header.is_image and (header.is_multiframe or header.is_mosaic)):
        return (header,)
    if header.is_projection and not (header.is_multiframe and header.frames == 1):
        return (header,)
    try:
        with quiet_pydicom():
            data = _dataset(content, None)[0]
            return (enhanced_projection(header, data),) if header.is_projection else expand(header, data)
    except PARSE_ERRORS as error:
        raise CorruptFileError(
            f"{header.path}: the frames of this file cannot be identified ({short_message(error)})",
            remedy="Export it as single-frame (classic) DICOM.",
        ) from error


class _TruncatedHeaderError(Exception):
    """The header ends too early; caught within this module."""


def _check_complete(header: DicomHeader) -> None:
    if not header.sop_class or ("Image Storage" in header.sop_class and not (header.rows and header.columns)):
        raise _TruncatedHeaderError("breaks off: SOPClassUID or Rows and Columns are missing")


def _unreadable(path: Path, problem: str, data: Any) -> BrokenHeaderError:
    series = "" if data is None else text_of(data, "SeriesInstanceUID")
    return BrokenHeaderError(f"{path}: the DICOM header {problem}", remedy="Export or copy the file again.", series=series)


class BrokenHeaderError(CorruptFileError):
    """A DICOM file whose header cannot be read to its end.

    Attributes:
        series_uid: its SeriesInstanceUID, empty where it is lost as well.
    """

    def __init__(self, problem: str, *, remedy: str = "", series: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.series_uid = series


def _dataset(content: FileContent, tags: list[Any] | None) -> tuple[Any, PixelElement | None]:
    """The parsed elements before the pixels, and the location of the pixels; None in a deflated file, where they have none."""
    if is_deflated(content.head):
        return _parsed(io.BytesIO(_inflated(content)), tags)[0], None
    if len(content.head) >= content.size:
        return _parsed(io.BytesIO(content.head), tags)
    data, element = _within(content.head, tags)
    return _parsed(content.stream(), tags) if element is None else (data, element)


def _parsed(stream: IO[bytes], tags: list[Any] | None) -> tuple[Any, PixelElement | None]:
    stream.seek(0)
    data = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=tags, force=True)
    return data, find_pixel_element(stream, data)


def _within(head: bytes, tags: list[Any] | None) -> tuple[Any, PixelElement | None]:
    """The parsed elements and the location of the pixels, if these begin within the first bytes; else None."""
    try:
        return _parsed(io.BytesIO(head), tags)
    except PARSE_ERRORS:
        return None, None


def _inflated(content: FileContent) -> bytes:
    """A deflated file's elements, inflated up to `MAX_HEADER_BYTES`."""
    whole = len(content.head) >= content.size
    return inflated_head(content.head, io.BytesIO(content.head) if whole else content.stream(), MAX_HEADER_BYTES)
