"""Risks of pixels by headers."""

import pytest
from pydicom import Dataset

from voxelry.formats.dicom.privacy.identifying_pixels import FACE, TEXT, pixel_risks

CT, SC, US = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6.1"


@pytest.mark.parametrize(
    ("elements", "risks"),
    [
        ({"SOPClassUID": CT, "Modality": "CT", "BodyPartExamined": "ABDOMEN"}, set()),
        ({"SOPClassUID": CT, "Modality": "CT", "BurnedInAnnotation": "YES"}, {TEXT}),
        ({"SOPClassUID": SC, "Modality": "CT", "BurnedInAnnotation": "NO"}, {TEXT}),
        ({"SOPClassUID": US, "Modality": "US"}, {TEXT}),
        ({"SOPClassUID": CT, "Modality": "CT", "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, {TEXT}),
        ({"SOPClassUID": CT, "Modality": "CT", "ConversionType": "DF"}, {TEXT}),
        ({"SOPClassUID": CT, "Modality": "CT", "RecognizableVisualFeatures": "YES"}, {FACE}),
        ({"SOPClassUID": CT, "Modality": "CT", "BodyPartExamined": "HEAD"}, {FACE}),
        ({"Modality": "MR", "SeriesDescription": "t1_mprage Schädel"}, {FACE}),
        ({"Modality": "MR", "StudyDescription": "MRI BRAIN W/O"}, {FACE}),
        ({"Modality": "PT", "BodyPartExamined": "WHOLEBODY"}, {FACE}),
        ({"Modality": "SEG", "SeriesDescription": "brain"}, set()),
        ({"Modality": "CT", "SeriesDescription": "forearm"}, set()),
    ],
)
def test_headers_tell_risks(elements, risks):
    data = Dataset()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    assert pixel_risks(data).keys() == risks


def test_a_coded_region_tells_a_head():
    data, region = Dataset(), Dataset()
    region.CodeMeaning = "Head"
    data.Modality, data.AnatomicRegionSequence = "MR", [region]
    assert pixel_risks(data).keys() == {FACE}
