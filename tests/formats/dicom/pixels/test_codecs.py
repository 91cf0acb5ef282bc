"""Compressed frames: every codec gives back what was coded, and what cannot be decoded is said by name."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import jpeg_ls
import numpy as np
import openjpeg
import pytest
import rle
from pydicom import uid as uids
from pydicom.encaps import encapsulate

from voxelry.errors import CorruptFileError, ReadError, UnsupportedFormatError
from voxelry.formats.dicom.pixels.codecs import check_codec, clear_unused
from voxelry.formats.dicom.pixels.decode import check_decodable, decode_slices
from voxelry.formats.dicom.planes import read_planes

ROWS, COLUMNS = 40, 64


def image(bits, signed, seed=0):
    rng = np.random.default_rng(seed)
    low = -(2 ** (bits - 1)) if signed else 0
    return rng.integers(low, low + 2**bits, (ROWS, COLUMNS)).astype(np.int16 if signed else np.uint16)


def jpeg_ls_frame(stored, bits):
    mask = np.uint16(2**bits - 1)
    return bytes(
        jpeg_ls.encode_buffer(
            (stored.view(np.uint16) & mask).tobytes(),
            rows=ROWS,
            columns=COLUMNS,
            samples_per_pixel=1,
            bits_stored=bits,
            interleave_mode=0,
        )
    )


def jpeg_2000_frame(stored, bits):
    return bytes(openjpeg.utils.encode_array(stored, bits_stored=bits, photometric_interpretation=2))


def rle_frame(stored, bits):
    return next(
        rle.utils.encode_array(stored, rows=ROWS, columns=COLUMNS, bits_allocated=16, samples_per_pixel=1, number_of_frames=1)
    )


CODERS = {uids.JPEGLSLossless: jpeg_ls_frame, uids.JPEG2000Lossless: jpeg_2000_frame, uids.RLELossless: rle_frame}


def coded(make_slice, stored, bits, frames, **elements):
    data = make_slice(stored, BitsStored=bits, HighBit=bits - 1, **elements)
    data.PixelData = encapsulate(frames)
    data["PixelData"].VR = "OB"
    return data


def read(path):
    headers = read_planes(path)
    for header in headers:
        check_decodable(header)
    return decode_slices(headers)


@pytest.mark.parametrize("syntax", CODERS, ids=["jpeg-ls", "jpeg-2000", "rle"])
@pytest.mark.parametrize(("bits", "signed"), [(12, False), (12, True), (16, True), (15, False), (10, True)])
def test_round_trip(make_slice, save_slice, tmp_path, syntax, bits, signed):
    stored = image(bits, signed)
    data = coded(make_slice, stored, bits, [CODERS[syntax](stored, bits)], RescaleIntercept=-3)
    found = read(save_slice(data, tmp_path / "a.dcm", syntax))[0]
    np.testing.assert_array_equal(found, stored.astype(int) - 3)


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmcjpeg (Debian package dcmtk) is not installed")
@pytest.mark.parametrize(
    ("option", "bits", "largest_error"), [("+e1", 16, 0), ("+el", 16, 0), ("+e1", 12, 0), ("+eb", 8, 20), ("+ee", 12, 300)]
)
def test_jpeg_as_dcmtk_codes_it(make_slice, save_slice, tmp_path, option, bits, largest_error):
    """Process 14, its selection value 1, baseline and extended of 12 bits."""
    smooth = np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) * (2**bits // (ROWS + COLUMNS))
    stored = smooth.astype(np.uint8 if bits == 8 else np.uint16)
    plain = save_slice(make_slice(stored, BitsStored=bits, HighBit=bits - 1, SOPInstanceUID="1.2.3"), tmp_path / "plain.dcm")
    packed = tmp_path / "packed.dcm"
    subprocess.run(["dcmcjpeg", option, "+un", str(plain), str(packed)], check=True, capture_output=True)
    assert read_planes(packed)[0].syntax in uids.JPEGTransferSyntaxes
    found = read(packed)[0]
    assert np.abs(found.astype(int) - stored.astype(int)).max() <= largest_error


@pytest.mark.parametrize("table", [True, False])
def test_frames_in_several_fragments(make_slice, save_slice, tmp_path, table):
    stored = np.stack([image(12, False, seed) for seed in range(3)])
    coded_frames = [jpeg_ls_frame(frame, 12) for frame in stored]
    data = coded(make_slice, stored, 12, coded_frames, NumberOfFrames=3)
    data.PixelData = encapsulate(coded_frames, fragments_per_frame=2, has_bot=table)
    path = save_slice(data, tmp_path / "a.dcm", uids.JPEGLSLossless)
    (header,) = read_planes(path)
    planes = [replace(header, frame=number) for number in (2, 3, 1)]
    np.testing.assert_array_equal(decode_slices(planes), stored[[1, 2, 0]])


def test_missing_frame_is_said(make_slice, save_slice, tmp_path):
    stored = image(12, False)
    data = coded(make_slice, stored, 12, [jpeg_ls_frame(stored, 12)], NumberOfFrames=2)
    (header,) = read_planes(save_slice(data, tmp_path / "a.dcm", uids.JPEGLSLossless))
    with pytest.raises(CorruptFileError, match="1 fragments of pixels do not make up the 2 frames"):
        decode_slices([header])


@pytest.mark.parametrize("syntax", CODERS, ids=["jpeg-ls", "jpeg-2000", "rle"])
def test_damaged_stream_names_file_and_syntax(make_slice, save_slice, tmp_path, syntax):
    stored = image(12, False)
    broken = CODERS[syntax](stored, 12)[:60]
    path = save_slice(coded(make_slice, stored, 12, [broken]), tmp_path / "a.dcm", syntax)
    with pytest.raises(ReadError, match=rf"a\.dcm: pixels in transfer syntax '{re.escape(syntax.name)}"):
        read(path)


@pytest.mark.parametrize("syntax", [uids.JPEGLSLossless, uids.JPEG2000Lossless])
def test_another_size_than_the_header_says(make_slice, save_slice, tmp_path, syntax):
    stored = image(12, False)
    data = coded(make_slice, stored, 12, [CODERS[syntax](stored, 12)], Rows=ROWS + 1)
    with pytest.raises(ReadError, match=rf"the codestream states {ROWS} x {COLUMNS} x 1, the header {ROWS + 1} x {COLUMNS} x 1"):
        read(save_slice(data, tmp_path / "a.dcm", syntax))


def test_cut_within_a_fragment(make_slice, save_slice, tmp_path):
    stored = image(12, False)
    path = save_slice(coded(make_slice, stored, 12, [jpeg_ls_frame(stored, 12)]), tmp_path / "a.dcm", uids.JPEGLSLossless)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CorruptFileError, match=r"a\.dcm: breaks off within its pixels"):
        read(path)


def test_no_decoder_is_said_from_the_header(make_slice, save_slice, tmp_path):
    stored = image(12, False)
    (header,) = read_planes(save_slice(coded(make_slice, stored, 12, [b"abcd"]), tmp_path / "a.dcm", uids.MPEG2MPML))
    with pytest.raises(UnsupportedFormatError) as caught:
        check_codec(header)
    assert uids.MPEG2MPML.name in caught.value.problem
    assert uids.MPEG2MPML in caught.value.problem
    assert "uncompressed, JPEG, lossless JPEG, JPEG-LS, JPEG 2000, HTJ2K or RLE" in caught.value.remedy


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_clear_unused_by_brute_force(dtype):
    width = 8 * np.dtype(dtype).itemsize
    rng = np.random.default_rng(0)
    for bits in range(1, width + 1):
        for high in range(bits - 1, width):
            raw = rng.integers(0, 2**width, 20)
            truth = raw >> (high - bits + 1) & (2**bits - 1)
            if np.dtype(dtype).kind == "i":
                truth = np.where(truth >= 2 ** (bits - 1), truth - 2**bits, truth)
            if bits == width:
                truth = raw.astype(f"u{width // 8}").view(dtype)
            values = raw.astype(f"u{width // 8}").view(dtype)
            np.testing.assert_array_equal(clear_unused(values.copy(), bits, high), truth)
