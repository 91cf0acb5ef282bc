"""Copies of files: pixels byte for byte, new meta information, damaged files."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from helpers.ct_series import ct_series
from helpers.peak_memory import peak_megabytes
from voxelry.errors import CorruptFileError, UnsupportedFormatError
from voxelry.formats.dicom.privacy import Deidentifier, KeyedPseudonyms
from voxelry.formats.dicom.privacy.deidentified_file import is_dicom_file, write_deidentified

DEIDENTIFIER = Deidentifier(KeyedPseudonyms(bytes(32)))


@pytest.fixture
def ct(tmp_path):
    return tmp_path.joinpath(ct_series(tmp_path, slices=1).source.files[0])


def saved(ct, syntax):
    data = dcmread(ct)
    pixels = np.random.default_rng(0).integers(-2000, 2000, data.pixel_array.shape, "<i2")
    data.PixelData = pixels.tobytes()
    if syntax == RLELossless:
        data.compress(RLELossless)
    else:
        data.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            data.PixelData = pixels.astype(">i2").tobytes()
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    if not little or implicit:
        for _ in data.iterall():  # converted before they are written in another encoding
            pass
        data._read_little, data._read_implicit = None, None
    data.save_as(ct, enforce_file_format=True)
    return pixels


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_pixels_are_the_same_in_any_transfer_syntax(ct, tmp_path, syntax):
    pixels = saved(ct, syntax)
    copy = write_deidentified(ct, DEIDENTIFIER, lambda data: tmp_path / "copy.dcm")
    before, after = dcmread(ct), dcmread(copy)
    np.testing.assert_array_equal(after.pixel_array, pixels)
    if syntax != DeflatedExplicitVRLittleEndian:
        assert after.PixelData == before.PixelData
        assert after.file_meta.TransferSyntaxUID == syntax
    assert after.SOPInstanceUID != before.SOPInstanceUID


def test_meta_information_is_new(ct, tmp_path):
    data = dcmread(ct)
    data.preamble = b"Geheim".ljust(128)
    data.file_meta.SourceApplicationEntityTitle = "GEHEIM"
    data.file_meta.PrivateInformationCreatorUID, data.file_meta.PrivateInformation = "1.2", b"Geheim"
    data.save_as(ct, enforce_file_format=True)
    with ct.open("ab") as file:
        file.write(b"\xfc\xff\xfc\xffOB\0\0\x06\0\0\0Geheim")
    copy = write_deidentified(ct, DEIDENTIFIER, lambda data: tmp_path / "copy.dcm")
    after = dcmread(copy)
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert after.file_meta.MediaStorageSOPClassUID == data.SOPClassUID
    assert b"geheim" not in copy.read_bytes().lower()
    assert after.PixelData == data.PixelData


def test_nothing_is_written_without_a_place(ct, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert write_deidentified(ct, DEIDENTIFIER, lambda data: None) is None
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused_and_leaves_nothing(ct, tmp_path, kept):
    content = ct.read_bytes()
    ct.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CorruptFileError, match=r"\.dcm"):
        write_deidentified(ct, DEIDENTIFIER, lambda data: tmp_path / "copy" / "copy.dcm")
    assert not list(tmp_path.glob("copy/*"))


def test_a_truncated_compressed_file_is_refused(ct, tmp_path):
    saved(ct, RLELossless)
    ct.write_bytes(ct.read_bytes()[:-40])
    with pytest.raises(CorruptFileError):
        write_deidentified(ct, DEIDENTIFIER, lambda data: tmp_path / "copy.dcm")


def test_an_unknown_transfer_syntax_is_refused(ct, tmp_path):
    content = ct.read_bytes()
    ct.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0", 1))
    with pytest.raises(UnsupportedFormatError, match="is not known"):
        write_deidentified(ct, DEIDENTIFIER, lambda data: tmp_path / "copy.dcm")


def test_a_file_is_dicom_by_its_content(ct, tmp_path):
    other = tmp_path / "a.dcm"
    other.write_text("notes about Geheim")
    assert is_dicom_file(ct)
    assert not is_dicom_file(other)


def test_memory_holds_the_header_alone(ct, tmp_path):
    data = dcmread(ct)
    data.NumberOfFrames = 64 * 2**20 // len(data.PixelData)
    data.PixelData = data.PixelData * data.NumberOfFrames
    data.save_as(ct, enforce_file_format=True)
    size = ct.stat().st_size / 1e6
    del data
    peak = peak_megabytes(lambda: write_deidentified(ct, DEIDENTIFIER, lambda data: tmp_path / "copy.dcm"))
    assert (tmp_path / "copy.dcm").stat().st_size / 1e6 == pytest.approx(size, rel=0.001)
    assert peak < size / 2
