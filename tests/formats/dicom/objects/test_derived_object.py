import pydicom
import pytest
from pydicom import Dataset

from helpers.sources import SECRET_NAME, headers, volume
from voxelry.core.labels import Code
from voxelry.errors import ExportError
from voxelry.formats.dicom.objects.derived_object import checked_text, derived_object, save_object, sibling
from voxelry.formats.dicom.objects.references import code_item

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def made(tmp_path):
    header = headers(volume("single", tmp_path))[0]
    return derived_object(header, CT, "CT", series_description="what", series_offset=1000), header


def test_patient_and_study_are_the_scans_and_the_rest_is_not(tmp_path, made):
    first, header = made
    save_object(first, tmp_path / "x.dcm")
    stored = pydicom.dcmread(tmp_path / "x.dcm")
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientSex",
        "StudyInstanceUID",
        "ReferringPhysicianName",
        "FrameOfReferenceUID",
    ):
        assert stored[keyword].value == header[keyword].value
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert stored[keyword].value != header[keyword].value
    assert (stored.SeriesNumber, stored.Manufacturer) == (1003, "voxelry")
    assert stored.file_meta.MediaStorageSOPInstanceUID == stored.SOPInstanceUID


def test_siblings_share_the_series_and_nothing_that_changes(made):
    first, _ = made
    second = sibling(first, 2)
    second.SeriesDescription = "other"
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert (first.InstanceNumber, first.SeriesDescription) == (1, "what")


def test_a_header_that_cannot_be_written_is_not_shown(tmp_path, made):
    first, _ = made
    first.Rows = 4
    first["Rows"]._value = SECRET_NAME
    with pytest.raises(ExportError) as error:
        save_object(first, tmp_path / "x.dcm")
    assert SECRET_NAME not in str(error.value)


def test_long_codes_and_backslashes():
    short, long = (code_item(Code(value=value, meaning="a\\b")) for value in ("1" * 16, "1" * 17))
    assert (short.CodeValue, long.LongCodeValue) == ("1" * 16, "1" * 17)
    assert "CodeValue" not in long
    assert isinstance(short, Dataset)
    assert short.CodeMeaning == "a/b"


@pytest.mark.parametrize("text", ["", "x" * 65, "a\\b"])
def test_texts_that_dicom_cannot_hold(text):
    with pytest.raises(ExportError, match=r"f\.dcm"):
        checked_text(text, "f.dcm")
