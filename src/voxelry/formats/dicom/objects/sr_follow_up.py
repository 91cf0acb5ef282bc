"""Writer of DICOM SR over several dates: one TID 1500 report with a measurement group for each lesion at each date.

Groups of one lesion share tracking id and UID and name their date as a time point (TID 1502), with the days since the first. The
report belongs to the study of the latest scan; the instances of earlier studies are its pertinent other evidence.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import highdicom.sr as hsr
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as SrCode

from voxelry.base.files import atomic_path
from voxelry.base.library_file import library_file
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm
from voxelry.formats.dicom.objects.sr_write import measured_groups, measurement_report, sr_document

_BASELINE = SrCode("C1442488", "UMLS", "Baseline")


@dataclass(frozen=True, eq=False)
class MeasuredDate:
    """One date of a report.

    Attributes:
        date: when the scan was made.
        labels: on the scan's grid; `Source.tracking` says which objects are the same at other dates.
        scan: as read from DICOM.
        segmentation: the DICOM SEG that `write_dicom_seg` wrote of these labels.
    """

    date: date
    labels: LabelMap
    scan: Volume
    segmentation: Path


def write_follow_up_sr(
    dates: Sequence[MeasuredDate],
    path: str | os.PathLike[str],
    *,
    algorithm: Algorithm | None = None,
    series_description: str = "Follow-up",
) -> Path:
    """Write measurements at several dates as one TID 1500 report.

    Args:
        dates: in order, of one patient.
        path: the file; replaced if it exists.
        algorithm: the algorithm that made the labels; None for voxelry of this version.
        series_description: the name that viewers list the series by, at most 64 characters.

    Returns:
        The path.

    Raises:
        ExportError: as `write_dicom_sr`; or scans of different patients.
        GridMismatchError: labels lie on another grid.
        LabelError: values that the table does not know.
    """
    algorithm, groups, scans = algorithm or Algorithm(), [], []
    for number, each in enumerate(dates, start=1):
        point = _time_point(number, each.date, (each.date - dates[0].date).days)
        own, seg, series = measured_groups(each.labels, each.scan, path, each.segmentation, algorithm, point)
        groups += own
        scans.append((seg, series))
    patients = {str(series.headers[0].get("PatientID") or "") for _, series in scans}
    if len(patients) > 1:
        raise ExportError(f"{path}: the scans are of {len(patients)} patients by their PatientID", remedy="Give those of one.")
    document = sr_document(measurement_report(groups, algorithm), scans[::-1], path)
    document.SeriesDescription = series_description
    with atomic_path(path) as temporary, library_file(temporary) as file:
        document.save_as(file)
    return Path(path)


def _time_point(number: int, day: date, days: int) -> hsr.TimePointContext:
    return hsr.TimePointContext(
        time_point=day.isoformat(),
        time_point_type=_BASELINE if number == 1 else None,
        time_point_order=number,
        subject_time_point_identifier=f"TP{number}",
        temporal_offset_from_event=hsr.LongitudinalTemporalOffsetFromEvent(days, codes.UCUM.Day, _BASELINE),
    )
