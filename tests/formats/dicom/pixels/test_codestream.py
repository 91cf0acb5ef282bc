"""The size that a compressed frame states."""

from __future__ import annotations

import jpeg_ls
import numpy as np
import openjpeg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from voxelry.formats.dicom.pixels.codestream import Codestream, look_at

PIXELS = np.arange(40 * 64, dtype=np.uint16).reshape(40, 64)


def test_jpeg_ls():
    data = jpeg_ls.encode_buffer(PIXELS.tobytes(), rows=40, columns=64, samples_per_pixel=1, bits_stored=12, interleave_mode=0)
    assert look_at(bytes(data)) == Codestream(40, 64, 1, 12, 0xF7)


def test_jpeg_2000():
    data = bytes(openjpeg.utils.encode_array(PIXELS, bits_stored=13, photometric_interpretation=2))
    assert look_at(data) == Codestream(40, 64, 1, 13)
    assert look_at(bytes(85) + data) == Codestream(40, 64, 1, 13, offset=85)


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3)])
def test_jpeg(tmp_path, mode, components):
    path = tmp_path / "a.jpg"
    Image.new(mode, (30, 20)).save(path)
    assert look_at(path.read_bytes()) == Codestream(20, 30, components, 8, 0xC0)


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", b"\xff\x4f\xff\x51", b"\xff\xd8\xff\xff"]))
def test_anything_ends(data, start):
    look_at(start + data)
