"""DICOM pixels: what comes out is slope times stored plus intercept, whatever the file's coding."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from voxelry.errors import CorruptFileError, NonFiniteError, UnsupportedFormatError
from voxelry.formats.dicom.pixels.decode import check_decodable, decode_padding, decode_slices
from voxelry.formats.dicom.planes import read_planes

RAMP = (np.arange(48, dtype=np.int16) * 37 - 800).reshape(6, 8)


def read(path):
    header = read_planes(path)[0]
    check_decodable(header)
    return decode_slices([header])[0]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_native_as_simpleitk(make_slice, tmp_path, syntax, dtype):
    stored = (np.arange(48) * 5 % 128).astype(dtype).reshape(6, 8) - (40 if np.dtype(dtype).kind == "i" else 0)
    data = make_slice(stored, RescaleSlope=2, RescaleIntercept=-1024)
    path = write(data, tmp_path / "a.dcm", syntax)
    found = read(path)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, stored.astype(int) * 2 - 1024)
    if np.dtype(dtype).itemsize == 2 or syntax != ExplicitVRBigEndian:
        np.testing.assert_array_equal(found, sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0])


def write(data: Dataset, path, syntax):
    """With the bytes that the syntax asks for."""
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    if syntax == ExplicitVRBigEndian and data.BitsAllocated == 16:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def test_deflated(make_slice, save_slice, tmp_path):
    path = save_slice(make_slice(RAMP), tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(read(path), RAMP)


def test_without_preamble(make_slice, tmp_path):
    data = make_slice(RAMP)
    path = tmp_path / "bare"
    data.save_as(path, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read(path), RAMP)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.integers(9, 15),
    signed=st.booleans(),
    garbage=hnp.arrays(np.uint16, (6, 8)),
    values=hnp.arrays(np.uint16, (6, 8)),
)
def test_high_bits_are_ignored(make_slice, save_slice, tmp_path, bits, signed, garbage, values):
    mask = np.uint16(2**bits - 1)
    stored = (values & mask) | (garbage & ~mask)
    truth = (values & mask).astype(int)
    if signed:
        truth[truth >= 2 ** (bits - 1)] -= 2**bits
    data = make_slice(stored, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(signed))
    np.testing.assert_array_equal(read(save_slice(data, tmp_path / "a.dcm")), truth)


def test_low_bits_below_the_pixel(make_slice, save_slice, tmp_path):
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 80
    data = make_slice(values << 4 | 5, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(read(save_slice(data, tmp_path / "a.dcm")), values)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (-3, 7), (0.5, 0), (1, 0.25), (1e-3, 0), (20, 30000)])
def test_rescale_is_exact(make_slice, save_slice, tmp_path, slope, intercept):
    found = read(save_slice(make_slice(RAMP, RescaleSlope=slope, RescaleIntercept=intercept), tmp_path / "a.dcm"))
    truth = RAMP.astype(np.float64) * slope + intercept
    whole = float(slope).is_integer() and float(intercept).is_integer() and np.abs(truth).max() < 32768
    assert found.dtype == (np.int16 if whole else np.float32)
    np.testing.assert_allclose(found, truth, rtol=1e-6)


def test_each_slice_has_its_own_rescale(make_slice, save_slice, tmp_path):
    lines = [(1.0, 0.0), (0.25, 3.0), (7.0, -2.0)]
    headers = [
        read_planes(save_slice(make_slice(RAMP, RescaleSlope=a, RescaleIntercept=b), tmp_path / f"{i}.dcm"))[0]
        for i, (a, b) in enumerate(lines)
    ]
    found = decode_slices(headers)
    assert found.dtype == np.float32
    for one, (slope, intercept) in zip(found, lines, strict=True):
        np.testing.assert_allclose(one, RAMP * slope + intercept, rtol=1e-6)
    assert decode_slices([headers[0], headers[2]]).dtype == np.int16


def test_beyond_int16(make_slice, save_slice, tmp_path):
    stored = np.array([[0, 65535], [40000, 1]], np.uint16)
    found = read(save_slice(make_slice(stored), tmp_path / "a.dcm"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, stored)


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)])
def test_float_pixels(make_slice, save_slice, tmp_path, keyword, dtype):
    values = RAMP.astype(dtype) / 7
    data = make_slice(RAMP, RescaleSlope=2, RescaleIntercept=1, BitsAllocated=8 * np.dtype(dtype).itemsize, PixelData=None)
    del data.BitsStored, data.HighBit, data.PixelRepresentation
    setattr(data, keyword, values.tobytes())
    found = read(save_slice(data, tmp_path / "a.dcm"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values * 2 + 1, rtol=1e-6)
    values[2, 3] = np.nan
    setattr(data, keyword, values.tobytes())
    with pytest.raises(NonFiniteError, match=r"a\.dcm.*1 of 48"):
        read(save_slice(data, tmp_path / "a.dcm"))


def test_wide_integers(make_slice, save_slice, tmp_path):
    stored = RAMP.astype(np.int32) * 100_000
    np.testing.assert_array_equal(read(save_slice(make_slice(stored), tmp_path / "a.dcm")), stored.astype(np.float32))


def test_modality_lut(make_slice, save_slice, tmp_path):
    table = (np.arange(256, dtype=np.uint16) ** 2 // 8)[::-1].copy()
    stored = np.arange(48, dtype=np.uint16).reshape(6, 8) * 6
    item = Dataset()
    item.LUTDescriptor = [256, 10, 16]
    item["LUTDescriptor"].VR = "US"
    item.ModalityLUTType = "US"
    item.LUTData = table.tobytes()
    item["LUTData"].VR = "OW"
    data = make_slice(stored, ModalityLUTSequence=[item], PixelPaddingValue=0)
    data["PixelPaddingValue"].VR = "US"
    header = read_planes(save_slice(data, tmp_path / "a.dcm"))[0]
    truth = table[np.clip(stored.astype(int) - 10, 0, 255)].astype(int)
    truth[0, 0] = truth[stored != 0].min()
    np.testing.assert_array_equal(decode_slices([header])[0], truth)


def test_too_short_is_said_from_the_header(make_slice, save_slice, tmp_path):
    path = save_slice(make_slice(RAMP, Rows=6000, Columns=6000), tmp_path / "a.dcm")
    with pytest.raises(CorruptFileError, match=r"too few for 1 x 6000 x 6000"):
        check_decodable(read_planes(path)[0])


def test_absurd_size_is_refused_before_it_is_allocated(make_slice, save_slice, tmp_path):
    data = make_slice(RAMP, Rows=46341, Columns=46341)
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7" + bytes(400)])
    path = save_slice(data, tmp_path / "a.dcm", pydicom.uid.JPEGLSLossless)
    with pytest.raises(CorruptFileError, match="cannot hold 46341 x 46341"):
        check_decodable(read_planes(path)[0])


def test_slope_zero(make_slice, save_slice, tmp_path):
    path = save_slice(make_slice(RAMP, RescaleSlope=0), tmp_path / "a.dcm")
    with pytest.raises(CorruptFileError, match="RescaleSlope is 0"):
        check_decodable(read_planes(path)[0])


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("text", [b"1,5", b"nan", b"2.5\\1"])
def test_a_rescale_that_is_no_number_is_refused_and_not_left_out(make_slice, save_slice, tmp_path, keyword, text):
    path = save_slice(make_slice(RAMP, **{keyword: "12345678"[: len(text)]}), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"12345678"[: len(text)], text))
    with pytest.raises(CorruptFileError, match="RescaleSlope or RescaleIntercept is not one number"):
        check_decodable(read_planes(path)[0])


def test_an_empty_rescale_is_none(make_slice, save_slice, tmp_path):
    path = save_slice(make_slice(RAMP, RescaleSlope="", RescaleIntercept=""), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(path), RAMP)


def test_pixels_cut_short_behind_a_long_header_are_said_from_the_header(make_slice, save_slice, tmp_path):
    path = save_slice(make_slice(RAMP, ImageComments="x" * 5000), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptFileError, match="too few for 1 x 6 x 8 pixels"):
        check_decodable(read_planes(path)[0])


@pytest.mark.parametrize(
    "elements", [{"BitsAllocated": 12, "BitsStored": 12}, {"BitsStored": 40}, {"BitsAllocated": 1, "BitsStored": 1}]
)
def test_odd_words_are_refused(make_slice, save_slice, tmp_path, elements):
    path = save_slice(make_slice(RAMP, **elements), tmp_path / "a.dcm")
    with pytest.raises(UnsupportedFormatError, match="bits in"):
        check_decodable(read_planes(path)[0])


def test_cut_after_the_header_was_read(make_slice, save_slice, tmp_path):
    path = save_slice(make_slice(RAMP), tmp_path / "a.dcm")
    header = read_planes(path)[0]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptFileError, match=r"a\.dcm.*too few"):
        decode_slices([header])


def test_peak_memory_is_the_array(make_slice, save_slice, tmp_path):
    """No more than a few frames are held beside the result."""
    import tracemalloc

    stored = np.arange(256 * 256, dtype=np.int16).reshape(256, 256) // 4
    headers = [read_planes(save_slice(make_slice(stored, RescaleIntercept=-1024), tmp_path / f"{i}.dcm"))[0] for i in range(40)]
    tracemalloc.start()
    found = decode_slices(headers)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * found.nbytes


@pytest.mark.realdata
@pytest.mark.parametrize("which", ["CT1", "MR1", "MR4", "NM1"])
def test_lossless_codecs_agree_on_real_files(realdata, which):
    files = [file for file in realdata.rglob(f"{which}_*") if file.name.split("_")[1] in ("J2KR", "JLSL", "JPLL", "RLE")]
    assert len(files) == 4
    found = [read(file) for file in files]
    for one in found[1:]:
        np.testing.assert_array_equal(one, found[0])


@pytest.mark.realdata
@pytest.mark.parametrize("which", ["MR4_JPLY", "NM1_JPLY", "MR4_J2KI", "CT1_JLSN"])
def test_lossy_codecs_as_simpleitk_on_real_files(realdata, which, capfd):
    file = next(realdata.rglob(which))
    header = read_planes(file)[0]
    check_decodable(header)
    found = decode_slices([header])
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    inside = ~decode_padding([header])
    np.testing.assert_allclose(found[inside], truth[inside], rtol=1e-6)
