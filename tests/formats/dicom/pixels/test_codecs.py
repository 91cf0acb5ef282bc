"""Compressed frames: every codec gives back what was coded, and what cannot be decoded is said by name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace

import imagecodecs
import jpeg_ls
import numpy as np
import openjpeg
import pydicom
import pytest
import rle
import SimpleITK as sitk
from pydicom import uid as uids
from pydicom.encaps import encapsulate

from voxelry.errors import CorruptFileError, ReadError, UnsupportedFormatError
from voxelry.formats.dicom.pixels.codecs import check_codec, clear_unused, decode_compressed
from voxelry.formats.dicom.pixels.codestream import read_codestream
from voxelry.formats.dicom.pixels.decode import check_decodable, decode_slices
from voxelry.formats.dicom.pixels.decoders import Decoder
from voxelry.formats.dicom.pixels.frame_format import FrameFormat
from voxelry.formats.dicom.pixels.grey_values import codestream_remarks
from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES
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


PRECISIONS = [(12, 16), (12, 12), (13, 16), (16, 16), (9, 10), (10, 12), (15, 16), (8, 16), (7, 8), (12, 10), (14, 13)]
"""Bits of the codestream, and of the header."""


@pytest.mark.parametrize(("precision", "bits"), PRECISIONS)
@pytest.mark.parametrize("coded_signed", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_2000_of_other_bits_or_sign_is_as_pydicom_has_it(
    make_slice, save_slice, tmp_path, precision, bits, coded_signed, signed
):
    stored = image(precision, coded_signed)
    frame = bytes(openjpeg.utils.encode_array(stored, bits_stored=precision, photometric_interpretation=2))
    data = coded(make_slice, stored, bits, [frame], PixelRepresentation=int(signed))
    path = save_slice(data, tmp_path / "a.dcm", uids.JPEG2000Lossless)
    np.testing.assert_array_equal(read(path)[0].astype(int), pydicom.dcmread(path).pixel_array.astype(int))
    (header,) = read_planes(path)
    said = codestream_remarks([header, header])
    assert len(said) == (coded_signed != signed or precision > bits)
    assert all(f"the codestream states {precision} {'' if coded_signed else 'un'}signed bits" in remark for remark in said)


@pytest.mark.parametrize(("precision", "bits"), PRECISIONS)
@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_ls_of_fewer_bits_is_as_pydicom_has_it(make_slice, save_slice, tmp_path, precision, bits, signed):
    stored = image(precision, signed)
    frame = jpeg_ls_frame(stored, precision) if precision > 8 else None
    if frame is None:
        narrow = (stored.astype(np.int16) & (2**precision - 1)).astype(np.uint8)
        options = {"rows": ROWS, "columns": COLUMNS, "samples_per_pixel": 1, "bits_stored": precision, "interleave_mode": 0}
        frame = bytes(jpeg_ls.encode_buffer(narrow.tobytes(), **options))
    path = save_slice(coded(make_slice, stored, bits, [frame]), tmp_path / "a.dcm", uids.JPEGLSLossless)
    found = read(path)[0].astype(int)
    np.testing.assert_array_equal(found, stored.astype(int))
    np.testing.assert_array_equal(found, pydicom.dcmread(path).pixel_array.astype(int))
    assert len(codestream_remarks(read_planes(path))) == (precision > bits or (signed and precision < bits))


@pytest.mark.parametrize("quality", [50, 80, 95])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_lossy_values_beyond_the_stored_bits_stay_the_brightest(make_slice, save_slice, tmp_path, quality, photometric):
    """JPEG of 12 bits overshoots 10 bits at edges; a cleared eleventh bit would turn the brightest pixels black."""
    sharp = (np.random.default_rng(0).integers(0, 2, (ROWS, COLUMNS)) * 1023).astype(np.uint16)
    frame = imagecodecs.jpeg8_encode(sharp, level=quality, bitspersample=12)
    data = coded(make_slice, sharp, 10, [frame], PhotometricInterpretation=photometric, Modality="MR")
    path = save_slice(data, tmp_path / "a.dcm", uids.JPEGExtended12Bit)
    by_itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0].astype(int)
    truth = imagecodecs.jpeg8_decode(frame).astype(int)
    assert truth.max() > 1023
    found = read(path)[0].astype(int)
    if photometric == "MONOCHROME1":
        np.testing.assert_array_equal(found, 1023 - truth)
    else:
        np.testing.assert_array_equal(found, truth)
        np.testing.assert_array_equal(found[truth < 1024], by_itk[truth < 1024])  # GDCM makes the others black


@pytest.mark.parametrize("syntax", [uids.JPEG2000Lossless, uids.JPEG2000])
def test_lossy_jpeg_2000_is_known_by_its_wavelet(make_slice, save_slice, tmp_path, syntax):
    """Writers put lossy codestreams under the lossless syntax, in words of 16 bits: values overshoot BitsStored there too."""
    sharp = (np.random.default_rng(0).integers(0, 2, (ROWS, COLUMNS)) * 1023).astype(np.uint16)
    frame = imagecodecs.jpeg2k_encode(sharp, level=60, bitspersample=16, codecformat="j2k")
    path = save_slice(coded(make_slice, sharp, 10, [frame]), tmp_path / "a.dcm", syntax)
    truth = imagecodecs.jpeg2k_decode(frame)
    assert truth.max() > 1023
    np.testing.assert_array_equal(read(path)[0], truth)
    exact = imagecodecs.jpeg2k_encode(sharp, level=0, reversible=True, bitspersample=16, codecformat="j2k")
    assert read_codestream(frame).is_irreversible
    assert not read_codestream(exact).is_irreversible
    assert not read_codestream(exact[:60]).is_irreversible


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ExplicitVRBigEndian])
def test_compressed_pixels_that_are_called_uncompressed(make_slice, save_slice, tmp_path, syntax):
    """Run lengths of noise take more bytes than the pixels: there would be enough for a picture of them."""
    stored = image(16, False)
    path = save_slice(coded(make_slice, stored, 16, [rle_frame(stored, 16)]), tmp_path / "a.dcm", uids.RLELossless)
    wrong = path.read_bytes().replace(uids.RLELossless.encode(), syntax.encode().ljust(len(uids.RLELossless), b"\0"))
    path.write_bytes(wrong)
    with pytest.raises(ReadError, match=r"a\.dcm"):
        read(path)


def test_overlays_in_high_bits_of_lossless_frames_are_cleared(make_slice, save_slice, tmp_path):
    stored = image(12, False)
    frame = jpeg_ls_frame(stored | np.uint16(0x8000), 16)
    path = save_slice(coded(make_slice, stored, 12, [frame]), tmp_path / "a.dcm", uids.JPEGLSLossless)
    np.testing.assert_array_equal(read(path)[0], stored)


@pytest.mark.parametrize(
    "shape", [(ROWS, COLUMNS + 1), (ROWS - 1, COLUMNS), (COLUMNS, ROWS), (ROWS, COLUMNS, 1), (ROWS * COLUMNS,)]
)
@pytest.mark.parametrize("syntax", [uids.JPEG2000Lossless, uids.JPEGLSLossless, uids.RLELossless])
def test_what_a_decoder_gives_back_is_measured(tmp_path, monkeypatch, syntax, shape):
    odd = Decoder("odd", "odd", lambda data, frame: np.zeros(shape, np.uint16))
    monkeypatch.setitem(TRANSFER_SYNTAXES, str(syntax), replace(TRANSFER_SYNTAXES[str(syntax)], decoders=(odd,)))
    frame = FrameFormat(tmp_path / "a.dcm", str(syntax), (ROWS, COLUMNS), 16, 12, is_signed=False)
    with pytest.raises(ReadError, match=r"a\.dcm: .*odd finds"):
        decode_compressed(CODERS[syntax](image(12, False), 12), frame)


LYING = """
import resource, sys
from pathlib import Path
from voxelry.errors import ReadError
from voxelry.formats.dicom.pixels.codecs import decode_compressed
from voxelry.formats.dicom.pixels.frame_format import FrameFormat
import imagecodecs
imagecodecs.jpeg2k_decode(Path(sys.argv[1], "sound").read_bytes())
limit = 3 * 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for file in sorted(Path(sys.argv[1]).glob("*.j2k")):
    frame = FrameFormat(file, "1.2.840.10008.1.2.4.90", (40, 64), 16, 12, is_signed=False)
    try:
        decode_compressed(file.read_bytes(), frame)
    except ReadError as error:
        assert "the codestream states" in str(error), error
        print(file.stem)
"""


def test_a_codestream_of_another_size_is_refused_before_it_is_decoded(tmp_path):
    """In a process of its own, with little memory: decoders die of such frames, and the tests would with them."""
    sound = jpeg_2000_frame(image(12, False), 12)
    (tmp_path / "sound").write_bytes(sound)
    at = sound.index(b"\xff\x51") + 6
    sizes = [(65, 40), (64, 41), (63, 40), (64, 39), (1, 1), (2**16, 2**16), (2**31, 2**31), (2**32 - 1, 1), (40, 64)]
    for number, (width, height) in enumerate(sizes):
        lying = bytearray(sound)
        lying[at : at + 8] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        lying[at + 16 : at + 24] = lying[at : at + 8]  # one tile
        (tmp_path / f"{number}.j2k").write_bytes(lying)
    done = subprocess.run([sys.executable, "-c", LYING, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(number) for number in range(len(sizes))]


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
