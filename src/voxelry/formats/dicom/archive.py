"""Zip archives of DICOM files: listed without unpacking, unpacked one volume at a time, checked for zip bombs and bad paths.

An archive is refused as a whole if a member's name would lie outside it (absolute, or with ``..``), if a member is a link, if it
is encrypted, and if it would unpack to more than `MAX_BYTES`, or to more than `FREE_BYTES` and `MAX_RATIO` times its size: black
images compress well, a zip bomb better. Archives inside archives are not opened.

A zip archive may hold several members of one name. Each gets a path of its own here, by which it is listed, unpacked and named in
messages; of members that repeat one name and one content the first is kept.
"""

from __future__ import annotations

import io
import lzma
import shutil
import stat
import tempfile
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO

from voxelry.base.distinct_names import folded
from voxelry.base.files import leads_outside
from voxelry.errors import CorruptFileError, ReadError, UnsupportedFormatError
from voxelry.formats.dicom.deflated import FREE_BYTES, MAX_RATIO
from voxelry.formats.dicom.elements import short_message
from voxelry.formats.dicom.header import DicomHeader

MAX_BYTES = 256 * 2**30
"""Largest unpacked size of an archive."""

MAX_MEMBERS = 500_000
"""Largest number of files in an archive."""

_MODE = 16
"""Bits below the mode of Unix in a member's attributes."""
_MAGIC = b"PK\x03\x04"
_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
"""Exceptions of a damaged archive; NotImplementedError, for an unknown compression, is a RuntimeError."""


def is_zip(head: bytes) -> bool:
    """The first bytes are those of a zip archive."""
    return head.startswith(_MAGIC)


def is_zip_file(file: Path) -> bool:
    """A file begins as a zip archive does.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        return is_zip(stream.read(len(_MAGIC)))


@dataclass(frozen=True)
class ArchiveMember:
    """A file in an archive.

    Attributes:
        path: the archive's path followed by the member's name; unique, with a number where names clash.
        entry: its entry in the archive's directory.
    """

    path: Path
    entry: zipfile.ZipInfo


class Archive:
    """An open zip archive.

    Args:
        path: the archive.
        reader: its open reader.
    """

    def __init__(self, path: Path, reader: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = reader

    def members(self) -> list[ArchiveMember]:
        """Its files, sorted by name, without hidden ones and folders.

        Raises:
            CorruptFileError: a name that would lie outside the archive, a link, or too large an unpacked size.
            UnsupportedFormatError: it is encrypted.
        """
        entries = [entry for entry in self._zip.infolist() if not entry.is_dir()]
        self._check_size(entries)
        for entry in entries:
            _check_name(self.path, entry.filename)
            if stat.S_ISLNK(entry.external_attr >> _MODE):
                raise CorruptFileError(f"{self.path}: '{entry.filename}' is a link", remedy="Pack the files themselves.")
            if entry.flag_bits & 1:
                raise UnsupportedFormatError(f"{self.path}: the archive is encrypted", remedy="Unpack it with its password.")
        shown = sorted((entry for entry in entries if not _is_hidden(entry.filename)), key=lambda entry: entry.filename)
        return _members(self.path, shown)

    def open(self, member: ArchiveMember) -> IO[bytes]:
        """A stream of one member's content."""
        return self._zip.open(member.entry)

    def read(self, member: ArchiveMember) -> bytes:
        """One member's content."""
        return self._zip.read(member.entry)

    def extract(self, member: ArchiveMember, target: Path) -> None:
        """Write one member to a file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.open(member) as source, target.open("xb") as sink:
            shutil.copyfileobj(source, sink, 2**20)

    def _check_size(self, members: Sequence[zipfile.ZipInfo]) -> None:
        total = sum(member.file_size for member in members)
        packed = self.path.stat().st_size
        if len(members) > MAX_MEMBERS or total > MAX_BYTES or (total > FREE_BYTES and total > MAX_RATIO * packed):
            raise CorruptFileError(
                f"{self.path}: {packed} bytes would unpack to {total} bytes in {len(members)} files, as a zip bomb does",
                remedy=f"Unpack it yourself if you trust it; up to {MAX_RATIO} times its size is unpacked.",
            )


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive; any error within the context becomes one that names the archive.

    Args:
        path: the archive.

    Yields:
        The archive.

    Raises:
        CorruptFileError: damaged, or unsafe to unpack.
        UnsupportedFormatError: encrypted.
    """
    try:
        with zipfile.ZipFile(path) as reader:
            yield Archive(path, reader)
    except _ERRORS as error:
        raise CorruptFileError(
            f"{path}: the zip archive cannot be read ({short_message(error)})", remedy="Copy or download it again."
        ) from error


_PREFIX = "voxelry-"


class UnpackedFolder:
    """A private temporary folder with members of an archive, removed when this object is garbage-collected, or at exit.

    Attributes:
        archive: the zip archive.
        folder: the temporary folder.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._finish = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @contextmanager
    def errors_name_archive(self) -> Iterator[None]:
        """Within the context, errors name files by their path in the archive."""
        try:
            yield
        except ReadError as error:
            error.problem = self.shown(error.problem)
            error.args = (self.shown(error.args[0]),)
            raise

    def shown(self, text: str) -> str:
        """A path, or a text with paths, that names files by their path in the archive."""
        return text.replace(str(self.folder), str(self.archive))


def archive_of(file: Path) -> Path | None:
    """The archive that a path leads into, None for a file on disk and for one that is nowhere."""
    return None if file.exists() else next((parent for parent in file.parents if parent.is_file()), None)


def contents(files: Sequence[str]) -> Iterator[tuple[str, str | IO[bytes]]]:
    """Each file with what `pydicom.dcmread` takes: its path, or its content where it lies in an archive.

    Args:
        files: of `Source.files`.

    Raises:
        ReadError: an archive cannot be read, or does not hold a file any more.
    """
    for archive, members_or_files in groupby(files, key=lambda file: archive_of(Path(file))):
        if archive is None:
            yield from ((file, file) for file in members_or_files)
            continue
        with open_archive(archive) as reader:
            members = {str(member.path): member for member in reader.members()}
            for file in members_or_files:
                if file not in members:
                    raise ReadError(f"{file}: is not in its archive any more", remedy="Read the scan again.")
                yield file, io.BytesIO(reader.read(members[file]))


def unpack_planes(planes: Sequence[DicomHeader]) -> tuple[tuple[DicomHeader, ...], UnpackedFolder | None]:
    """Unpack the files of planes, if they are in an archive.

    Args:
        planes: all of one archive, or none of any.

    Returns:
        The planes with paths on disk, and the folder that holds their files and deletes them with itself; None where nothing was
        unpacked.

    Raises:
        ReadError: the archive cannot be read, or the temporary folder is full.
    """
    archive = planes[0].archive
    if archive is None:
        return tuple(planes), None
    unpacked = UnpackedFolder(archive)
    targets = {plane.path: unpacked.folder / plane.path.relative_to(archive) for plane in planes}
    try:
        with open_archive(archive) as reader:
            members = {member.path: member for member in reader.members()}
            for path, target in targets.items():
                reader.extract(members[path], target)
    except KeyError as error:
        raise ReadError(f"{archive}: changed while it was read ({short_message(error)})", remedy="Read it again.") from error
    return tuple(replace(plane, path=targets[plane.path]) for plane in planes), unpacked


def _members(archive: Path, entries: Sequence[zipfile.ZipInfo]) -> list[ArchiveMember]:
    """The members with distinct paths: a name that another member has, or that is a folder of others, gets a number."""
    folders = {folded(str(parent)) for entry in entries for parent in _member_path(entry.filename).parents}
    contents: set[tuple[PurePosixPath, int, int]] = set()
    taken: set[str] = set()
    numbers: Counter[PurePosixPath] = Counter()
    members = []
    for entry in entries:
        path = _member_path(entry.filename)
        content = (path, entry.CRC, entry.file_size)
        if content in contents:
            continue
        contents.add(content)
        distinct = path
        while folded(str(distinct)) in taken or folded(str(distinct)) in folders:
            numbers[path] += 1
            distinct = path.with_name(f"{path.stem} ({numbers[path] + 1}){path.suffix}")
        taken.add(folded(str(distinct)))
        members.append(ArchiveMember(archive / distinct, entry))
    return members


def _member_path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _is_hidden(name: str) -> bool:
    return any(component.startswith((".", "__MACOSX")) for component in _member_path(name).parts)


def _check_name(archive: Path, name: str) -> None:
    if leads_outside(name):
        raise CorruptFileError(
            f"{archive}: the member {name!r} would lie outside the archive", remedy="Do not trust this archive; make it again."
        )
