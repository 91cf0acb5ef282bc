"""Inversion, padding and what is remarked on them."""

from __future__ import annotations

import numpy as np
import openjpeg
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import JPEG2000Lossless

from voxelry.core.volume import Window
from voxelry.formats.dicom.pixels.decode import check_decodable, decode_padding, decode_slices
from voxelry.formats.dicom.pixels.grey_values import remarks_of, shown_windows
from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.reader import read as read_any

RAMP = (np.arange(48, dtype=np.int16) * 37 - 800).reshape(6, 8)


def read(path):
    header = read_planes(path)[0]
    check_decodable(header)
    return decode_slices([header])[0]


@pytest.mark.parametrize(("modality", "inverted"), [("CT", False), ("PT", False), ("MR", True), ("US", True)])
def test_monochrome1(make_slice, save_slice, tmp_path, modality, inverted):
    stored = np.arange(48, dtype=np.uint16).reshape(6, 8)
    data = make_slice(
        stored,
        Modality=modality,
        PhotometricInterpretation="MONOCHROME1",
        BitsStored=12,
        HighBit=11,
        RescaleSlope=2,
        RescaleIntercept=5,
        WindowCenter=10,
        WindowWidth=4,
    )
    path = save_slice(data, tmp_path / "a.dcm")
    found = read(path)
    np.testing.assert_array_equal(found, (4095 - stored.astype(int) if inverted else stored.astype(int)) * 2 + 5)
    header = read_planes(path)[0]
    assert remarks_of([header])[0].startswith(f"MONOCHROME1: grey values {'inverted' if inverted else 'kept'}")
    assert shown_windows(header) == (Window(4095 * 2 + 10 - 10, 4) if inverted else Window(10, 4),)


def test_monochrome1_mr_as_simpleitk(make_slice, save_slice, tmp_path):
    stored = np.arange(48, dtype=np.uint16).reshape(6, 8)
    path = save_slice(
        make_slice(stored, Modality="MR", PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11), tmp_path / "a.dcm"
    )
    np.testing.assert_array_equal(read(path), sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0])


@pytest.mark.parametrize(
    ("padding", "limit", "is_outside"),
    [(-800, None, RAMP == -800), (-800, -600, RAMP <= -600), (-600, -800, RAMP <= -600), (31000, None, RAMP == 31000)],
)
def test_padding_gets_the_lowest_valid_value(make_slice, save_slice, tmp_path, padding, limit, is_outside):
    data = make_slice(RAMP, PixelPaddingValue=padding, RescaleIntercept=-24)
    data["PixelPaddingValue"].VR = "SS"
    if limit is not None:
        data.PixelPaddingRangeLimit = limit
        data["PixelPaddingRangeLimit"].VR = "SS"
    header = read_planes(save_slice(data, tmp_path / "a.dcm"))[0]
    outside = decode_padding([header])[0]
    np.testing.assert_array_equal(outside, is_outside)
    found = decode_slices([header])[0]
    np.testing.assert_array_equal(found[~outside], RAMP[~is_outside] - 24)
    assert (found[outside] == RAMP[~is_outside].min() - 24).all()
    assert "PixelPaddingValue" in remarks_of([header])[0]


def test_padding_is_lowest_of_all_slices_even_in_fractions(make_slice, save_slice, tmp_path):
    headers = []
    for number, slope in enumerate((0.5, 2.0)):
        data = make_slice(RAMP + np.int16(900), PixelPaddingValue=100, RescaleSlope=slope)
        data["PixelPaddingValue"].VR = "SS"
        headers.append(read_planes(save_slice(data, tmp_path / f"{number}.dcm"))[0])
    found = decode_slices(headers)
    assert found.dtype == np.float32
    assert found[0, 0, 0] == found[1, 0, 0] == 137 * 0.5


def test_padding_written_unsigned(make_slice, save_slice, tmp_path):
    stored = RAMP.copy()
    stored[0, :3] = -2000
    data = make_slice(stored, PixelPaddingValue=63536)
    data["PixelPaddingValue"].VR = "US"
    header = read_planes(save_slice(data, tmp_path / "a.dcm"))[0]
    assert int(decode_padding([header]).sum()) == 3
    assert decode_slices([header]).min() == RAMP[stored != -2000].min()


def test_padding_outside_of_the_stored_range_is_nowhere(make_slice, save_slice, tmp_path):
    stored = np.full((6, 8), 63536 & 0xFFF, np.uint16)
    data = make_slice(stored, BitsStored=12, HighBit=11, PixelPaddingValue=63536)
    data["PixelPaddingValue"].VR = "US"
    header = read_planes(save_slice(data, tmp_path / "a.dcm"))[0]
    assert not decode_padding([header]).any()
    assert (decode_slices([header]) == 2096).all()


def test_all_padding_stays(make_slice, save_slice, tmp_path):
    data = make_slice(np.full((6, 8), 5, np.int16), PixelPaddingValue=5)
    data["PixelPaddingValue"].VR = "SS"
    header = read_planes(save_slice(data, tmp_path / "a.dcm"))[0]
    assert (decode_slices([header]) == 5).all()
    assert decode_padding([header]).all()


def test_a_scan_says_that_its_codestream_contradicts_its_header(tmp_path, make_series, save_slice, xray):
    """The first frame's codestream is known from the header scan: the file is not opened again for it."""
    values = np.random.default_rng(0).integers(-900, 900, (3, 40, 64)).astype(np.int16)
    for index, data in enumerate(make_series(values)):
        save_slice(_compressed(data), tmp_path / f"{index}.dcm", JPEG2000Lossless)
    said = "the codestream states 12 unsigned bits, the header 16 signed: values taken as 12 signed bits"
    volume = read_any(tmp_path)
    assert said in volume.source.remarks
    np.testing.assert_array_equal(volume.array[0].T, values)
    picture = read_any(save_slice(_compressed(pydicom.dcmread(xray(values[0]))), tmp_path / "x" / "x.dcm", JPEG2000Lossless))
    assert said in picture.source.remarks
    np.testing.assert_array_equal(picture.array[0], values[0])


def _compressed(data):
    unsigned = np.frombuffer(data.PixelData, "<i2").reshape(40, 64).view(np.uint16) & np.uint16(0xFFF)
    frame = bytes(openjpeg.utils.encode_array(unsigned, bits_stored=12, photometric_interpretation=2))
    data.PixelData = pydicom.encaps.encapsulate([frame])
    data["PixelData"].VR = "OB"
    return data
