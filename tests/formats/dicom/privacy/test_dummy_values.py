"""Dummy values are valid for every representation."""

import pytest
from pydicom import Dataset, config
from pydicom.dataelem import DataElement
from pydicom.valuerep import VR

from voxelry.formats.dicom.privacy.dummy_values import dummy

TAGS = {
    "AE": "RetrieveAETitle", "AS": "PatientAge", "AT": "FrameIncrementPointer", "CS": "Modality", "DA": "StudyDate",
    "DS": "SliceThickness", "DT": "AcquisitionDateTime", "FD": "EffectiveEchoTime", "FL": "ExaminedBodyThickness",
    "IS": "SeriesNumber", "LO": "PatientID", "LT": "ImageComments", "OB": "EncapsulatedDocument", "PN": "PatientName",
    "SH": "StudyID", "SL": "ReferencePixelX0", "SS": "SmallestImagePixelValue", "ST": "InstitutionAddress", "TM": "StudyTime",
    "UC": "LongCodeValue", "UI": "SOPInstanceUID", "UL": "SimpleFrameList", "UR": "URNCodeValue", "US": "Rows", "UT": "LabelText",
}  # fmt: skip


@pytest.mark.parametrize("vr", sorted(TAGS))
def test_a_dummy_is_valid_and_not_empty(vr):
    value = dummy(DataElement(TAGS[vr], vr, None), lambda uid: f"2.25.{len(uid)}")
    assert VR(vr)
    element = DataElement(TAGS[vr], vr, value, validation_mode=config.RAISE)
    assert not element.is_empty


def test_items_of_a_sequence_keep_their_form_and_lose_their_content():
    item = Dataset()
    item.ValueType, item.TextValue, item.UID = "TEXT", "Miller", "1.2.3"
    item.private_block(0x11, "MILLER", create=True).add_new(1, "LO", "Miller")
    data = Dataset()
    data.ContentSequence = [item]
    [replaced] = dummy(data["ContentSequence"], lambda uid: "2.25.7")
    assert {element.keyword: element.value for element in replaced} == {
        "ValueType": "TEXT",
        "TextValue": "REMOVED",
        "UID": "2.25.7",
    }
