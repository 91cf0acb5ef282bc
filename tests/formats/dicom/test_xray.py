"""Radiographs: polarity and pixel size are decided openly."""

from __future__ import annotations

import warnings

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    DigitalXRayImageStorageForProcessing,
    EnhancedXAImageStorage,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from voxelry.core.volume import Window
from voxelry.errors import SelectionError, SeriesError, UnsupportedFormatError, UsageError
from voxelry.formats.reader import read

STORED = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300


def test_plain(xray):
    file = xray(STORED, BitsStored=12, HighBit=11)
    volume = read(file)
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
    volume = read(file)
    np.testing.assert_array_equal(volume.array[0], 4095 - STORED if inverted else STORED)
    assert any(remark.startswith(f"polarity: {'inverted' if inverted else 'stored'}") for remark in volume.source.remarks)
    stored = read(file, polarity="stored")
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


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", [None, "IDENTITY", "INVERSE"])
@pytest.mark.parametrize(("sign", "inverted"), [(1, True), (-1, False)])
def test_for_processing_goes_by_the_sign_of_the_detector(xray, photometric, shape, sign, inverted):
    elements = {} if shape is None else {"PresentationLUTShape": shape}
    file = xray(
        STORED,
        BitsStored=12,
        HighBit=11,
        SOPClassUID=DigitalXRayImageStorageForProcessing,
        PhotometricInterpretation=photometric,
        PixelIntensityRelationshipSign=sign,
        **elements,
    )
    volume = read(file)
    np.testing.assert_array_equal(volume.array[0], 4095 - STORED if inverted else STORED)
    assert any(f"for processing, PixelIntensityRelationshipSign {sign}" in remark for remark in volume.source.remarks)


RELATIONSHIPS = {"LIN": "low", "LOG": "low", "lin": "low", "DISP": "", "OD": "", "": "", None: ""}
"""PixelIntensityRelationship, and which stored values of a fluoroscopic image are dense by it."""


@pytest.mark.parametrize("relationship", RELATIONSHIPS)
@pytest.mark.parametrize("sign", [None, 1, -1, 0])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("kind", ["XA", "RF", "XA without a modality", "RF of another class", "enhanced XA"])
def test_fluoroscopy_is_dense_bright_only_where_it_says_which_values_are_dense(xray, relationship, sign, photometric, kind):
    classes = {"RF": XRayRadiofluoroscopicImageStorage, "enhanced XA": EnhancedXAImageStorage}
    elements = {
        "SOPClassUID": SecondaryCaptureImageStorage if "class" in kind else classes.get(kind, XRayAngiographicImageStorage),
        "Modality": "" if "without" in kind else "RF" if "RF" in kind else "XA",
        "PhotometricInterpretation": photometric,
    }
    if sign is not None:
        elements["PixelIntensityRelationshipSign"] = sign
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of words in lower case
        if relationship is not None:
            elements["PixelIntensityRelationship"] = relationship
        file = xray(STORED, BitsStored=12, HighBit=11, **elements)
    dense = {1: "low", -1: "high"}.get(sign) or RELATIONSHIPS[relationship]
    volume = read(file)
    np.testing.assert_array_equal(volume.array[0], 4095 - STORED if dense == "low" else STORED)
    [said] = [remark for remark in volume.source.remarks if remark.startswith("polarity: ")]
    expected = {"low": "inverted to dense bright (", "high": "stored as dense bright (", "": "unknown, values as stored ("}[dense]
    assert said.startswith(f"polarity: {expected}")
    assert any(word in said for word in ("XA", "RF", "Angiographic"))
    assert not any("not acted on" in remark for remark in volume.source.remarks)
    kept = read(file, polarity="stored")
    np.testing.assert_array_equal(kept.array[0], STORED)
    assert any(remark.startswith("polarity: as stored (") for remark in kept.source.remarks)


@pytest.mark.parametrize("place", ["Shared", "PerFrame"])
@pytest.mark.parametrize(("sign", "dense"), [(None, "low"), (1, "low"), (-1, "high")])
def test_an_enhanced_angiogram_says_in_functional_groups_what_its_values_are(xray, place, sign, dense):
    properties = Dataset()
    properties.PixelIntensityRelationship, properties.ImagerPixelSpacing = "LIN", [0.3, 0.2]
    if sign is not None:
        properties.PixelIntensityRelationshipSign = sign
    group = Dataset()
    group.FramePixelDataPropertiesSequence = [properties]
    groups = {f"{name}FunctionalGroupsSequence": [group if name == place else Dataset()] for name in ("Shared", "PerFrame")}
    file = xray(STORED, BitsStored=12, HighBit=11, SOPClassUID=EnhancedXAImageStorage, Modality="XA", NumberOfFrames=1, **groups)
    volume = read(file)
    np.testing.assert_array_equal(volume.array[0], 4095 - STORED if dense == "low" else STORED)
    assert volume.spacing == (0.3, 0.2)
    assert not any("not stated" in remark for remark in volume.source.remarks)


def test_one_angiogram_has_one_polarity_in_every_encoding(xray, tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(40)).astype(np.uint16) * 14
    plain = xray(smooth, SOPClassUID=XRayAngiographicImageStorage, Modality="XA", BitsStored=10, HighBit=9)
    said = set()
    for syntax in (RLELossless, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000):
        data = pydicom.dcmread(plain)
        options = {JPEGLSNearLossless: {"jls_error": 2}, JPEG2000: {"j2k_cr": [5]}}.get(syntax, {})
        data.compress(syntax, **options)
        data.save_as(tmp_path / "coded.dcm")
        volume = read(tmp_path / "coded.dcm")
        assert np.abs(volume.array[0].astype(int) - smooth).max() <= (3 if options else 0)
        said.update(remark for remark in volume.source.remarks if "polarity" in remark)
    assert said == {"polarity: unknown, values as stored (XA, PixelIntensityRelationship not stated)"}


@pytest.mark.parametrize("kind", ["for presentation", "for processing without a sign"])
@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
    ],
)
def test_for_presentation_goes_by_the_display(xray, kind, photometric, shape, inverted):
    elements = {} if shape is None else {"PresentationLUTShape": shape}
    elements |= {"PixelIntensityRelationshipSign": 1} if kind == "for presentation" else {}
    if kind != "for presentation":
        elements |= {"SOPClassUID": DigitalXRayImageStorageForProcessing}
    volume = read(xray(STORED, BitsStored=12, HighBit=11, PhotometricInterpretation=photometric, **elements))
    np.testing.assert_array_equal(volume.array[0], 4095 - STORED if inverted else STORED)


BOTH = {"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.15, 0.15], "EstimatedRadiographicMagnificationFactor": 1.25}


@pytest.mark.parametrize(
    ("elements", "policy", "size"),
    [
        (BOTH, "auto", 0.1),
        (BOTH, "calibrated", 0.1),
        (BOTH, "imager", 0.12),
        (BOTH, "none", None),
        ({"PixelSpacing": [0.2, 0.2]}, "calibrated", 0.2),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, "imager", 0.2),
        ({"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 0}, "imager", 0.2),
        ({}, "none", None),
    ],
)
def test_pixel_size_policies(xray, elements, policy, size):
    assert read(xray(STORED, **elements), pixel_size=policy).spacing == (None if size is None else pytest.approx((size, size)))


@pytest.mark.parametrize(
    ("elements", "policy", "named"),
    [
        ({"PixelSpacing": [0.2, 0.2]}, "imager", r"ImagerPixelSpacing \(0018,1164\)"),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, "calibrated", r"PixelSpacing \(0028,0030\)"),
    ],
)
def test_a_pixel_size_that_is_not_there(xray, elements, policy, named):
    with pytest.raises(UnsupportedFormatError, match=named):
        read(xray(STORED, **elements), pixel_size=policy)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_windows_follow_the_values(xray, photometric):
    """A window shows the same pixels in the same grey, inverted or not."""
    file = xray(
        STORED,
        BitsStored=12,
        HighBit=11,
        PhotometricInterpretation=photometric,
        RescaleSlope=2,
        RescaleIntercept=10,
        WindowCenter=[1000, 2000],
        WindowWidth=[500, 600],
        VOILUTFunction="SIGMOID",
        WindowCenterWidthExplanation=["NORMAL", "HARD"],
    )
    volume, stored = read(file), read(file, polarity="stored")
    assert stored.windows == (Window(1000, 500, "SIGMOID", "NORMAL"), Window(2000, 600, "SIGMOID", "HARD"))
    for one, plain in zip(volume.windows, stored.windows, strict=True):
        distance = np.abs(volume.array.astype(float) - one.center)
        np.testing.assert_allclose(distance, np.abs(stored.array.astype(float) - plain.center))
        assert one.width == plain.width


def test_padding(xray):
    pixels = STORED.copy()
    pixels[0, :2] = 4095
    file = xray(pixels, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=4095)
    volume = read(file)
    assert volume.padding.sum() == 2
    assert volume.array[0][volume.padding].tolist() == [4095 - STORED.max()] * 2
    assert not read(xray(STORED)).padding.any()


def test_angiography_and_fluoroscopy(xray):
    for modality in ("XA", "RF"):
        assert read(xray(STORED, Modality=modality, SOPClassUID=XRayAngiographicImageStorage)).shape == (1, 3, 4)


def test_folder_of_one(xray):
    assert read(xray(STORED).parent).shape == (1, 3, 4)


def test_folder_of_several(xray, save_slice):
    import pydicom

    file = xray(STORED)
    data = pydicom.dcmread(file)
    data.SOPInstanceUID = "1.2.3"
    save_slice(data, file.parent / "lateral.dcm")
    with pytest.raises(SelectionError, match="holds 2 volumes"):
        read(file.parent)


def test_frames_and_colour_are_refused(xray):
    for elements in ({"NumberOfFrames": 3}, {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}):
        with pytest.raises(SeriesError, match="one grey frame"):
            read(xray(STORED, **elements))


def test_unknown_polarity(xray):
    with pytest.raises(UsageError, match=r"'bright'.*dense-bright"):
        read(xray(STORED), polarity="bright")  # type: ignore[arg-type]


@pytest.mark.realdata
def test_real_radiograph(realdata):
    file = next((realdata / "dicom").rglob("dx_image.dcm"))
    volume = read(file)
    assert volume.spacing is not None
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(sitk.ReadImage(str(file))))
