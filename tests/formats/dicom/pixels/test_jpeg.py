"""JPEG frames are checked before GDCM sees them: what passes decodes alike, and nothing ends the process."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from voxelry.formats.dicom.pixels.jpeg import clean_jpeg

PIXELS = np.add.outer(np.arange(40), np.arange(64)).astype(np.uint8) * 2


def jpeg(mode="L", **options):
    out = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


PLAIN = jpeg()


@pytest.mark.parametrize(
    "options", [{}, {"comment": b"words"}, {"restart_marker_blocks": 4}, {"optimize": True}, {"quality": 20}]
)
def test_decodes_alike_without_what_decoding_does_not_need(options):
    data = jpeg(**options)
    cleaned = clean_jpeg(data + b"\0")
    assert len(cleaned) < len(data)
    assert b"JFIF" not in cleaned
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(cleaned))), np.asarray(Image.open(io.BytesIO(data))))
    assert clean_jpeg(cleaned) == cleaned


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (jpeg("RGB"), "one grey component"),
        (jpeg(progressive=True), "0xc2"),
        (PLAIN[:-2], "does not end"),
        (PLAIN[:40], "length|breaks off"),
        (PLAIN[:2], "breaks off"),
        (PLAIN.replace(b"\xff\xdb", b"\xff\xfe"), "no quantisation table"),
        (PLAIN.replace(b"\xff\xc4", b"\xff\xfe"), "no Huffman table"),
        (PLAIN.replace(b"\xff\xc0\x00\x0b\x08", b"\xff\xc0\x00\x0b\xca"), "202 bits"),
        (PLAIN[:-30] + b"\xff\xd0" + PLAIN[-28:], "0xd0"),
    ],
)
def test_what_is_damaged(data, said):
    with pytest.raises(ValueError, match=said):
        clean_jpeg(data)


@given(st.integers(0, len(PLAIN) - 1), st.integers(0, 255), st.integers(0, len(PLAIN)))
def test_any_change_ends_in_bytes_or_a_reason(at, value, length):
    data = bytearray(PLAIN)
    data[at] = value
    with suppress(ValueError):
        assert clean_jpeg(bytes(data[:length])).startswith(b"\xff\xd8")


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


def test_damaged_files_end_in_typed_errors_and_not_the_process(make_slice, save_slice, tmp_path):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    data = make_slice(PIXELS)
    data.PixelData = encapsulate([PLAIN])
    path = save_slice(data, tmp_path / "a.dcm", JPEGBaseline8Bit)
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) > 50
