"""FolderRecord: `model.json` of a model folder, the version of its format and size and SHA-256 of each file.

Versions are ``major.minor``. A minor version adds keys that a reader may leave out without changing a label; whatever changes
labels raises the major version, which older readers refuse. Folders from before this file have none, and are read unchecked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, NonNegativeInt

from voxelry.base.files import leads_outside, read_json, sha256_of, write_json
from voxelry.base.schema import Frozen, parse, parse_known
from voxelry.base.version import version
from voxelry.errors import ModelError, UsageError

log = logging.getLogger(__name__)

RECORD_FILE = "model.json"
MAJOR, MINOR = 1, 0
"""The version of the format that is written; any minor version of this major version is read."""

_COPY_AGAIN = "Copy the folder again."
_VERSION = r"^\d{1,6}\.\d{1,6}$"

Schema = TypeVar("Schema", bound=Frozen)


class FileRecord(Frozen):
    """A file of a model folder.

    Attributes:
        bytes: its size.
        sha256: SHA-256 of its content, in hexadecimal digits.
    """

    bytes: NonNegativeInt
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FolderRecord(Frozen):
    """What `model.json` says of its folder.

    Attributes:
        format: always the same.
        version: of the format, ``major.minor``.
        writer: version of voxelry that wrote the folder.
        files: path in the folder -> what is known of the file. Of an ensemble these are `model.json` of its members, which know
            their own files.
    """

    format: Literal["voxelry-model"] = "voxelry-model"
    version: Annotated[str, Field(pattern=_VERSION)] = f"{MAJOR}.{MINOR}"
    writer: str = ""
    files: dict[str, FileRecord]

    @property
    def is_newer(self) -> bool:
        """It was written in a later minor version than this one, so keys may be unknown here."""
        return int(self.version.partition(".")[2]) > MINOR


def write_record(folder: Path, names: Iterable[str]) -> None:
    """Write the record of a folder, whose files are complete.

    Args:
        folder: a model folder.
        names: paths in it of the files to record.
    """
    files = {name: FileRecord(bytes=(folder / name).stat().st_size, sha256=sha256_of(folder / name)) for name in names}
    write_json(folder / RECORD_FILE, FolderRecord(writer=version(), files=files).model_dump(mode="json"))


def read_record(folder: Path) -> FolderRecord | None:
    """The record of a folder, whose files are not looked at; None for a folder from before records.

    Args:
        folder: a model folder.

    Raises:
        ModelError: a later major version, or a damaged record.
    """
    file = folder / RECORD_FILE
    if not file.exists():
        return None
    try:
        value = read_json(file)
        stated = str(value.get("version"))
        major = stated.partition(".")[0]
        if value.get("format") == "voxelry-model" and major.isdecimal() and int(major) > MAJOR:
            raise ModelError(
                f"{file}: format {stated}, written by voxelry {value.get('writer') or 'of a later version'}; this voxelry "
                f"{version()} reads formats up to {MAJOR}.x",
                remedy="Update voxelry: pip install --upgrade voxelry.",
            )
        return parse_known(FolderRecord, value, str(file))[0]
    except UsageError as error:
        raise ModelError(error.problem, remedy=_COPY_AGAIN) from error


def checked_record(folder: Path, used: Collection[str]) -> FolderRecord | None:
    """The record of a folder whose files are as it says; None for a folder from before records.

    Args:
        folder: a model folder.
        used: paths in it of the files that will be read, where they exist.

    Raises:
        ModelError: a later major version, a damaged record, or a file that is missing, truncated, changed or not recorded.
    """
    file, record = folder / RECORD_FILE, read_record(folder)
    if record is None:
        return None
    for name, known in record.files.items():
        if leads_outside(name) or "\\" in name or ":" in name:
            raise ModelError(f"{file}: '{name}' lies outside the folder", remedy="Do not trust this folder.")
        _check(folder / name, known)
    surplus = [name for name in used if name not in record.files and (folder / name).exists()]
    if surplus:
        raise ModelError(f"{folder / surplus[0]}: is not in {RECORD_FILE}", remedy=_COPY_AGAIN)
    return record


def parse_of(
    kind: type[Schema], file: Path, read: Callable[[Path], dict[str, Any]], record: FolderRecord | None, remedy: str = _COPY_AGAIN
) -> Schema:
    """Read a text file of a model folder.

    Args:
        kind: what it holds.
        file: the file.
        read: reads it as plain data.
        record: the folder's record; of a later minor version, keys that are not known are left out, with a warning.
        remedy: for a damaged file.

    Raises:
        ModelError: it is damaged.
    """
    try:
        value = read(file)
        if record is None or not record.is_newer:
            return parse(kind, value, str(file))
        known, ignored = parse_known(kind, value, str(file))
    except UsageError as error:
        raise ModelError(error.problem, remedy=remedy) from error
    if ignored:
        log.warning(
            "%s: written in format %s by voxelry %s; this voxelry %s leaves out %s, which that format says changes no label",
            file,
            record.version,
            record.writer,
            version(),
            ", ".join(ignored),
        )
    return known


def _check(file: Path, known: FileRecord) -> None:
    """Refuse a file that is not as recorded."""
    if not file.is_file():
        raise ModelError(f"{file}: is missing", remedy="Copy the whole folder again.")
    size = file.stat().st_size
    if size != known.bytes:
        raise ModelError(f"{file}: {size} bytes, where {RECORD_FILE} says {known.bytes}", remedy=_remedy(file))
    if sha256_of(file) != known.sha256:
        raise ModelError(f"{file}: was changed or damaged: its SHA-256 is not that in {RECORD_FILE}", remedy=_remedy(file))


def _remedy(file: Path) -> str:
    if file.suffix not in (".yaml", ".json"):
        return _COPY_AGAIN
    return f"Copy the folder again; or, where you changed it on purpose, delete {RECORD_FILE}."
