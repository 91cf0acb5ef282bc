"""Patients and dates of scans: from lists, names and headers."""

from datetime import date
from pathlib import Path

import pytest

from helpers.dated_dicom import DAYS, write_dates
from voxelry.cohort.dated_scans import dated_scans
from voxelry.errors import ManifestError, MissingFileError, UsageError
from voxelry.formats.writer import write
from voxelry.phantom import coarse_acquisition, dated_phantoms


@pytest.fixture(scope="module")
def dated():
    return dated_phantoms(3, acquisition=coarse_acquisition("torso-ct"), fates=("grow",))[0]


def files(folder: Path, dated, *names: str) -> Path:
    """Scans and masks of these names, in ``scans`` and ``masks``."""
    for number, name in enumerate(names):
        for kind, what in (("scans", "volume"), ("masks", "labels")):
            (folder / kind).mkdir(exist_ok=True)
            write(getattr(dated[number % 2].phantom, what), folder / kind / f"{name}.nii.gz")
    return folder


def told(by_patient):
    return {patient: [(scan.id, scan.date) for scan in scans] for patient, scans in by_patient.items()}


def test_names_tell_patient_and_date(tmp_path, dated):
    files(tmp_path, dated, "b_c_2026-04-07", "a_20250101", "b_c_20260105")
    found = dated_scans([tmp_path / "scans"], tmp_path / "masks")
    assert told(found) == {
        "a": [("a_20250101", date(2025, 1, 1))],
        "b_c": [("b_c_20260105", date(2026, 1, 5)), ("b_c_2026-04-07", date(2026, 4, 7))],
    }
    assert found["a"][0].mask == tmp_path / "masks" / "a_20250101.nii.gz"


def test_another_pattern(tmp_path, dated):
    files(tmp_path, dated, "20260105-anna.ct", "20260407-anna.ct")
    found = dated_scans([tmp_path / "scans"], tmp_path / "masks", "{date}-{patient}.ct")
    assert told(found) == {"anna": [("20260105-anna.ct", date(2026, 1, 5)), ("20260407-anna.ct", date(2026, 4, 7))]}
    for wrong in ("{patient}", "x", "{date}{date}"):
        with pytest.raises(UsageError, match="pattern"):
            dated_scans([tmp_path / "scans"], tmp_path / "masks", wrong)


def test_headers_tell_patient_and_date_under_pseudonyms(tmp_path, dated):
    scans = write_dates(dated, tmp_path, "Geheim-4711")
    (tmp_path / "masks").mkdir()
    for number, each in enumerate(dated):
        write(each.phantom.labels, tmp_path / "masks" / f"scan_{number}.nii.gz")
    found = dated_scans(scans, tmp_path / "masks")
    assert told(found) == {"patient-1": [("scan_0", DAYS[0]), ("scan_1", DAYS[1])]}


def test_a_list_states_what_is_not_written_elsewhere(tmp_path, dated):
    files(tmp_path, dated, "x", "y")
    table = tmp_path / "list.csv"
    table.write_text(
        "image,mask,patient,date\nscans/y.nii.gz,masks/y.nii.gz,anna,20260407\nscans/x.nii.gz,masks/x.nii.gz,anna,2026-01-05\n"
    )
    assert told(dated_scans([table])) == {"anna": [("x", date(2026, 1, 5)), ("y", date(2026, 4, 7))]}
    table.write_text("image,mask,patient\nscans/y.nii.gz,masks/y.nii.gz,anna\n")
    with pytest.raises(UsageError, match="line 2: date of 'y' not known"):
        dated_scans([table])
    table.write_text("image,mask,patient,date\nscans/y.nii.gz,masks/y.nii.gz,anna,yesterday\n")
    with pytest.raises(UsageError, match="line 2: 'yesterday' is no date"):
        dated_scans([table])
    table.write_text("image,labels\nscans/y.nii.gz,masks/y.nii.gz\n")
    with pytest.raises(ManifestError, match="no column 'mask'"):
        dated_scans([table])
    table.write_text("image,mask\nscans/none.nii.gz,masks/y.nii.gz\n")
    with pytest.raises(MissingFileError, match="none"):
        dated_scans([table])


def test_what_is_missing(tmp_path, dated):
    files(tmp_path, dated, "anna")
    with pytest.raises(UsageError, match="patient and date of 'anna' not known"):
        dated_scans([tmp_path / "scans"], tmp_path / "masks")
    with pytest.raises(UsageError, match="--masks"):
        dated_scans([tmp_path / "scans"])
    with pytest.raises(MissingFileError, match="nowhere"):
        dated_scans([tmp_path / "scans"], tmp_path / "nowhere")
    files(tmp_path, dated, "bert_20260101")
    (tmp_path / "masks" / "bert_20260101.nii.gz").unlink()
    with pytest.raises(MissingFileError, match="no mask for 1 of 2 scans"):
        dated_scans([tmp_path / "scans"], tmp_path / "masks")
