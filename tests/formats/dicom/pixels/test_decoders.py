"""Decoders: the same pixels as other libraries give, and damaged frames that neither end the process nor hang."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import jpeg_ls
import numpy as np
import openjpeg
import pytest
from PIL import Image
from pydicom import uid as uids
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from rle.utils import encode_pixel_data

from voxelry.errors import ReadError
from voxelry.formats.dicom.pixels.codecs import decode_compressed
from voxelry.formats.dicom.pixels.decoders import CHARLS, PYLIBJPEG_RLE, decode_jpeg_2000, decode_jpeg_ls
from voxelry.formats.dicom.pixels.frame_format import FrameFormat

SHAPE = (40, 64)
PIXELS = np.add.outer(np.arange(40), np.arange(64)).astype(np.uint8) * 2


def pixels(bits, signed):
    """Smooth, with noise, and both ends of the range."""
    rng = np.random.default_rng(bits)
    full = 2**bits
    values = np.add.outer(np.arange(40), np.arange(64)) * full // 110 + rng.integers(0, max(2, full // 64), SHAPE)
    values = np.clip(values, 0, full - 1)
    values[0, :2] = 0, full - 1
    return (values - (full // 2 if signed else 0)).astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def frame_format(syntax, bits, signed):
    return FrameFormat(Path("a.dcm"), syntax, SHAPE, 8 if bits <= 8 else 16, bits, signed)


def by_gdcm(syntax, data, bits, signed):
    values, _ = get_decoder(syntax).as_array(
        encapsulate([data]),
        index=0,
        decoding_plugin="gdcm",
        rows=SHAPE[0],
        columns=SHAPE[1],
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=8 if bits <= 8 else 16,
        bits_stored=bits,
        pixel_representation=int(signed),
        number_of_frames=1,
        pixel_keyword="PixelData",
    )
    return values


def jpeg_ls_frame(stored, bits, error=0):
    mask = np.array(2**bits - 1, f"u{stored.itemsize}")
    raw = (stored.view(mask.dtype) & mask).tobytes()
    shape = {"rows": SHAPE[0], "columns": SHAPE[1], "samples_per_pixel": 1}
    return bytes(jpeg_ls.encode_buffer(raw, **shape, bits_stored=bits, interleave_mode=0, lossy_error=error))


def jpeg_2000_frame(stored, bits, **options):
    return bytes(openjpeg.utils.encode_array(stored, bits_stored=bits, photometric_interpretation=2, **options))


@pytest.mark.parametrize(
    ("bits", "signed"), [(8, False), (8, True), (10, False), (12, False), (12, True), (16, False), (16, True)]
)
@pytest.mark.parametrize("lossy", [False, True])
def test_as_gdcm(bits, signed, lossy):
    stored = pixels(bits, signed)
    for syntax, data in (
        (uids.JPEGLSNearLossless if lossy else uids.JPEGLSLossless, jpeg_ls_frame(stored, bits, 2 * lossy)),
        (
            uids.JPEG2000 if lossy else uids.JPEG2000Lossless,
            jpeg_2000_frame(stored, bits, **({"compression_ratios": [8]} if lossy else {})),
        ),
    ):
        values = decode_compressed(data, frame_format(syntax, bits, signed))
        assert values.dtype.kind == stored.dtype.kind
        np.testing.assert_array_equal(values, by_gdcm(syntax, data, bits, signed))
        if not lossy:
            np.testing.assert_array_equal(values, stored)


@pytest.mark.parametrize("quality", [5, 50, 95])
def test_baseline_as_gdcm(quality):
    out = io.BytesIO()
    Image.fromarray(pixels(8, False)).save(out, "JPEG", quality=quality, restart_marker_blocks=4)
    values = decode_compressed(out.getvalue(), frame_format(uids.JPEGBaseline8Bit, 8, False))
    np.testing.assert_array_equal(values, by_gdcm(uids.JPEGBaseline8Bit, out.getvalue(), 8, False))


def test_high_throughput_jpeg_2000_as_openjph():
    import imagecodecs

    stored = pixels(12, True)
    data = bytes(imagecodecs.htj2k_encode(stored, reversible=True))
    np.testing.assert_array_equal(decode_compressed(data, frame_format(uids.HTJ2KLossless, 12, True)), stored)


@pytest.mark.parametrize("boxes", [b"", bytes(85)])
def test_boxes_before_the_codestream_are_passed_over(boxes):
    stored = pixels(12, False)
    frame = frame_format(uids.JPEG2000Lossless, 12, False)
    np.testing.assert_array_equal(decode_jpeg_2000(boxes + jpeg_2000_frame(stored, 12), frame), stored)


def test_a_jpeg_ls_frame_that_breaks_off_is_refused_at_once():
    """CharLS counts 2^31 bits otherwise."""
    data = jpeg_ls_frame(pixels(8, False), 8)
    start = time.process_time()
    for cut in (60, 100, 300, len(data) // 2):
        with pytest.raises(RuntimeError):
            decode_jpeg_ls(data[:cut], frame_format(uids.JPEGLSLossless, 8, False))
    assert time.process_time() - start < 2


def rle_frame(*segments):
    """Segments of literal runs behind the header of an RLE frame."""
    packed = [b"".join(bytes([len(run) - 1]) + run for run in (s[i : i + 128] for i in range(0, len(s), 128))) for s in segments]
    offsets = [64 + sum(map(len, packed[:index])) for index in range(len(packed))]
    return np.array([len(packed), *offsets, *[0] * (15 - len(packed))], "<u4").tobytes() + b"".join(packed)


def test_rle_segments_that_are_longer_than_their_pixels():
    stored = pixels(16, False)
    low, high = (stored & 255).astype(np.uint8).tobytes(), (stored >> 8).astype(np.uint8).tobytes()
    frame = frame_format(uids.RLELossless, 16, False)
    np.testing.assert_array_equal(PYLIBJPEG_RLE.decode(rle_frame(high, low), frame), stored)
    np.testing.assert_array_equal(PYLIBJPEG_RLE.decode(rle_frame(high + bytes(40), low + bytes(2)), frame), stored)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_rle_frames_of_every_depth(bits):
    stored = np.random.default_rng(bits).integers(0, 2**bits, SHAPE).astype(f"<u{bits // 8}")
    stored[3:9] = stored[0, 0]  # runs
    rows, columns = SHAPE
    data = encode_pixel_data(
        stored.tobytes(), rows=rows, columns=columns, samples_per_pixel=1, bits_allocated=bits, byteorder="<"
    )
    frame = replace(frame_format(uids.RLELossless, bits, False), bits_allocated=bits)
    np.testing.assert_array_equal(PYLIBJPEG_RLE.decode(bytes(data), frame), stored)


def test_a_long_rle_segment_takes_no_memory_without_bound():
    frame = replace(frame_format(uids.RLELossless, 8, False), shape=(2, 2))
    data = np.array([1, 64, *[0] * 14], "<u4").tobytes() + b"\x81\7" * 10_000_000
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(PYLIBJPEG_RLE.decode(data, frame), np.full((2, 2), 7))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_damaged_rle_frames_are_plain_errors_and_print_nothing(capfd):
    stored = pixels(16, False)
    low, high = (stored & 255).astype(np.uint8).tobytes(), (stored >> 8).astype(np.uint8).tobytes()
    sound, frame = rle_frame(high, low), frame_format(uids.RLELossless, 16, False)
    generator = np.random.default_rng(0)
    errors = 0
    for _ in range(2000):
        broken = np.frombuffer(sound, np.uint8).copy()
        first = 64 if generator.random() < 0.8 else 0
        broken[generator.integers(first, len(broken), 2)] = generator.integers(0, 256, 2)
        try:
            PYLIBJPEG_RLE.decode(broken[: generator.integers(len(broken) // 2, len(broken) + 1)].tobytes(), frame)
        except ValueError:
            errors += 1
    assert errors > 500
    assert capfd.readouterr() == ("", "")


def test_every_decoders_reason_is_in_the_error():
    frame = frame_format(uids.JPEGLSLossless, 8, False)
    with pytest.raises(ReadError, match=rf"a\.dcm: pixels in transfer syntax 'JPEG-LS Lossless.*{CHARLS.library}: "):
        decode_compressed(jpeg_ls_frame(pixels(8, False), 8)[:200], frame)


CHILD = """
import random, sys
from pathlib import Path
from voxelry.errors import VoxelryError
from voxelry.formats.dicom.pixels.decode import check_decodable, decode_slices
from voxelry.formats.dicom.planes import read_planes
path, changed = Path(sys.argv[1]), Path(sys.argv[1] + "x")
data, start = path.read_bytes(), read_planes(path)[0].pixels.offset
random.seed(0)
typed = 0
for _ in range(300):
    mutant = bytearray(data)
    for _ in range(random.choice((1, 1, 3, 20))):
        mutant[random.randrange(start, len(data))] = random.randrange(256)
    changed.write_bytes(mutant)
    try:
        planes = read_planes(changed)
        check_decodable(planes[0])
        decode_slices(planes)
    except VoxelryError:
        typed += 1
print(typed)
"""


def baseline():
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "JPEG")
    return out.getvalue()


CODED = {
    "jpeg": (uids.JPEGBaseline8Bit, baseline),
    "jpeg-ls": (uids.JPEGLSLossless, lambda: jpeg_ls_frame(PIXELS, 8)),
    "jpeg-2000": (uids.JPEG2000Lossless, lambda: jpeg_2000_frame(PIXELS, 8)),
    "rle": (uids.RLELossless, lambda: rle_frame(PIXELS.tobytes())),
}


@pytest.mark.parametrize("coding", CODED)
def test_damaged_files_end_in_typed_errors_and_not_the_process(make_slice, save_slice, tmp_path, coding):
    syntax, encode = CODED[coding]
    data = make_slice(PIXELS)
    data.PixelData = encapsulate([encode()])
    path = save_slice(data, tmp_path / "a.dcm", syntax)
    child = subprocess.run([sys.executable, "-W", "ignore", "-c", CHILD, str(path)], capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr[-500:]
    assert int(child.stdout) > 10
