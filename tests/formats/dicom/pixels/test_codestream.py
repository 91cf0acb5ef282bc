"""What a compressed frame states, and frames that contradict their header."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import jpeg_ls
import numpy as np
import openjpeg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from voxelry.formats.dicom.pixels.codestream import (
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LS,
    Codestream,
    check_codestream,
    read_codestream,
)
from voxelry.formats.dicom.pixels.frame_format import FrameFormat

PIXELS = np.arange(40 * 64, dtype=np.uint16).reshape(40, 64)


def test_jpeg_ls():
    data = jpeg_ls.encode_buffer(PIXELS.tobytes(), rows=40, columns=64, samples_per_pixel=1, bits_stored=12, interleave_mode=0)
    assert read_codestream(bytes(data)) == Codestream(40, 64, 1, 12, 0xF7)


def test_jpeg_2000():
    data = bytes(openjpeg.utils.encode_array(PIXELS, bits_stored=13, photometric_interpretation=2))
    assert read_codestream(data) == Codestream(40, 64, 1, 13)
    assert read_codestream(bytes(85) + data) == Codestream(40, 64, 1, 13, offset=85)


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3)])
def test_jpeg(tmp_path, mode, components):
    path = tmp_path / "a.jpg"
    Image.new(mode, (30, 20)).save(path)
    assert read_codestream(path.read_bytes()) == Codestream(20, 30, components, 8, 0xC0)


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", b"\xff\x4f\xff\x51", b"\xff\xd8\xff\xff"]))
def test_anything_ends(data, start):
    read_codestream(start + data)


SMOOTH = np.add.outer(np.arange(40), np.arange(64)).astype(np.uint8) * 2


def jpeg(mode="L", **options):
    out = io.BytesIO()
    Image.fromarray(SMOOTH).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


PLAIN = jpeg()


def check(data, kinds=(JPEG_BASELINE,), shape=(40, 64), bits=8):
    check_codestream(data, FrameFormat(Path("a.dcm"), "1.2", shape, bits, bits, is_signed=False), kinds)


@pytest.mark.parametrize(
    "options", [{}, {"comment": b"words"}, {"restart_marker_blocks": 4}, {"optimize": True}, {"quality": 20}]
)
def test_sound_frames_pass(options):
    check(jpeg(**options))
    check(jpeg(**options) + b"\0")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (jpeg("RGB"), "the codestream states 40 x 64 x 3, the header 40 x 64 x 1"),
        (jpeg(progressive=True), "another kind of JPEG, SOF 0xc2"),
        (PLAIN[:-2], "does not end"),
        (PLAIN[:170], "breaks off|no codestream"),
        (PLAIN[:2], "no codestream"),
        (PLAIN.replace(b"\xff\xc0\x00\x0b\x08", b"\xff\xc0\x00\x0b\xca"), "states 202 bits, the header 8"),
        (PLAIN[:-30] + b"\xff\xd0" + PLAIN[-28:], "0xd0"),
        (PLAIN[:-30] + b"\xff\xc4" + PLAIN[-28:], "0xc4"),
        (b"words", "no codestream"),
    ],
)
def test_what_contradicts_the_header_or_breaks_off(data, problem):
    with pytest.raises(ValueError, match=problem):
        check(data)


def test_a_smaller_header_is_contradicted():
    with pytest.raises(ValueError, match="states 40 x 64 x 1, the header 40 x 63 x 1"):
        check(PLAIN, shape=(40, 63))
    twelve = bytes(openjpeg.utils.encode_array(PIXELS, bits_stored=12, photometric_interpretation=2))
    check(twelve, (JPEG_2000,), bits=16)
    with pytest.raises(ValueError, match="states 12 bits, the header 8"):
        check(twelve, (JPEG_2000,))
    with pytest.raises(ValueError, match="another kind"):
        check(PLAIN, (JPEG_EXTENDED, JPEG_LS))


@given(st.integers(0, len(PLAIN) - 1), st.integers(0, 255), st.integers(0, len(PLAIN)))
def test_any_change_passes_or_has_a_reason(at, value, length):
    data = bytearray(PLAIN)
    data[at] = value
    with suppress(ValueError):
        check(bytes(data[:length]))
