"""DICOM header scan: every DICOM file of a folder, zip archive or DICOMDIR, opened once and read no further than its header."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import pydicom

from voxelry.base.files import no_such_file
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.errors import CorruptFileError, MissingFileError, ReadError
from voxelry.formats.detection import sniff
from voxelry.formats.dicom.archive import Archive, ArchiveMember, is_zip, open_archive
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
_SHOWN = 3
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
    with quiet_pydicom():
        if root.is_dir():
            tree = walk(root)
            result.unreadable += [UnreadableFile(file, error) for file, error in tree.problems]
            files = [file for file, _ in tree.files]
        elif root.is_file():
            files = _add(root, result, content)
            if not files:
                progress(_PROGRESS, 1, 1)
        else:
            raise no_such_file(root)
        for number, file in enumerate(files, start=1):
            _add(file, result)
            if number % _EVERY == 0 or number == len(files):
                progress(_PROGRESS, number, len(files))
    return result


def _add(file: Path, result: HeaderScan, content: FileContent | None = None) -> list[Path]:
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


def _add_file(path: Path, content: FileContent, result: HeaderScan, archive: Path | None = None) -> list[Path]:
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
        return _listed_files(path, content.stream(), result) if archive is None else []
    try:
        (result.planes if header.is_image else result.other_objects).extend(file_planes(header, content))
    except ReadError as error:
        result.unreadable.append(UnreadableFile(path, error, header.series, archive))
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


def _listed_files(directory: Path, stream: IO[bytes], result: HeaderScan) -> list[Path]:
    """The files that a DICOMDIR lists; missing ones, and those outside its folder, are unreadable files of their series.

    Args:
        directory: the DICOMDIR.
        stream: its content.
        result: gets the missing files.
    """
    stream.seek(0)
    try:
        records = list(_records(stream))
    except PARSE_ERRORS as error:
        problem = f"{directory}: the DICOMDIR cannot be read ({short_message(error)})"
        result.refused.append((directory, CorruptFileError(problem)))
        return []
    missing: dict[str, list[str]] = {}
    files: set[Path] = set()
    for components, series in records:
        file = _file_below(directory.parent, components)
        if file is None:
            missing.setdefault(series, []).append("/".join(components))
        else:
            files.add(file)
    for series, names in missing.items():
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        problem = f"{directory}: names {len(names)} files of series {series or '?'} that are not below its folder: {shown}"
        lost = MissingFileError(problem, remedy="Copy the whole medium.")
        result.unreadable.append(UnreadableFile(directory, lost, series or _NO_SERIES))
    return sorted(files)


def _records(stream: IO[bytes]) -> Iterator[tuple[tuple[str, ...], str]]:
    """File ID and SeriesInstanceUID of each DICOMDIR record; a record follows its parent's record (PS3.3 annex F)."""
    series = ""
    for record in pydicom.dcmread(stream).get("DirectoryRecordSequence") or []:
        kind = str(record.get("DirectoryRecordType", ""))
        if kind in ("PATIENT", "STUDY"):
            series = ""
        elif kind == "SERIES":
            series = str(record.get("SeriesInstanceUID", ""))
        if record.get("ReferencedFileID"):
            yield _file_id(record), series


def _file_id(record: pydicom.Dataset) -> tuple[str, ...]:
    value = record.ReferencedFileID
    return (str(value),) if isinstance(value, str) else tuple(str(component) for component in value)


def _file_below(folder: Path, components: Sequence[str]) -> Path | None:
    """The file with a File ID, in whatever case the medium was copied; None where there is none."""
    path = folder
    for component in components:
        if component in ("", ".", "..") or "/" in component or "\0" in component:
            return None
        path = next((spelling for spelling in _spellings(path, component) if spelling.exists()), path / component)
    return path if path.is_file() else None


def _spellings(folder: Path, name: str) -> Iterator[Path]:
    for spelling in (name, name.lower(), f"{name}.dcm", f"{name.lower()}.dcm"):
        yield folder / spelling
