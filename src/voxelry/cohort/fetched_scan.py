"""FetchedScan: a scan from URLs or a zip archive, on this machine for as long as it is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from voxelry.cohort.remote_files import fetch_file, list_files, public_url
from voxelry.cohort.scan_names import Scan
from voxelry.cohort.scratch_folder import check_room, scratch_folder
from voxelry.errors import MissingFileError, VoxelryError
from voxelry.formats.dicom.archive import ArchiveMember, archive_of, open_archive
from voxelry.formats.table import format_by_ending, stem_of


class FetchedScan:
    """A scan whose images are files of this machine until it is closed; as a context, that is the scan.

    Args:
        scan: the scan; one on this machine already stays as it is.

    Attributes:
        scan: with images in a temporary folder, which `close` removes.

    Raises:
        ReadError: an image cannot be fetched, or the disk has no room for it.
    """

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self._names: dict[str, str] = {}
        self._held = ExitStack()
        archives = [None if url else archive_of(path) for path, url in zip(scan.images, _urls(scan), strict=True)]
        if scan.urls or any(archives):
            try:
                self._fetch(scan, archives)
            except BaseException:
                self.close()
                raise

    def _fetch(self, scan: Scan, archives: Sequence[Path | None]) -> None:
        folder = self._held.enter_context(scratch_folder())
        images = []
        for number, (path, url, archive) in enumerate(zip(scan.images, _urls(scan), archives, strict=True)):
            target = folder / str(number) / path.name
            images.append(path if not url and archive is None else target)
            self._names[str(target)] = where_from(scan, number)
            if url:
                _fetch_url(url, target)
            elif archive is not None:
                _unpack(path, archive, target)
        self.scan = replace(scan, images=tuple(images), urls=(), version="")

    def close(self) -> None:
        """Remove what was fetched."""
        self._held.close()

    def rename(self, error: BaseException) -> None:
        """Let an error name images by where they came from.

        Args:
            error: of reading the scan.
        """
        if isinstance(error, VoxelryError):
            for old, new in self._names.items():
                error.problem = error.problem.replace(old, new)
                error.args = (str(error.args[0]).replace(old, new),)

    def __enter__(self) -> Scan:
        return self.scan

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            self.rename(error)
        self.close()


def where_from(scan: Scan, number: int) -> str:
    """Where an image of a scan comes from, for messages: its path, or its URL without secrets."""
    url = _urls(scan)[number]
    return public_url(url) if url else str(scan.images[number])


def _urls(scan: Scan) -> tuple[str, ...]:
    return scan.urls or ("",) * len(scan.images)


def _fetch_url(url: str, target: Path) -> None:
    """Fetch a file, with the files of its stem beside it where its format has several; or all files of a folder."""
    files = list_files(url)
    is_file = [file.name for file in files] == [""]
    parent = public_url(url).rpartition("/")[0] + "/"
    if is_file and _has_others(target) and "?" not in url:
        stem = stem_of(target)
        siblings = [file for file in list_files(parent) if "/" not in file.name and stem_of(file.name) == stem]
        files = [*files, *(file for file in siblings if file.name != target.name)]
    check_room(target.parent.parent, sum(file.size or 0 for file in files), public_url(url))
    for file in files:
        fetch_file(file, target if not file.name else target / file.name if not is_file else target.with_name(file.name))


def _unpack(path: Path, archive: Path, target: Path) -> None:
    """Unpack a file of an archive, with those of its stem beside it where its format has several; or a folder."""
    status = archive.stat()
    listed = _members(archive, status.st_mtime_ns, status.st_size)
    members = [member for member in listed if member.path == path]
    if members and _has_others(path):
        beside = [member for member in listed if member.path.parent == path.parent]
        members = [member for member in beside if stem_of(member.path) == stem_of(path)]
    if not members:
        start = f"{path}{os.sep}"
        members = [member for member in listed if str(member.path).startswith(start)]
    if not members:
        raise MissingFileError(f"{path}: is not in its archive any more", remedy="Run again.")
    check_room(target.parent.parent, sum(member.entry.file_size for member in members), str(path))
    with open_archive(archive) as reader:
        for member in members:
            relative = os.path.relpath(member.path, path)
            reader.extract(member, Path(os.path.normpath(target / relative)))


@lru_cache(maxsize=1)
def _members(archive: Path, _time: int, _size: int) -> list[ArchiveMember]:
    """The members of an archive, checked once for all of its scans: 100,000 take five seconds."""
    with open_archive(archive) as reader:
        return reader.members()


def _has_others(path: Path) -> bool:
    """A file of this name may need others beside it, as a header its voxels."""
    row = format_by_ending(path)
    lower = path.name.lower()
    return row is not None and (bool(row.voxel_endings) or lower.endswith(row.read_only_endings or ("\0",)))
