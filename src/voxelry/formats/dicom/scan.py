"""Header scan: every DICOM file of a folder, a zip archive or a DICOMDIR, opened once and read no further than its header."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from zipfile import ZipInfo

import pydicom

from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.errors import CorruptFileError, MissingFileError, ReadError
from voxelry.formats.detection import HEAD_BYTES as SNIFF_BYTES
from voxelry.formats.detection import Format, sniff
from voxelry.formats.dicom.archive import Archive, is_zip, member_path, open_archive
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, short_message
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.planes import HEAD_BYTES, BrokenHeaderError, FileContent, file_header, file_planes
from voxelry.formats.dicom.walk import walk

DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage: a DICOMDIR."""

_CLAIMS = frozenset({"", ".dcm", ".dicom", ".ima", ".img"})
_EVERY = 50
_SHOWN = 3
_NO_SERIES = "?"
"""The series of a file that a DICOMDIR names outside of any."""


@dataclass(frozen=True)
class UnreadableFile:
    """A file that is, or claims to be, DICOM and cannot be read.

    Attributes:
        path: the file.
        error: why.
        series: its SeriesInstanceUID, empty where that is lost too.
        archive: what holds it.
    """

    path: Path
    error: ReadError
    series: str = ""
    archive: Path | None = None


@dataclass
class HeaderScan:
    """What a scan found.

    Attributes:
        planes: of images.
        other_objects: DICOM objects that are no image: segmentations, structure sets, reports.
        non_dicom_files: files that are not DICOM.
        unreadable: files that may be slices of something, and cannot be read.
        refused: archives that are refused, and directories that cannot be read.
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


def scan(place: Path, progress: ProgressCallback = no_progress) -> HeaderScan:
    """Read the header of every DICOM file below a folder, in an archive, or named by a DICOMDIR.

    Args:
        place: a folder, a zip archive, a DICOMDIR, or a DICOM file.
        progress: called as headers are read.

    Returns:
        What is there. Nothing is raised for a file that cannot be read: it is in the result.

    Raises:
        MissingFileError: there is no such place.
    """
    found = HeaderScan()
    if place.is_dir():
        tree = walk(place)
        found.unreadable += [UnreadableFile(path, error) for path, error in tree.problems]
        files = [path for path, _ in tree.files]
    elif place.is_file():
        files = [place]
    else:
        raise MissingFileError(f"{place}: no such file or folder", remedy="Check the path.")
    with quiet_pydicom():
        if len(files) == 1 and place.is_file():
            files = _named_by(place, found) or files
        for number, file in enumerate(files, start=1):
            _add(file, found)
            if number % _EVERY == 0 or number == len(files):
                progress("reading headers", number, len(files))
    return found


def is_dicomdir(path: Path) -> bool:
    """The file is a DICOMDIR."""
    with path.open("rb") as stream:
        head = stream.read(SNIFF_BYTES)
    return head[128:132] == b"DICM" and DIRECTORY_CLASS.encode() in head


def _add(file: Path, found: HeaderScan) -> None:
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            if is_zip(head):
                _add_archive(file, found)
            else:
                _add_file(file, FileContent(head, os.fstat(stream.fileno()).st_size, lambda: stream), found)
    except OSError as error:
        reason = ReadError(f"{file}: cannot be opened ({error.strerror})", remedy="Check its permissions.")
        found.unreadable.append(UnreadableFile(file, reason))


def _add_file(path: Path, content: FileContent, found: HeaderScan, archive: Path | None = None) -> None:
    kind = sniff(content.head[:SNIFF_BYTES])
    if kind is not None and kind is not Format.DICOM_FILE:
        found.non_dicom_files.append(path)
        return
    if kind is None:
        _add_nameless(path, content.size, found, archive)
        return
    try:
        header = file_header(path, content, archive)
    except BrokenHeaderError as error:
        found.unreadable.append(UnreadableFile(path, error, error.series_uid, archive))
        return
    if header.sop_class_uid == DIRECTORY_CLASS:
        if archive is None:
            _named_by(path, found)
        return
    try:
        (found.planes if header.is_image else found.other_objects).extend(file_planes(header, content))
    except ReadError as error:
        found.unreadable.append(UnreadableFile(path, error, header.series, archive))


def _add_nameless(path: Path, size: int, found: HeaderScan, archive: Path | None) -> None:
    """A file of no known format; one that claims to be DICOM by its name, or is empty, may be a slice that was lost."""
    claims = path.suffix.lower() in (".dcm", ".dicom", ".ima") or (not size and _may_be_slice(path))
    if claims:
        what = "the file is empty (0 bytes)" if not size else "called DICOM, but its content is not"
        found.unreadable.append(
            UnreadableFile(path, CorruptFileError(f"{path}: {what}", remedy="Export or copy it again."), "", archive)
        )
    else:
        found.non_dicom_files.append(path)


def _may_be_slice(path: Path) -> bool:
    return path.suffix.lower() in _CLAIMS or path.suffix[1:].isdigit()


def _add_archive(file: Path, found: HeaderScan) -> None:
    """The members of an archive; an archive without DICOM is one stranger."""
    inside = HeaderScan()
    try:
        with open_archive(file) as archive:
            for member in archive.members():
                with archive.open(member) as stream:
                    head = stream.read(HEAD_BYTES)
                content = FileContent(head, member.file_size, partial(_unpacked, archive, member))
                _add_file(member_path(file, member), content, inside, file)
    except ReadError as error:
        found.refused.append((file, error))
        return
    if not (inside.planes or inside.other_objects or inside.unreadable):
        found.non_dicom_files.append(file)
        return
    for mine, theirs in (
        (found.planes, inside.planes),
        (found.other_objects, inside.other_objects),
        (found.unreadable, inside.unreadable),
    ):
        mine += theirs  # type: ignore[operator]
    found.non_dicom_files += inside.non_dicom_files


def _unpacked(archive: Archive, member: ZipInfo) -> io.BytesIO:
    return io.BytesIO(archive.read(member))


def _named_by(directory: Path, found: HeaderScan) -> list[Path]:
    """The files that a DICOMDIR names; those that are not there, or lie outside its folder, are broken files of their series.

    Args:
        directory: any file.
        found: where what is lost is put.

    Returns:
        The files, none where `directory` is no DICOMDIR.
    """
    try:
        named = list(_records(directory)) if is_dicomdir(directory) else []
    except PARSE_ERRORS as error:
        found.refused.append((directory, CorruptFileError(f"{directory}: the DICOMDIR cannot be read ({short_message(error)})")))
        return []
    lost: dict[str, list[str]] = {}
    files: set[Path] = set()
    for name, series in named:
        file = _below(directory.parent, name)
        if file is None:
            lost.setdefault(series, []).append("/".join(name))
        else:
            files.add(file)
    for series, names in lost.items():
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        problem = f"{directory}: names {len(names)} files of series {series or '?'} that are not below its folder: {shown}"
        found.unreadable.append(
            UnreadableFile(directory, MissingFileError(problem, remedy="Copy the whole medium."), series or _NO_SERIES)
        )
    return sorted(files)


def _records(directory: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """File id and SeriesInstanceUID of each record of a DICOMDIR; records follow the one they belong to (PS3.3 annex F)."""
    series = ""
    for record in pydicom.dcmread(directory).get("DirectoryRecordSequence") or []:
        kind = str(record.get("DirectoryRecordType", ""))
        if kind in ("PATIENT", "STUDY"):
            series = ""
        elif kind == "SERIES":
            series = str(record.get("SeriesInstanceUID", ""))
        if record.get("ReferencedFileID"):
            yield _file_id(record), series


def _file_id(record: pydicom.Dataset) -> tuple[str, ...]:
    value = record.ReferencedFileID
    return (str(value),) if isinstance(value, str) else tuple(str(part) for part in value)


def _below(folder: Path, parts: Sequence[str]) -> Path | None:
    """A file by the components of its id, in whatever case the medium was copied; None where it is not there."""
    here = folder
    for part in parts:
        if part in ("", ".", "..") or "/" in part or "\0" in part:
            return None
        here = next((path for path in _spellings(here, part) if path.exists()), here / part)
    return here if here.is_file() else None


def _spellings(folder: Path, part: str) -> Iterator[Path]:
    for name in (part, part.lower(), f"{part}.dcm", f"{part.lower()}.dcm"):
        yield folder / name
