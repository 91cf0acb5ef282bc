"""Dated phantoms as DICOM: a folder of slices for each date, in studies of their own."""

from datetime import date
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import generate_uid

from voxelry.phantom.dated import DatedPhantom
from voxelry.phantom.dicom import write_dicom

DAYS = (date(2026, 1, 5), date(2026, 4, 7), date(2026, 7, 3))


def write_dates(dated: list[DatedPhantom], folder: Path, patient: str = "4711", days: tuple[date, ...] = DAYS) -> list[Path]:
    """Write each date into ``<folder>/scan_<n>``, each a study with its own date, series and frame of reference."""
    scans = []
    for number, (each, day) in enumerate(zip(dated, days, strict=False)):
        [scan] = write_dicom(each.phantom, folder / f"scan_{number}")
        uids = {keyword: generate_uid() for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
        for file in sorted(scan.iterdir()):
            data = dcmread(file)
            data.PatientID, data.StudyDate = patient, day.strftime("%Y%m%d")
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            for keyword, value in uids.items():
                setattr(data, keyword, value)
            data.save_as(file, enforce_file_format=True)
        scans.append(scan)
    return scans
