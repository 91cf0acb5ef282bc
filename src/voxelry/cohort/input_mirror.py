"""InputMirror: archives and URLs as folders of stand-ins, in which scans are found as in any folder.

A stand-in has the name and the size of its file, and its first bytes; the rest is a hole. So one search, with its rules of masks,
channels and series, serves folders, zip archives and URLs; what is fetched for it is 32 KiB a file at most, and of a DICOM file
whose header is longer the whole.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO

from voxelry.cohort.remote_files import RemoteFile, fetch_file, first_bytes, list_files, place_of, public_url
from voxelry.cohort.scan_names import LeftOut, Scan
from voxelry.errors import MissingFileError, ReadError, UnsupportedFormatError, VoxelryError
from voxelry.formats.dicom.archive import Archive, ArchiveMember, open_archive
from voxelry.formats.dicom.planes import file_header
from voxelry.formats.file_content import HEAD_BYTES, FileContent
from voxelry.formats.signatures import is_dicom
from voxelry.formats.table import claims_image, claims_labels, format_by_ending

_AT_ONCE = 8
"""Requests of first bytes at a time."""

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")


@dataclass(frozen=True)
class _Mirrored:
    """An archive or a URL; `place` stands for it among paths, `stand_in` in the mirror."""

    place: Path
    stand_in: Path
    url: str = ""
    files: tuple[RemoteFile, ...] = ()


class InputMirror:
    """Stand-ins of archives and URLs, in a scratch folder.

    Args:
        root: the scratch folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sources: list[_Mirrored] = []

    def add_archive(self, archive: Path) -> Path:
        """The folder that stands for a zip archive; it is called as the archive without its ending.

        Raises:
            ReadError: the archive is damaged, encrypted, or unsafe to unpack.
        """
        place = Path(os.path.abspath(archive))  # noqa: PTH100 - a link keeps its name
        source = self._add(place, place.with_name(place.stem))
        with open_archive(archive) as reader:
            for member in reader.members():
                target = source.stand_in / member.path.relative_to(archive)
                head, size = _head_of_member(reader, member)
                _write_stand_in(target, head, size, partial(_whole_member, reader, member))
        source.stand_in.mkdir(parents=True, exist_ok=True)
        return source.stand_in

    def add_url(self, url: str) -> Path:
        """The file or folder that stands for what lies at a URL.

        Raises:
            MissingFileError: nothing is there.
            ReadError: it cannot be listed or read.
        """
        files = tuple(list_files(url))
        if not files:
            raise MissingFileError(f"{public_url(url)}: holds no file", remedy="Check the URL.")
        source = self._add(place_of(url), place_of(url), url, files)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(partial(_stand_in_of_url, source.stand_in), files):
                pass
        return source.stand_in

    def holds(self, path: Path) -> bool:
        """A path is a stand-in."""
        return path.is_relative_to(self.root)

    def resolved(self, scan: Scan) -> Scan:
        """A scan of stand-ins as what they stand for; any other as it is."""
        if not any(map(self.holds, scan.images)):
            return scan
        pairs = [self._source(path) for path in scan.images]
        urls = [_url_of(source, path) for source, path in zip(pairs, scan.images, strict=True)]
        version = sha256("\0".join(self._version(path) for path in scan.images).encode()).hexdigest() if any(urls) else ""
        images = tuple(map(self.shown, scan.images))
        return replace(scan, images=images, urls=tuple(urls) if any(urls) else (), version=version)

    def shown(self, path: Path) -> Path:
        """The place that a path stands for; a path that is no stand-in as it is."""
        source = self._source(path)
        return path if source is None else source.place / path.relative_to(source.stand_in)

    def left_out(self, each: LeftOut) -> LeftOut:
        """What is left out, by the place that it stands for."""
        return replace(each, path=self.shown(each.path))

    def error(self, error: VoxelryError) -> VoxelryError:
        """An error whose message names places in place of stand-ins."""
        for source in self._sources:
            old, new = str(source.stand_in), public_url(source.url) if source.url else str(source.place)
            error.problem = error.problem.replace(old, new)
            error.args = (str(error.args[0]).replace(old, new),)
        return error

    def _add(self, place: Path, called: Path, url: str = "", files: Sequence[RemoteFile] = ()) -> _Mirrored:
        stand_in = self.root / str(len(self._sources)) / called.relative_to(called.anchor)
        source = _Mirrored(place, stand_in, url, tuple(files))
        self._sources.append(source)
        return source

    def _source(self, path: Path) -> _Mirrored | None:
        return next((source for source in self._sources if path.is_relative_to(source.stand_in)), None)

    def _version(self, path: Path) -> str:
        """What the server says of the versions of a scan's files."""
        source = self._source(path)
        if source is None:
            return ""
        inner = path.relative_to(source.stand_in).as_posix()
        below = [file for file in source.files if inner == "." or file.name == inner or file.name.startswith(f"{inner}/")]
        return "\n".join(f"{file.name}\t{file.size}\t{file.version}" for file in below)


def check_archive(path: Path) -> None:
    """Refuse archives that are no zip.

    Raises:
        UnsupportedFormatError: it is one.
    """
    if path.name.lower().endswith(_TAR):
        raise UnsupportedFormatError(
            f"{path}: only zip archives are opened, from which one scan can be taken without the others",
            remedy="Unpack it, or pack it as zip.",
        )


def _url_of(source: _Mirrored | None, path: Path) -> str:
    """The URL of a scan's file or, with a slash at its end, folder; empty for what lies at none."""
    if source is None or not source.url:
        return ""
    inner = path.relative_to(source.stand_in).as_posix()
    if inner == ".":
        return source.url
    single = next((file.url for file in source.files if file.name == inner), "")
    return single or f"{source.url.rstrip('/')}/{inner}/"


def _head_of_member(reader: Archive, member: ArchiveMember) -> tuple[bytes, int]:
    with reader.open(member) as stream:
        return stream.read(HEAD_BYTES), member.entry.file_size


def _whole_member(reader: Archive, member: ArchiveMember) -> bytes:
    return reader.read(member)


def _stand_in_of_url(folder: Path, file: RemoteFile) -> None:
    target = folder / file.name if file.name else folder
    head = first_bytes(file, HEAD_BYTES) if _needs_head(target) else b""
    _write_stand_in(target, head, file.size or len(head), partial(_whole_file, file, target))


def _needs_head(path: Path) -> bool:
    """Its name does not tell what a file is: without an ending, or DICOM, whose series are told apart by their headers."""
    row = format_by_ending(path)
    if row is not None and (row.name == "dicom" or row.within == "dicom"):
        return True
    return not (claims_image(path) or claims_labels(path))


def _whole_file(file: RemoteFile, target: Path) -> bytes:
    beside = target.with_name(f".{target.name}.whole")
    fetch_file(file, beside)
    try:
        return beside.read_bytes()
    finally:
        beside.unlink()


def _write_stand_in(target: Path, head: bytes, size: int, whole: Callable[[], bytes]) -> None:
    """Write a stand-in; of a DICOM file whose header is longer than its first bytes the whole file."""
    content = head
    if is_dicom(head) and size > len(head):
        taken: list[bytes] = []

        def stream() -> IO[bytes]:
            taken.append(whole())
            return io.BytesIO(taken[0])

        with suppress(ReadError):  # the search finds the same
            file_header(target, FileContent(head, size, stream))
        content = taken[0] if taken else head
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as sink:
        sink.write(content)
        sink.truncate(size)
