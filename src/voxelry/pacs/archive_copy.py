"""Copies of series from an archive: kept in a folder only when each is readable, is what was asked for, and none is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataelem import RawDataElement

from voxelry.base.files import atomic_folder
from voxelry.base.progress import ProgressCallback
from voxelry.errors import PacsError, UsageError, VoxelryError
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, short_message, text_of
from voxelry.pacs.pacs_records import UID, Pacs, SeriesRecord

_UNDEFINED = 2**32 - 1
_MOST_NAMED = 3
"""UIDs that a message names."""


@dataclass(frozen=True)
class FetchedSeries:
    """What became of a series that was asked for.

    Attributes:
        record: what the archive says of it.
        folder: where its instances lie, ``<StudyInstanceUID>/<SeriesInstanceUID>``; None where it failed.
        files: them, named by their SOPInstanceUID, sorted.
        error: why it failed.
    """

    record: SeriesRecord
    folder: Path | None = None
    files: tuple[Path, ...] = ()
    error: str = ""


def copy_series(pacs: Pacs, records: Sequence[SeriesRecord], out: Path, progress: ProgressCallback) -> list[FetchedSeries]:
    """Copy series into a folder; one that fails is listed, and the others go on.

    Args:
        pacs: the archive.
        records: the series.
        out: the folder.
        progress: called as ``progress(what, done, total)``.
    """
    results = []
    for number, record in enumerate(records):
        progress("fetching", number, len(records))
        try:
            files = copy_one(pacs, record, out / record.study / record.series)
            results.append(FetchedSeries(record, files[0].parent, files))
        except VoxelryError as error:
            results.append(FetchedSeries(record, error=str(error)))
    progress("fetching", len(records), len(records))
    return results


def copy_one(pacs: Pacs, record: SeriesRecord, target: Path) -> tuple[Path, ...]:
    """Copy a series into a folder of its own, which appears when all is there and checked.

    Args:
        pacs: the archive.
        record: the series.
        target: the folder; one that holds the very instances already is left as it is.

    Raises:
        PacsError: the archive gives something else than it announced.
        UsageError: the folder holds something else.
    """
    announced = _announced(pacs, record)
    if target.exists():
        if {path.name for path in target.iterdir()} != {f"{uid}.dcm" for uid in announced}:
            raise UsageError(f"{target}: holds other files than the archive's series", remedy="Name another folder.")
        return tuple(sorted(target.iterdir()))
    with atomic_folder(target) as folder:
        incoming = folder / "incoming"
        incoming.mkdir()
        pacs.retrieve(record, tuple(announced.values()), incoming)
        for file in sorted(incoming.iterdir()):
            uid = checked_uid(file, record, announced)
            if (folder / f"{uid}.dcm").exists():
                raise _wrong(f"instance {uid} came twice")
            file.rename(folder / f"{uid}.dcm")
        incoming.rmdir()
        missing = sorted(uid for uid in announced if not (folder / f"{uid}.dcm").exists())
        if missing:
            named = ", ".join(missing[:_MOST_NAMED]) + (", ..." if len(missing) > _MOST_NAMED else "")
            raise _wrong(
                f"{len(announced) - len(missing)} of {len(announced)} instances of series {record.series} came; {named} missing"
            )
    return tuple(sorted(target.iterdir()))


def _announced(pacs: Pacs, record: SeriesRecord) -> Mapping[str, str]:
    """The instances that the archive announces, by a query for each and by its own count."""
    announced = pacs.find_instances(record)
    if not announced:
        raise _wrong(f"it announces no instance of series {record.series}")
    if record.count is not None and record.count != len(announced):
        raise _wrong(f"it counts {record.count} instances of series {record.series}, and lists {len(announced)}")
    wrong = [uid for uid in announced if not UID.fullmatch(uid)]
    if wrong:
        raise _wrong(f"it lists an instance by {wrong[0]!r}, which is no UID")
    return announced


def checked_uid(file: Path, record: SeriesRecord, announced: Mapping[str, str]) -> str:
    """The SOPInstanceUID of a file that came, once it is whole and is one of those that were asked for.

    Args:
        file: the file.
        record: the series.
        announced: SOPInstanceUID -> SOPClassUID of its instances.

    Raises:
        PacsError: it is not.
    """
    try:
        with quiet_pydicom():
            data = pydicom.dcmread(file)
            _check_whole(data)
    except PARSE_ERRORS as error:
        raise _wrong(f"an instance cannot be read ({short_message(error)})") from error
    uid = text_of(data, "SOPInstanceUID")
    asked = {"StudyInstanceUID": record.study, "SeriesInstanceUID": record.series}
    for keyword, expected in asked.items():
        if text_of(data, keyword) != expected:
            raise _wrong(f"instance {uid} has {keyword} {text_of(data, keyword)!r}, asked for was {expected}")
    if uid not in announced:
        raise _wrong(f"instance {uid!r} came, which it did not announce")
    if text_of(data.file_meta, "MediaStorageSOPInstanceUID") not in (uid, ""):
        raise _wrong(f"instance {uid} is called another in its file meta information")
    return uid


def _check_whole(data: pydicom.Dataset) -> None:
    """Refuse a file that ends within an element."""
    if not len(data):
        raise ValueError("it holds no element")
    for tag in list(data.keys()):
        raw = data.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.value is not None and len(raw.value) < raw.length != _UNDEFINED:
            raise ValueError(f"it breaks off within element {tag}")


def _wrong(what: str) -> PacsError:
    return PacsError(f"the archive's answer is wrong: {what}", remedy="Fetch again; if it stays, ask who runs the archive.")
