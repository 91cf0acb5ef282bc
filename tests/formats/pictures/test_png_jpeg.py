"""PNG of every depth and colour type, JPEG of every kind: what Pillow changes on the way is put right, or said."""

from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.raw_tiff import packed
from voxelry.errors import CorruptFileError, LabelError, UnsupportedFormatError
from voxelry.formats.pictures.picture_read import picture_header, read_picture, read_picture_labels
from voxelry.formats.read_options import ReadOptions

RNG = np.random.default_rng(0)
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Samples and depths of each colour type: PNG specification, section 11.2.2."""


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(file, values, bits, kind, *chunks):
    """A PNG of ``(rows, columns, S)`` numbers, byte by byte; Pillow does not write every depth."""
    rows, columns = values.shape[:2]
    lines = b"".join(b"\0" + packed(row.reshape(1, -1), bits, ">") for row in values)
    header = struct.pack(">IIBBBBB", columns, rows, bits, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return file


def numbers(bits, shape, rng=RNG):
    return rng.integers(0, 2**bits, shape).astype(np.uint8 if bits <= 8 else np.uint16)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_every_depth_and_colour_type(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(sorted(DEPTHS)))
    bits = data.draw(st.sampled_from(DEPTHS[kind]))
    shape = (data.draw(st.integers(1, 6)), data.draw(st.integers(1, 17)), SAMPLES[kind])
    stored = numbers(bits, shape, np.random.default_rng(data.draw(st.integers(0, 99))))
    if kind in (4, 6):
        stored[..., -1] = 2**bits - 1
    palette = RNG.integers(0, 255, (2**bits, 3)).astype(np.uint8) if kind == 3 else None
    chunks = [] if palette is None else [chunk(b"PLTE", palette.tobytes())]
    gamma = [chunk(b"gAMA", struct.pack(">I", data.draw(st.sampled_from([45455, 100000]))))]
    file = png(tmp_path_factory.getbasetemp() / "any.png", stored, bits, kind, *gamma, *chunks)
    volume = read_picture(file)
    if kind == 3:
        right = palette[stored[..., 0]]
    else:
        right = stored[..., : 3 if kind in (2, 6) else 1].astype(int) * (255 // (2**bits - 1) if bits < 8 else 1)
    np.testing.assert_array_equal(volume.array, np.moveaxis(right, -1, 0)[: len(volume.array)])
    assert len(volume.array) == right.shape[-1] or all((right[..., 0] == right[..., s]).all() for s in (1, 2))
    assert picture_header(file).shape == (right.shape[-1], *shape[:2])
    assert any("spread" in remark for remark in volume.source.remarks) == (bits < 8 and kind == 0)
    if kind in (0, 3, 4):
        np.testing.assert_array_equal(read_picture_labels(file)[0], stored[..., 0])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", [0, 2])
def test_a_colour_that_is_marked_transparent_is_read_as_it_is_and_said(tmp_path, kind, bits):
    stored = numbers(bits, (4, 5, SAMPLES[kind]))
    key = stored[0, 0].astype(">u2").tobytes()
    volume = read_picture(png(tmp_path / "a.png", stored, bits, kind, chunk(b"tRNS", key)))
    np.testing.assert_array_equal(volume.array, np.moveaxis(stored, -1, 0))
    assert any("marked transparent" in remark for remark in volume.source.remarks)


def test_palette_with_opacity(tmp_path):
    stored = numbers(2, (4, 5, 1))
    colours = RNG.integers(0, 255, (4, 3)).astype(np.uint8)
    file = png(tmp_path / "a.png", stored, 2, 3, chunk(b"PLTE", colours.tobytes()), chunk(b"tRNS", b"\xff\xff"))
    np.testing.assert_array_equal(read_picture(file).array, np.moveaxis(colours[stored[..., 0]], -1, 0))
    png(file, stored, 2, 3, chunk(b"PLTE", colours.tobytes()), chunk(b"tRNS", b"\xff\x00"))
    with pytest.raises(UnsupportedFormatError, match="transparent"):
        read_picture(file)
    np.testing.assert_array_equal(read_picture_labels(file)[0], stored[..., 0])


def test_orientation_behind_the_pixels(tmp_path):
    stored = numbers(8, (4, 5, 1))
    exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 274, 3, 1, 4, 0) + b"\0\0\0\0"
    file = png(tmp_path / "a.png", stored, 8, 0)
    file.write_bytes(file.read_bytes()[:-12] + chunk(b"eXIf", exif) + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_picture(file).array[0], stored[::-1, :, 0])


def test_the_header_of_a_png_is_read_without_its_pixels(tmp_path):
    file = png(tmp_path / "a.png", numbers(8, (4, 5, 1)), 8, 0)
    file.write_bytes(file.read_bytes().replace(b"IDAT", b"IDAT broken"))
    assert picture_header(file).shape == (1, 4, 5)
    with pytest.raises(CorruptFileError):
        read_picture(file)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [0, 2])
def test_deep_pictures_are_turned_too(tmp_path, kind, orientation):
    stored = numbers(16, (4, 5, SAMPLES[kind]))
    exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 274, 3, 1, orientation, 0) + b"\0\0\0\0"
    volume = read_picture(file := png(tmp_path / "a.png", stored, 16, kind, chunk(b"eXIf", exif)))
    turns = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.swapaxes(0, 1), 6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(stored, 1),
    }  # fmt: skip
    np.testing.assert_array_equal(volume.array, np.moveaxis(turns[orientation], -1, 0))
    assert picture_header(file).shape == volume.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_turned_as_pillow_turns_it_for_viewers(tmp_path, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(numbers(8, (16, 24, 3))).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        shown = np.array(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.jpg").array, np.moveaxis(shown, -1, 0))


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("lossless", [True, False])
def test_jpeg_of_12_bits_or_lossless_is_not_called_damaged(tmp_path, bits, lossless):
    """Pillow knows neither."""
    stored = numbers(bits, (16, 24))
    content = (imagecodecs.ljpeg_encode if lossless else imagecodecs.jpeg_encode)(stored, bitspersample=bits)
    (tmp_path / "a.jpg").write_bytes(content)
    volume = read_picture(tmp_path / "a.jpg")
    assert volume.array.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert picture_header(tmp_path / "a.jpg").shape == volume.shape
    if lossless:
        np.testing.assert_array_equal(volume.array[0], stored)
    else:
        assert abs(volume.array[0].astype(int) - stored).mean() < 0.15 * 2**bits
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptFileError, match=r"a\.jpg"):
        read_picture(tmp_path / "a.jpg")


def test_a_camera_that_writes_several_pictures(tmp_path):
    """MPO: viewers show the first; Pillow gives it another format's name, by which labels of lossy pictures slipped through."""
    pages = [Image.fromarray(numbers(8, (16, 24, 3))) for _ in range(2)]
    pages[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pages[1:])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
        right = np.array(image)
    volume = read_picture(tmp_path / "a.jpg")
    np.testing.assert_array_equal(volume.array, np.moveaxis(right, -1, 0))
    assert any("1 further pictures" in remark for remark in volume.source.remarks)
    with pytest.raises(UnsupportedFormatError, match="lossy"):
        read_picture_labels(tmp_path / "a.jpg")


def test_animated_png(tmp_path):
    frames = [Image.fromarray(numbers(8, (4, 5))) for _ in range(2)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedFormatError, match="2 pages"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("unit", [None, 1, 2, 3])
def test_resolution_that_pillow_invents(tmp_path, unit):
    """A JPEG with EXIF and no resolution is 72 dpi by Pillow."""
    exif = Image.Exif()
    exif[274] = 1
    if unit:
        exif[282], exif[283], exif[296] = 254.0, 127.0, unit
    Image.fromarray(numbers(8, (16, 24))).save(tmp_path / "a.jpg", exif=exif)
    spacing = read_picture(tmp_path / "a.jpg", ReadOptions(dpi=True)).spacing
    inch = {2: 1, 3: 2.54}.get(unit)
    assert spacing is None if inch is None else spacing == pytest.approx((0.2 / inch, 0.1 / inch))


def test_colours_of_16_bits_are_no_labels(tmp_path):
    with pytest.raises(LabelError, match="colours"):
        read_picture_labels(png(tmp_path / "a.png", numbers(16, (4, 5, 3)), 16, 2))
