"""Patient and date of a scan."""

from datetime import date

import pytest
from pydicom import dcmread

from helpers import sources
from voxelry.core.volume import Source
from voxelry.errors import ReadError
from voxelry.formats.dicom.elements import quiet_pydicom
from voxelry.formats.dicom.study_facts import StudyFacts, study_facts


def test_of_any_source(tmp_path):
    scan = sources.volume("axial", tmp_path)
    header = dcmread(scan.source.files[0])
    found = study_facts(scan.source)
    assert found.patient == str(header.PatientID) == sources.SECRET_ID
    assert found.date is not None
    assert found.date.strftime("%Y%m%d") == header.StudyDate
    assert study_facts(Source(kind="nifti", files=("a.nii.gz",))) == StudyFacts()


@pytest.mark.parametrize(("changes", "expected"), [
    ({"StudyDate": ""}, None), ({"StudyDate": "", "AcquisitionDate": "20240229"}, date(2024, 2, 29)),
    ({"StudyDate": "2024"}, None),
])  # fmt: skip
def test_dates_that_are_missing_or_elsewhere(tmp_path, changes, expected):
    scan = sources.volume("axial", tmp_path)
    header = dcmread(scan.source.files[0])
    for keyword in ("SeriesDate", "AcquisitionDate"):
        header.pop(keyword, None)
    with quiet_pydicom():
        header.update(changes)
        header.IssuerOfPatientID = "Klinik"
        header.save_as(scan.source.files[0])
    assert study_facts(scan.source) == StudyFacts(f"{sources.SECRET_ID} of Klinik", expected)


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(ReadError, match="any more"):
        study_facts(Source(kind="dicom", files=(str(tmp_path / "gone.dcm"),)))
