"""Zip archives of DICOM files: looked into without unpacking, unpacked one volume at a time, and never trusted.

An archive is refused as a whole where a member's name would lie outside it (absolute, or with ``..``), where it is encrypted,
and where it would unpack to more than `MAX_BYTES`, or to more than `MAX_RATIO` times its size once that is beyond
`FREE_BYTES`: black images compress well, but a bomb compresses better. Archives inside archives are not opened.
"""

from __future__ import annotations

import lzma
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO

from voxelry.errors import CorruptFileError, ReadError, UnsupportedFormatError
from voxelry.formats.dicom.elements import short_message
from voxelry.formats.dicom.header import DicomHeader

MAX_BYTES = 256 * 2**30
"""An archive may unpack to this much."""

FREE_BYTES = 256 * 2**20
"""An archive that unpacks to no more than this may be of any ratio."""

MAX_RATIO = 100
"""How many times its size a larger archive may unpack to. Images of one grey value reach 1000, real studies 2 to 20."""

MAX_MEMBERS = 500_000
"""How many files an archive may hold."""

_MAGIC = b"PK\x03\x04"
_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
"""What a damaged archive raises; NotImplementedError, for an unknown compression, is a RuntimeError."""


def is_zip(head: bytes) -> bool:
    """The first bytes are those of a zip archive."""
    return head.startswith(_MAGIC)


class Archive:
    """An open archive whose members may be read.

    Args:
        path: the archive.
        opened: its reader.
    """

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = opened

    def members(self) -> list[zipfile.ZipInfo]:
        """Its files, sorted by name; hidden ones and folders are left out.

        Raises:
            CorruptFileError: a name that would lie outside the archive, or far more content than an archive of this size holds.
            UnsupportedFormatError: it is encrypted.
        """
        members = [member for member in self._zip.infolist() if not member.is_dir()]
        self._check_size(members)
        for member in members:
            _check_name(self.path, member.filename)
            if member.flag_bits & 1:
                raise UnsupportedFormatError(f"{self.path}: the archive is encrypted", remedy="Unpack it with its password.")
        return sorted((m for m in members if not _is_hidden(m.filename)), key=lambda m: m.filename)

    def open(self, member: zipfile.ZipInfo) -> IO[bytes]:
        """A stream of one member's content."""
        return self._zip.open(member)

    def read(self, member: zipfile.ZipInfo) -> bytes:
        """One member's content."""
        return self._zip.read(member)

    def extract(self, name: str, target: Path) -> None:
        """Write one member to a file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._zip.open(name) as source, target.open("wb") as sink:
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
    """Open an archive, and turn whatever goes wrong inside into one error that names it.

    Args:
        path: the archive.

    Yields:
        The archive.

    Raises:
        CorruptFileError: damaged, or not to be trusted.
        UnsupportedFormatError: encrypted.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            yield Archive(path, opened)
    except _ERRORS as error:
        raise CorruptFileError(
            f"{path}: the zip archive cannot be read ({short_message(error)})", remedy="Copy or download it again."
        ) from error


_PREFIX = "voxelry-"


class UnpackedFolder:
    """A private temporary folder with members of an archive, removed when nobody holds this any more, or at exit.

    Attributes:
        archive: where they came from.
        folder: where they lie.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._finish = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @contextmanager
    def errors_name_archive(self) -> Iterator[None]:
        """Within it, an error names files by their place in the archive."""
        try:
            yield
        except ReadError as error:
            error.problem = error.problem.replace(str(self.folder), str(self.archive))
            error.args = (error.args[0].replace(str(self.folder), str(self.archive)),)
            raise


def is_unpacked(file: Path) -> bool:
    """Whether a file that was read is a copy that `UnpackedFolder` made, and lives no longer than that."""
    place = Path(tempfile.gettempdir())
    return file.is_relative_to(place) and file.relative_to(place).parts[0].startswith(_PREFIX)


def unpack_planes(planes: Sequence[DicomHeader]) -> tuple[tuple[DicomHeader, ...], UnpackedFolder | None]:
    """Put the files of some planes where they can be opened.

    Args:
        planes: of one archive, or none of an archive.

    Returns:
        The planes with paths of files, and what keeps these files alive; None where they lie in no archive.

    Raises:
        ReadError: the archive cannot be read, or the temporary folder is full.
    """
    archive = planes[0].archive
    if archive is None:
        return tuple(planes), None
    kept = UnpackedFolder(archive)
    targets = {plane.path: kept.folder / plane.path.relative_to(archive) for plane in planes}
    try:
        with open_archive(archive) as opened:
            known = {_path_of(archive, member.filename): member.filename for member in opened.members()}
            for path, target in targets.items():
                opened.extract(known[path], target)
    except KeyError as error:
        raise ReadError(f"{archive}: changed while it was read ({short_message(error)})", remedy="Read it again.") from error
    return tuple(replace(plane, path=targets[plane.path]) for plane in planes), kept


def member_path(archive: Path, member: zipfile.ZipInfo) -> Path:
    """How a member is called: the archive's path followed by its own name."""
    return _path_of(archive, member.filename)


def _path_of(archive: Path, name: str) -> Path:
    return archive / _parts(name)


def _parts(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in _parts(name).parts)


def _check_name(archive: Path, name: str) -> None:
    parts = _parts(name)
    if parts.is_absolute() or ".." in parts.parts or ":" in (parts.parts or ("",))[0] or "\0" in name:
        raise CorruptFileError(
            f"{archive}: the member {name!r} would lie outside the archive", remedy="Do not trust this archive; make it again."
        )
