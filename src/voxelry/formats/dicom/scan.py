"""DICOM header scan: every DICOM file of a folder, zip archive or DICOMDIR, opened once and read no further than its header."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from voxelry.base.files import no_such_file
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.errors import CorruptFileError, ReadError
from voxelry.formats.detection import sniff
from voxelry.formats.dicom.archive import Archive, ArchiveMember, is_zip, open_archive
from voxelry.formats.dicom.directory import DirectoryRecord, directory_records, missing_files
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, short_message
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.planes import BrokenHeaderError, file_header, file_planes
from voxelry.formats.dicom.walk import walk
from voxelry.formats.file_content import HEAD_BYTES, FileContent, cannot_be_opened, open_content
from voxelry.formats.signatures import HEAD_BYTES as SNIFF_BYTES
from voxelry.formats.table import format_named

DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR: Media Storage Directory Storage."""

_POSSIBLE_ENDINGS = frozenset({"", ".img"})
_PROGRESS = "reading headers"
_EVERY = 50
_NO_SERIES = "?"
"""Stands for the series of a file that a DICOMDIR lists outside any series."""


@dataclass(frozen=True)
class UnreadableFile:
    """A file that is DICOM, or claims to be by its name, and cannot be read.

    Attributes:
        path: the file.
        error: the reason.
        series: its SeriesInstanceUID, empty where it is lost as well.
        archive: the zip archive that holds it, or None.
    """

    path: Path
    error: ReadError
    series: str = ""
    archive: Path | None = None

    @property
    def is_of_series(self) -> bool:
        """Its series is known."""
        return self.series not in ("", _NO_SERIES)


@dataclass
class HeaderScan:
    """The result of a scan.

    Attributes:
        planes: headers of image planes.
        other_objects: headers of DICOM objects that are no image: segmentations, structure sets, reports.
        non_dicom_files: files that are not DICOM.
        unreadable: files that cannot be read and may be slices of a volume.
        refused: archives that are refused, and DICOMDIRs that cannot be read.

    Example:
        >>> from voxelry.formats.dicom.scan import scan_headers
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> headers = scan_headers(folder)
        >>> len(headers.planes), headers.non_dicom_files
        (12, [])
    """

    planes: list[DicomHeader] = field(default_factory=list)
    other_objects: list[DicomHeader] = field(default_factory=list)
    non_dicom_files: list[Path] = field(default_factory=list)
    unreadable: list[UnreadableFile] = field(default_factory=list)
    refused: list[tuple[Path, ReadError]] = field(default_factory=list)

    @property
    def instances(self) -> set[str]:
        """The SOPInstanceUID of every DICOM object."""
        return {header.sop_instance for header in (*self.planes, *self.other_objects)}

    @property
    def is_empty(self) -> bool:
        """There was no file at all."""
        return not (self.planes or self.other_objects or self.non_dicom_files or self.unreadable or self.refused)


def scan_headers(
    path: str | os.PathLike[str], progress: ProgressCallback = no_progress, content: FileContent | None = None
) -> HeaderScan:
    """Read the header of every DICOM file below a folder, in an archive, or listed by a DICOMDIR.

    Args:
        path: a folder, a zip archive, a DICOMDIR, or a DICOM file.
        progress: called as files are done.
        content: of `path`, where it is a file that is open already; None opens it.

    Returns:
        The headers. A file that cannot be read raises nothing: it is listed in the result.

    Raises:
        MissingFileError: `path` does not exist.

    Example:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> {header.modality for header in scan_headers(folder).planes}
        {'CT'}
    """
    root = Path(path)
    result = HeaderScan()
    listed: list[DirectoryRecord] = []
    with quiet_pydicom():
        if root.is_dir():
            tree = walk(root)
            result.unreadable += [UnreadableFile(file, error) for file, error in tree.problems]
            files = [file for file, _ in tree.files]
        elif root.is_file():
            listed = _add(root, result, content)
            files = sorted({record.file for record in listed if record.file is not None})
            if not files:
                progress(_PROGRESS, 1, 1)
        else:
            raise no_such_file(root)
        for number, file in enumerate(files, start=1):
            listed += _add(file, result)
            if number % _EVERY == 0 or number == len(files):
                progress(_PROGRESS, number, len(files))
        if root.is_file():
            _add_renamed(listed, files, result)
        for (directory, series), error in missing_files(listed, result.instances).items():
            result.unreadable.append(UnreadableFile(directory, error, series or _NO_SERIES))
    return result


def _add_renamed(listed: Sequence[DirectoryRecord], files: Sequence[Path], result: HeaderScan) -> None:
    """Add the files of a DICOMDIR that lie below its folder under names that it does not know, by their SOPInstanceUID."""
    wanted = {record.instance for record in listed if record.file is None} - {"", *result.instances}
    if not wanted:
        return
    around = HeaderScan()
    for file, _ in walk(listed[0].directory.parent).files:
        if file not in files:
            _add(file, around)
    result.planes += [plane for plane in around.planes if plane.sop_instance in wanted]
    result.other_objects += [header for header in around.other_objects if header.sop_instance in wanted]


def _add(file: Path, result: HeaderScan, content: FileContent | None = None) -> list[DirectoryRecord]:
    """Add one file to the result; returns the files that it lists, where it is a DICOMDIR."""
    try:
        with open_content(file) if content is None else nullcontext(content) as opened:
            if not is_zip(opened.head):
                return _add_file(file, opened, result)
        _add_archive(file, result)
    except ReadError as error:
        result.unreadable.append(UnreadableFile(file, error))
    except OSError as error:
        result.unreadable.append(UnreadableFile(file, cannot_be_opened(file, error)))
    return []


def _add_file(path: Path, content: FileContent, result: HeaderScan, archive: Path | None = None) -> list[DirectoryRecord]:
    kind = sniff(content.head[:SNIFF_BYTES])
    if kind is not None and kind.name != "dicom":
        result.non_dicom_files.append(path)
        return []
    if kind is None:
        _add_unrecognised(path, content.size, result, archive)
        return []
    try:
        header = file_header(path, content, archive)
    except BrokenHeaderError as error:
        result.unreadable.append(UnreadableFile(path, error, error.series_uid, archive))
        return []
    if header.sop_class_uid == DIRECTORY_CLASS:
        return _listed(path, content.stream(), result) if archive is None else []
    try:
        (result.planes if header.is_image else result.other_objects).extend(file_planes(header, content))
    except ReadError as error:
        result.unreadable.append(UnreadableFile(path, error, header.series, archive))
    return []


def _listed(directory: Path, stream: IO[bytes], result: HeaderScan) -> list[DirectoryRecord]:
    """The files that a DICOMDIR lists."""
    try:
        return directory_records(directory, stream)
    except PARSE_ERRORS as error:
        problem = f"{directory}: the DICOMDIR cannot be read ({short_message(error)})"
        result.refused.append((directory, CorruptFileError(problem)))
        return []


def _add_unrecognised(path: Path, size: int, result: HeaderScan, archive: Path | None) -> None:
    """A file of unknown format. One with a DICOM ending, or an empty one without another ending, may be a lost slice."""
    suffix = path.suffix.lower()
    if suffix in format_named("dicom").endings or (not size and (suffix in _POSSIBLE_ENDINGS or suffix[1:].isdigit())):
        problem = "the file is empty (0 bytes)" if not size else "called DICOM, but its content is not"
        error = CorruptFileError(f"{path}: {problem}", remedy="Export or copy it again.")
        result.unreadable.append(UnreadableFile(path, error, "", archive))
    else:
        result.non_dicom_files.append(path)


def _add_archive(file: Path, result: HeaderScan) -> None:
    """The members of an archive; an archive without DICOM counts as one file that is not DICOM."""
    members = HeaderScan()
    try:
        with open_archive(file) as archive:
            for member in archive.members():
                with archive.open(member) as stream:
                    head = stream.read(HEAD_BYTES)
                content = FileContent(head, member.entry.file_size, partial(_unpacked, archive, member))
                _add_file(member.path, content, members, file)
    except ReadError as error:
        result.refused.append((file, error))
        return
    if not (members.planes or members.other_objects or members.unreadable):
        result.non_dicom_files.append(file)
        return
    result.planes += members.planes
    result.other_objects += members.other_objects
    result.unreadable += members.unreadable
    result.non_dicom_files += members.non_dicom_files


def _unpacked(archive: Archive, member: ArchiveMember) -> io.BytesIO:
    return io.BytesIO(archive.read(member))
