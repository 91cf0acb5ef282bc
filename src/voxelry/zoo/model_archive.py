"""A model folder as one zip file, whose SHA-256 follows from the files alone, and back; bad paths, links, bombs are refused."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

from voxelry.base.files import sha256_of
from voxelry.errors import ModelError
from voxelry.formats.dicom.archive import open_archive
from voxelry.zoo.model_files import check_names, files_of

ARCHIVE_ENDING = ".zip"
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time of zip files, of every file in an archive, so that equal models make equal archives."""

_CHUNK = 1 << 20


def pack_model(folder: Path, archive: Path) -> str:
    """Write a model folder as a zip file.

    Args:
        folder: a model folder.
        archive: the file to write.

    Returns:
        Its SHA-256.
    """
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as writer:  # weights do not compress
        for name in files_of(folder):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, writer.open(entry, "w") as sink:
                shutil.copyfileobj(source, sink, _CHUNK)
    return sha256_of(archive)


def unpack_model(archive: Path, folder: Path, source: str) -> None:
    """Write the files of an archive into an empty folder; those of a single folder in it, as if it were that folder.

    Args:
        archive: a zip file.
        folder: where to; it exists.
        source: where the archive came from, for messages.

    Raises:
        ModelError: it holds what no model folder has, a link, or more than a model.
        ReadError: it is no zip file, damaged, encrypted, or unsafe to unpack.
    """
    if not zipfile.is_zipfile(archive):
        raise ModelError(f"{source}: is no zip file", remedy="Give a model that 'voxelry models push' packed.")
    with open_archive(archive) as reader:
        members = {member.path.relative_to(archive).as_posix(): member for member in reader.members()}
        for name, member in members.items():
            if stat.S_IFMT(member.entry.external_attr >> 16) not in (0, stat.S_IFREG):
                raise ModelError(f"{source}: holds {name!r}, a link", remedy="Do not trust it.")
        tops = {name.partition("/")[0] for name in members}
        prefix = f"{min(tops)}/" if len(tops) == 1 and all("/" in name for name in members) else ""
        inner = {name.removeprefix(prefix): member for name, member in members.items()}
        check_names(((name, member.entry.file_size) for name, member in inner.items()), source)
        for name, member in inner.items():
            reader.extract(member, folder / name)
