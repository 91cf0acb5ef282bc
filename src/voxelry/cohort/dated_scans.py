"""Scans with their masks, by patient and date: from the headers of DICOM, from file names, or from a list."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from voxelry.base.files import no_such_file, read_text
from voxelry.base.listing import shown
from voxelry.cohort.inputs import find_scans
from voxelry.cohort.pairs import masks_in
from voxelry.errors import ManifestError, MissingFileError, UsageError, nearest
from voxelry.formats.dicom.study_facts import StudyFacts, study_facts
from voxelry.formats.reader import read
from voxelry.formats.table import stem_of

NAME_PATTERN = "{patient}_{date}"
"""How the name of a case tells patient and date, where no header does."""

_PARTS = {"patient": r"(?P<patient>.+?)", "date": r"(?P<date>\d{4}-?\d{2}-?\d{2})"}
_COLUMNS = ("image", "mask")


@dataclass(frozen=True)
class DatedScan:
    """A scan with its mask.

    Attributes:
        id: its name.
        patient: the patient's name in results: ``patient-1``... by DICOM headers.
        date: when it was made.
        image: file or folder.
        mask: file.
    """

    id: str
    patient: str
    date: date
    image: Path
    mask: Path


@dataclass(frozen=True)
class _Named:
    """A scan whose patient and date may not be known yet."""

    id: str
    image: Path
    mask: Path
    patient: str = ""
    date: date | None = None
    where: str = ""


def dated_scans(
    inputs: Sequence[str | os.PathLike[str]], masks: str | os.PathLike[str] | None = None, pattern: str | None = None
) -> dict[str, list[DatedScan]]:
    """The scans of each patient in the order of their dates.

    Patient and date are those of a list, else those of `pattern` where one is given, else those of the DICOM header, else those
    of `NAME_PATTERN`.

    Args:
        inputs: scans as for `predict`, or one list: CSV with the columns ``image``, ``mask`` and, if they are not to be read from
            elsewhere, ``patient`` and ``date``; its paths start from its folder.
        masks: a folder of masks named by case id, as `predict` writes them; None for a list.
        pattern: how a case id tells patient and date, such as ``{patient}_{date}``; dates are ``20260131`` or ``2026-01-31``.

    Returns:
        Patient -> scans, patients in the order of the inputs.

    Raises:
        UsageError: no masks, a pattern without ``{patient}`` and ``{date}``, or a scan of which they are not known.
        MissingFileError: a file, or the mask of a scan, is not there.
        ManifestError: a list without its columns.
        ReadError: a scan cannot be read.
    """
    named = list(_listed(Path(inputs[0])) if _is_list(inputs, masks) else _paired(inputs, masks))
    rule = None if pattern is None else _rule(pattern)
    by_patient: dict[str, list[DatedScan]] = {}
    pseudonyms: dict[str, str] = {}
    for each in named:
        scan = _dated(each, rule, pseudonyms)
        by_patient.setdefault(scan.patient, []).append(scan)
    return {patient: sorted(scans, key=lambda scan: scan.date) for patient, scans in by_patient.items()}


def _is_list(inputs: Sequence[str | os.PathLike[str]], masks: str | os.PathLike[str] | None) -> bool:
    is_list = len(inputs) == 1 and Path(inputs[0]).suffix.lower() == ".csv"
    if not is_list and masks is None:
        raise UsageError(
            "no masks of the scans", remedy="Name their folder (--masks), or give a CSV with columns image and mask."
        )
    return is_list and masks is None


def _paired(inputs: Sequence[str | os.PathLike[str]], masks: str | os.PathLike[str] | None) -> Iterator[_Named]:
    folder = Path(masks or "")
    if not folder.is_dir():
        raise no_such_file(folder, "folder")
    by_case = masks_in(folder)
    scans = find_scans(inputs)
    missing = [scan.id for scan in scans if scan.id not in by_case]
    if missing:
        raise MissingFileError(
            f"{folder}: no mask for {len(missing)} of {len(scans)} scans ({shown(missing)})",
            remedy="Masks have the names of their scans, as predict writes them.",
        )
    for scan in scans:
        yield _Named(scan.id, scan.images[0], by_case[scan.id][0])


def _listed(file: Path) -> Iterator[_Named]:
    rows = csv.DictReader(io.StringIO(read_text(file)))
    columns = [name.strip() for name in rows.fieldnames or ()]
    for name in _COLUMNS:
        if name not in columns:
            raise ManifestError(f"{file}: no column '{name}' (its columns: {', '.join(columns)})", remedy=nearest(name, columns))
    for number, row in enumerate(rows, start=2):
        cells = {str(name).strip(): (value or "").strip() for name, value in row.items() if isinstance(value, str | None)}
        where = f"{file}, line {number}"
        image, mask = (file.parent / cells[name] for name in _COLUMNS)
        for path in (image, mask):
            if not path.exists():
                raise no_such_file(path)
        day = _date(cells["date"], where) if cells.get("date") else None
        yield _Named(cells.get("id") or stem_of(image), image, mask, cells.get("patient", ""), day, where)


def _date(text: str, where: str) -> date:
    try:
        return datetime.strptime(text.replace("-", ""), "%Y%m%d").date()
    except ValueError:
        raise UsageError(f"{where}: '{text}' is no date", remedy="Write it as 2026-01-31 or 20260131.") from None


def _rule(pattern: str) -> re.Pattern[str]:
    """A pattern of names as a regular expression."""
    pieces = re.split(r"(\{patient\}|\{date\})", pattern)
    if sorted(piece for piece in pieces if piece[:1] == "{") != ["{date}", "{patient}"]:
        raise UsageError(f"the pattern '{pattern}'", remedy=f"Write {{patient}} and {{date}} once each, such as {NAME_PATTERN}.")
    return re.compile("".join(_PARTS.get(piece.strip("{}"), re.escape(piece)) for piece in pieces))


def _dated(each: _Named, rule: re.Pattern[str] | None, pseudonyms: dict[str, str]) -> DatedScan:
    patient, day = each.patient, each.date
    if rule is not None and not (patient and day):
        patient, day = _by_name(each, rule, patient, day)
    if not (patient and day):
        facts = study_facts(read(each.image).source)
        patient = patient or _pseudonym(facts, pseudonyms)
        day = day or facts.date
    if not (patient and day):
        patient, day = _by_name(each, _rule(NAME_PATTERN), patient, day)
    return DatedScan(each.id, patient, day, each.image, each.mask)


def _pseudonym(facts: StudyFacts, pseudonyms: dict[str, str]) -> str:
    return pseudonyms.setdefault(facts.patient, f"patient-{len(pseudonyms) + 1}") if facts.patient else ""


def _by_name(each: _Named, rule: re.Pattern[str], patient: str, day: date | None) -> tuple[str, date]:
    """Patient and date by the name of a case, where they are not known.

    Raises:
        UsageError: it does not fit the pattern.
    """
    match = rule.fullmatch(each.id)
    if match is None:
        unknown = " and ".join(name for name, value in (("patient", patient), ("date", day)) if not value)
        raise UsageError(
            f"{each.where or each.image}: {unknown} of '{each.id}' not known",
            remedy=f"Name files such as {NAME_PATTERN}, give another --pattern, or a CSV with columns patient and date.",
        )
    return patient or match["patient"], day or _date(match["date"], str(each.image))
