"""Follow-ups of a cohort: patient by patient, registered, matched, measured, and written; a patient that fails is reported."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from voxelry.base.failures import task_failures
from voxelry.base.files import atomic_path, free_name, write_json
from voxelry.base.library_file import library_file
from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.cohort.dated_scans import DatedScan, dated_scans
from voxelry.cohort.follow_up_lesions import Examination, FollowUp, compare_dates
from voxelry.cohort.follow_up_table import ROW_TYPES, SCHEMA, follow_up_rows, follow_up_summary
from voxelry.cohort.predicted_files import read_objects
from voxelry.cohort.registration import Transform
from voxelry.errors import UnexpectedError, UsageError, VoxelryError
from voxelry.formats.dicom.objects.seg_write import write_dicom_seg
from voxelry.formats.dicom.objects.sr_follow_up import MeasuredDate, write_follow_up_sr
from voxelry.formats.dicom.study_facts import study_facts
from voxelry.formats.reader import read, read_labels
from voxelry.formats.table import format_named

log = logging.getLogger(__name__)

_TABLES = ("follow_up.csv", "follow_up.parquet", "follow_up.json")
_REPORT = "follow_up.sr.dcm"


@dataclass(frozen=True)
class PatientCourse:
    """Result of one patient.

    Attributes:
        patient: the patient's name in results.
        files: the files written for this patient alone: a DICOM SEG for each date and the report, where the scans are DICOM;
            else a mask for each date.
        summary: dates, transforms and changes (`follow_up_summary`); empty where it failed.
        rows: the rows of the table (`follow_up_rows`).
        error: reason of the failure; empty where there was none.
    """

    patient: str
    files: tuple[Path, ...] = ()
    summary: dict[str, Any] | None = None
    rows: tuple[dict[str, Any], ...] = ()
    error: str = ""


def follow_up_cohort(
    inputs: Sequence[Path],
    out: Path,
    masks: Path | None = None,
    lesions: Sequence[str] = (),
    pattern: str | None = None,
    transform: Transform = "affine",
    tolerance: float = 2.0,
    progress: ProgressCallback = no_progress,
) -> list[PatientCourse]:
    """Follow up the patients of some scans, and write tables, masks and reports; see `voxelry.follow_up`.

    Raises:
        UsageError, MissingFileError, ManifestError, ReadError: as of `dated_scans`; or an output that would replace a file that
            this did not write.
    """
    by_patient = dated_scans(inputs, masks, pattern)
    sources = [path for scans in by_patient.values() for scan in scans for path in (scan.image, scan.mask)]
    outputs = OutputFolder(out, "follow-up")
    for patient in by_patient:
        free_name(patient)
    tables = [out / name for name in _TABLES]
    for path in (*tables, *(out / patient for patient in by_patient)):
        outputs.check(path, sources)
    courses = []
    with outputs.writing([*tables, *(out / patient for patient in by_patient)], sources):
        for number, (patient, scans) in enumerate(by_patient.items(), start=1):
            courses.append(_of_patient(patient, scans, out / patient, lesions, transform, tolerance))
            progress("following up", number, len(by_patient))
        _write_tables(courses, tables)
    return courses


def _of_patient(
    patient: str, scans: Sequence[DatedScan], folder: Path, lesions: Sequence[str], transform: Transform, tolerance: float
) -> PatientCourse:
    try:
        with task_failures(patient):
            _check_patient(scans)
            course = compare_dates([_examination(scan) for scan in scans], lesions, transform, tolerance)
            rows = follow_up_rows(patient, course)
            return PatientCourse(patient, _write(course, folder), follow_up_summary(patient, course, rows), tuple(rows))
    except (VoxelryError, OSError) as error:
        log.info("%s: %s", patient, error, exc_info=isinstance(error, UnexpectedError))
        return PatientCourse(patient, error=str(error))


def _check_patient(scans: Sequence[DatedScan]) -> None:
    """Refuse a single date, a date twice, and different patients, before anything is decoded."""
    if len(scans) < 2:
        raise UsageError(
            f"one examination only ({scans[0].id}, {scans[0].date})",
            remedy="Give at least two dates of a patient; scans are joined by PatientID, or by the names of files.",
        )
    for before, after in pairwise(scans):
        if before.date == after.date:
            raise UsageError(
                f"'{before.id}' and '{after.id}' are both of {after.date}",
                remedy="Give one examination a date, or state other dates in a list.",
            )
    known = {facts.patient for scan in scans if (facts := study_facts(read(scan.image).source)).patient}
    if len(known) > 1:
        raise UsageError(
            f"the scans are of {len(known)} patients by their PatientID",
            remedy="Give the scans of one patient one name.",
        )


def _examination(scan: DatedScan) -> Examination:
    volume = read(scan.image)
    labels = read_objects(scan.mask, partial(read_labels, scan.mask))
    return Examination(scan.id, scan.date, volume, labels.on_grid(volume.geometry))


def _write(course: FollowUp, folder: Path) -> tuple[Path, ...]:
    """The masks with the numbers of lesions, and of DICOM scans the report."""
    folder.mkdir(parents=True, exist_ok=True)
    is_dicom = all(each.volume.source.kind == "dicom" for each in course.examinations)
    row = format_named("dicom-seg" if is_dicom else "nifti")
    masks = [folder / f"{each.date.isoformat()}_{each.name}{row.ending}" for each in course.examinations]
    dates = []
    for each, path in zip(course.examinations, masks, strict=True):
        if is_dicom:
            dates.append(MeasuredDate(each.date, each.labels, each.volume, write_dicom_seg(each.labels, each.volume, path)))
        else:
            row.write(each.labels, path, each.volume, {})
    return (*masks, write_follow_up_sr(dates, folder / _REPORT)) if is_dicom else tuple(masks)


def _write_tables(courses: Sequence[PatientCourse], tables: Sequence[Path]) -> None:
    frame = pl.DataFrame([row for course in courses for row in course.rows], schema=ROW_TYPES)
    table, binary, summary = tables
    with atomic_path(table) as temporary, library_file(temporary) as file:
        frame.write_csv(file)
    with atomic_path(binary) as temporary, library_file(temporary) as file:
        frame.write_parquet(file)
    failed = {course.patient: course.error for course in courses if course.error}
    write_json(
        summary, {"schema": SCHEMA, "patients": [course.summary for course in courses if course.summary], "failed": failed}
    )
