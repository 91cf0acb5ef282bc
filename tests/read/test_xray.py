"""Radiographs: polarity and pixel size are decided openly."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from voxelry.errors import SeriesError, UsageError
from voxelry.read.dicom import read_dicom_file, read_dicom_folder
from voxelry.read.reader import read

STORED = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300


def test_plain(xray):
    file = xray(STORED, BitsStored=12, HighBit=11)
    volume = read_dicom_file(file)
    assert volume.shape == (1, 3, 4)
    assert volume.modality == "DX"
    assert volume.geometry.affine is None
    assert volume.spacing is None
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array[0], STORED)
    assert len(volume.source.instances) == 1
    assert any("no physical size" in remark for remark in volume.source.remarks)


@pytest.mark.parametrize(
    ("elements", "inverted"),
    [
        ({"PhotometricInterpretation": "MONOCHROME2"}, False),
        ({"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "IDENTITY"}, False),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
        ({"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "INVERSE"}, True),
    ],
)
def test_polarity(xray, elements, inverted):
    file = xray(STORED, BitsStored=12, HighBit=11, **elements)
    volume = read_dicom_file(file)
    np.testing.assert_array_equal(volume.array[0], 4095 - STORED if inverted else STORED)
    assert any(remark.startswith(f"polarity: {'inverted' if inverted else 'stored'}") for remark in volume.source.remarks)
    stored = read_dicom_file(file, polarity="stored")
    np.testing.assert_array_equal(stored.array[0], STORED)
    assert any(remark.startswith("polarity: as stored") for remark in stored.source.remarks)


def test_inverted_as_simpleitk_does(xray):
    file = xray(STORED, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(file).array, sitk.GetArrayFromImage(sitk.ReadImage(str(file))))


def test_signed_values_are_inverted_within_their_range(xray):
    file = xray(STORED.astype(np.int16) - 1000, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(file).array[0], -1 - (STORED.astype(int) - 1000))


def test_sixteen_bits_stay_whole(xray):
    pixels = np.array([[0, 65535], [40000, 1]], np.uint16)
    array = read(xray(pixels)).array
    assert array.dtype == np.uint16
    np.testing.assert_array_equal(array[0], pixels)


@pytest.mark.parametrize(
    ("elements", "size", "said"),
    [
        (
            {"PixelSpacing": [0.1, 0.2], "PixelSpacingCalibrationType": "FIDUCIAL"},
            (0.1, 0.2),
            "calibrated PixelSpacing (fiducial)",
        ),
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.14, 0.14]}, (0.1, 0.1), "calibrated PixelSpacing"),
        (
            {"ImagerPixelSpacing": [0.15, 0.3], "EstimatedRadiographicMagnificationFactor": 1.5},
            (0.1, 0.2),
            "ImagerPixelSpacing / magnification 1.5",
        ),
        ({"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": [0.15, 0.15]}, (0.15, 0.15), "ImagerPixelSpacing, at detector"),
        ({"ImagerPixelSpacing": [0.15, 0.2]}, (0.15, 0.2), "ImagerPixelSpacing, at detector"),
        ({"PixelSpacing": [0.2, 0.2]}, (0.2, 0.2), "calibration unknown"),
        ({"ImagerPixelSpacing": [0, 0]}, None, "no physical size"),
    ],
)
def test_pixel_size(xray, elements, size, said):
    volume = read(xray(STORED, **elements))
    assert volume.spacing == (None if size is None else pytest.approx(size))
    assert any(said in remark for remark in volume.source.remarks)


@pytest.mark.parametrize(
    ("sign", "photometric", "odd"), [(1, "MONOCHROME1", False), (1, "MONOCHROME2", True), (-1, "MONOCHROME2", False)]
)
def test_contradicting_detector_sign_is_remarked(xray, sign, photometric, odd):
    remarks = read(xray(STORED, PixelIntensityRelationshipSign=sign, PhotometricInterpretation=photometric)).source.remarks
    assert any("PixelIntensityRelationshipSign" in remark for remark in remarks) == odd


def test_folder_of_one(xray):
    assert read_dicom_folder(xray(STORED).parent).shape == (1, 3, 4)


def test_folder_of_several(xray, save_slice):
    import pydicom

    file = xray(STORED)
    data = pydicom.dcmread(file)
    data.SOPInstanceUID = "1.2.3"
    save_slice(data, file.parent / "lateral.dcm")
    with pytest.raises(SeriesError, match=r"2 of 2 are X-ray projections.*") as caught:
        read(file.parent)
    assert "single file" in caught.value.remedy


def test_frames_and_colour_are_refused(xray):
    for elements in ({"NumberOfFrames": 3}, {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}):
        with pytest.raises(SeriesError, match="one grey frame"):
            read(xray(STORED, **elements))


def test_unknown_polarity(xray):
    with pytest.raises(UsageError, match=r"'bright'.*stored"):
        read(xray(STORED), polarity="bright")  # type: ignore[arg-type]


@pytest.mark.realdata
def test_real_radiograph(realdata):
    file = next((realdata / "dicom").rglob("dx_image.dcm"))
    volume = read(file)
    assert volume.spacing is not None
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(sitk.ReadImage(str(file))))
