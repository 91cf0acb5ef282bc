"""The files that a DICOMDIR lists (DICOM PS3.3 annex F), wherever they were copied to.

A record names its file by folders and a name, and usually by its SOPInstanceUID too. Media are copied in other cases, with
endings, or flat into one folder, and then the name alone or the UID is left to know a file by.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pydicom

from voxelry.base.listing import shown
from voxelry.errors import MissingFileError
from voxelry.formats.dicom.elements import text_of

_SHOWN = 3


@dataclass(frozen=True)
class DirectoryRecord:
    """A file that a DICOMDIR lists.

    Attributes:
        directory: the DICOMDIR.
        components: its File ID: folders and name.
        series: its SeriesInstanceUID, empty where it is listed outside any series.
        instance: its SOPInstanceUID, empty where the record does not state it.
        file: where it is; None where nothing has that name below the DICOMDIR's folder.
    """

    directory: Path
    components: tuple[str, ...]
    series: str
    instance: str
    file: Path | None


def directory_records(directory: Path, stream: IO[bytes]) -> list[DirectoryRecord]:
    """The files that a DICOMDIR lists.

    Args:
        directory: the DICOMDIR.
        stream: its content.

    Raises:
        Exception: one of `elements.PARSE_ERRORS`, where it cannot be parsed.
    """
    stream.seek(0)
    records = []
    series = ""
    for record in pydicom.dcmread(stream).get("DirectoryRecordSequence") or []:
        kind = text_of(record, "DirectoryRecordType")
        if kind in ("PATIENT", "STUDY"):
            series = ""
        elif kind == "SERIES":
            series = text_of(record, "SeriesInstanceUID")
        components = tuple(component.strip() for component in text_of(record, "ReferencedFileID").split("\\"))
        if components != ("",):
            instance = text_of(record, "ReferencedSOPInstanceUIDInFile")
            folder = directory.parent
            file = _file_below(folder, components) or _file_below(folder, components[-1:])
            records.append(DirectoryRecord(directory, components, series, instance, file))
    return records


def missing_files(records: Sequence[DirectoryRecord], instances: Collection[str]) -> dict[tuple[Path, str], MissingFileError]:
    """An error for each DICOMDIR and series some of whose files are not there.

    Args:
        records: of any number of DICOMDIRs.
        instances: SOPInstanceUIDs of the files that are there, under whatever name.
    """
    lost: dict[tuple[Path, str], list[str]] = {}
    for record in records:
        if record.file is None and record.instance not in instances:
            lost.setdefault((record.directory, record.series), []).append("/".join(record.components))
    return {where: _missing(*where, names) for where, names in lost.items()}


def _missing(directory: Path, series: str, names: Sequence[str]) -> MissingFileError:
    problem = (
        f"{directory}: names {len(names)} files of series {series or '?'} that are not below its folder: {shown(names, _SHOWN)}"
    )
    return MissingFileError(problem, remedy="Copy the whole medium.")


def _file_below(folder: Path, components: Sequence[str]) -> Path | None:
    """The file with a File ID, in whatever case the medium was copied; None where there is none."""
    path = folder
    for component in components:
        if component in ("", ".", "..") or "/" in component or "\0" in component:
            return None
        path = next((spelling for spelling in _spellings(path, component) if spelling.exists()), path / component)
    return path if path.is_file() else None


def _spellings(folder: Path, name: str) -> Iterator[Path]:
    for stem in (name, name.lower(), name.upper()):
        for ending in ("", ".dcm", ".DCM"):
            yield folder / f"{stem}{ending}"
