"""Pictures: what comes out is what was written, or a typed error."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from voxelry.errors import CorruptFileError, LabelError, NonFiniteError, UnsupportedFormatError
from voxelry.formats.pictures import stored_picture
from voxelry.formats.pictures.picture_read import picture_header, read_picture, read_picture_labels
from voxelry.formats.read_options import ReadOptions
from voxelry.formats.reader import read

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
COLOUR = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) * 4


def save(tmp_path, array, ending="png", **options):
    file = tmp_path / f"p.{ending}"
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(file, **options)
    return file


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey(tmp_path, ending, dtype):
    pixels = GREY.astype(dtype) * (1 if dtype == np.uint8 else 270)
    file = save(tmp_path, pixels, ending)
    volume = read_picture(file)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array[0], pixels)
    assert volume.shape == picture_header(file).shape == (1, 4, 5)
    assert volume.spacing is None
    assert volume.geometry.affine is None


def test_float_tiff(tmp_path):
    pixels = GREY.astype(np.float32) / 7
    np.testing.assert_array_equal(read_picture(save(tmp_path, pixels, "tif")).array[0], pixels)


def test_int_tiff_becomes_int16(tmp_path):
    pixels = GREY.astype(np.int32) - 50
    array = read_picture(save(tmp_path, pixels, "tif")).array
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array[0], pixels)


def test_colour(tmp_path):
    file = save(tmp_path, COLOUR)
    volume = read_picture(file)
    assert volume.shape == picture_header(file).shape == (3, 4, 5)
    np.testing.assert_array_equal(volume.array, np.moveaxis(COLOUR, -1, 0))


def test_equal_channels_become_one(tmp_path):
    volume = read_picture(save(tmp_path, np.stack([GREY] * 3, -1)))
    np.testing.assert_array_equal(volume.array, GREY[None])
    assert any("equal channels" in remark for remark in volume.source.remarks)


def test_jpeg(tmp_path):
    file = save(tmp_path, np.full((16, 24), 77, np.uint8), "jpg", quality=95)
    np.testing.assert_array_equal(read_picture(file).array, np.full((1, 16, 24), 77))


def test_palette(tmp_path):
    indices = Image.fromarray(GREY // 60, mode=None).convert("L")
    indexed = Image.new("P", indices.size)
    indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255] + [0] * 756)
    indexed.putdata(list(indices.getdata()) if not hasattr(indices, "get_flattened_data") else list(indices.get_flattened_data()))
    file = save(tmp_path, indexed)
    np.testing.assert_array_equal(read_picture(file).array[0] == 255, GREY // 60 == 1)
    labels, _, source = read_picture_labels(file)
    np.testing.assert_array_equal(labels, GREY // 60)
    assert "palette indices are the labels" in source.remarks


def test_opaque_alpha_is_dropped_other_refused(tmp_path):
    alpha = np.full((4, 5, 1), 255, np.uint8)
    volume = read_picture(save(tmp_path, np.concatenate([COLOUR, alpha], -1)))
    np.testing.assert_array_equal(volume.array, np.moveaxis(COLOUR, -1, 0))
    assert "opaque alpha channel dropped" in volume.source.remarks
    alpha[1, 2] = 100
    with pytest.raises(UnsupportedFormatError, match="transparent"):
        read_picture(save(tmp_path, np.concatenate([COLOUR, alpha], -1)))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(tmp_path, GREY, "png", exif=exif)
    volume = read_picture(file)
    stored = np.array(Image.open(file))
    turns = {2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.T}
    turns |= {6: stored[::-1].T, 7: stored[::-1, ::-1].T, 8: stored[:, ::-1].T}
    np.testing.assert_array_equal(volume.array[0], turns[orientation])
    assert picture_header(file).shape == volume.shape
    assert f"orientation {orientation} applied" in volume.source.remarks
    np.testing.assert_array_equal(read_picture_labels(file)[0], turns[orientation])


def test_dpi_is_no_size(tmp_path):
    volume = read_picture(save(tmp_path, GREY, dpi=(300, 300)))
    assert volume.spacing is None
    assert any("DPI" in remark for remark in volume.source.remarks)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bit_colour_is_kept_whole(tmp_path, ending):
    """Pillow cuts both to 8 bits, the TIFF without a word."""
    colours = np.random.default_rng(0).integers(0, 65535, (4, 5, 3)).astype(np.uint16)
    file = write_deep(tmp_path / f"a.{ending}", colours)
    volume = read_picture(file.rename(tmp_path / "a.nii"))
    np.testing.assert_array_equal(volume.array, np.moveaxis(colours, -1, 0))
    assert volume.array.dtype == np.uint16
    assert picture_header(tmp_path / "a.nii").shape == volume.shape
    with pytest.raises(LabelError, match="colours"):
        read_picture_labels(tmp_path / "a.nii")
    grey = write_deep(tmp_path / f"b.{ending}", np.repeat(colours[..., :1], 3, -1))
    np.testing.assert_array_equal(read_picture(grey).array[0], colours[..., 0])
    alpha = np.concatenate([colours, np.full((4, 5, 1), 65535, np.uint16)], -1)
    opaque = read_picture(write_deep(tmp_path / f"c.{ending}", alpha))
    np.testing.assert_array_equal(opaque.array, volume.array)
    assert "opaque alpha channel dropped" in opaque.source.remarks
    alpha[0, 0, 3] = 7
    with pytest.raises(UnsupportedFormatError, match="transparent"):
        read_picture(write_deep(tmp_path / f"d.{ending}", alpha))
    whole = file.with_name("a.nii").read_bytes()
    (tmp_path / f"e.{ending}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError, match=rf"e\.{ending}"):
        read_picture(tmp_path / f"e.{ending}")


def write_deep(path, colours):
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(path))
    return path


@pytest.mark.parametrize(("ending", "mode"), [("png", "L"), ("jpg", "RGB"), ("tif", "I;16")])
def test_dpi_is_a_pixel_size_only_where_asked(tmp_path, ending, mode):
    file = tmp_path / f"a.{ending}"
    array = {"L": GREY, "RGB": COLOUR, "I;16": GREY.astype(np.uint16)}[mode]
    Image.fromarray(array).save(file, dpi=(254, 127))
    assert read_picture(file).spacing is None
    asked = read_picture(file, ReadOptions(dpi=True))
    np.testing.assert_allclose(asked.spacing, (0.2, 0.1), rtol=1e-3)
    assert asked.source.remarks[-1].startswith("pixel size by DPI: 25")
    assert read(file, dpi=True).spacing == asked.spacing
    Image.fromarray(array).save(tmp_path / "b.png")
    none = read_picture(tmp_path / "b.png", ReadOptions(dpi=True))
    assert none.spacing is None
    assert none.source.remarks[-1] == "no physical size: DPI was requested, the file has none"


def test_dpi_turns_with_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", dpi=(254, 127), exif=exif)
    np.testing.assert_allclose(read_picture(tmp_path / "a.jpg", ReadOptions(dpi=True)).spacing, (0.1, 0.2), rtol=1e-3)


@pytest.mark.parametrize("keep", [20, 60, 0.5, 0.98])
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_truncated(tmp_path, ending, keep):
    file = save(tmp_path, np.random.default_rng(0).integers(0, 255, (60, 70, 3)).astype(np.uint8), ending)
    raw = file.read_bytes()
    file.write_bytes(raw[: int(keep * len(raw)) if keep < 1 else keep])
    with pytest.raises(CorruptFileError, match=f"p.{ending}"):
        read_picture(file)


def test_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_picture, "MAX_PIXELS", 19)
    with pytest.raises(UnsupportedFormatError, match="4 x 5 pixels; at most 19"):
        read_picture(save(tmp_path, GREY))


def test_pages_and_cmyk(tmp_path):
    pages = [Image.fromarray(GREY)] * 2
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UnsupportedFormatError, match="2 pages"):
        read_picture(tmp_path / "m.tif")
    with pytest.raises(UnsupportedFormatError, match="CMYK"):
        read_picture(save(tmp_path, Image.fromarray(COLOUR).convert("CMYK"), "jpg"))


def test_non_finite(tmp_path):
    pixels = GREY.astype(np.float32)
    pixels[2, 3] = np.nan
    with pytest.raises(NonFiniteError, match=r"1 of 20.*\(0, 2, 3\)"):
        read_picture(save(tmp_path, pixels, "tif"))


class TestLabels:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_values_as_stored(self, tmp_path, dtype):
        values = GREY.astype(dtype) * (1 if dtype == np.uint8 else 200)
        labels, geometry, _ = read_picture_labels(save(tmp_path, values))
        assert labels.dtype == dtype
        np.testing.assert_array_equal(labels, values)
        assert geometry.shape == (4, 5)

    def test_one_bit(self, tmp_path):
        labels, _, _ = read_picture_labels(save(tmp_path, GREY > 100))
        np.testing.assert_array_equal(labels, GREY > 100)

    @pytest.mark.parametrize("bits", [2, 4])
    def test_few_bits_of_grey(self, tmp_path, bits):
        values = np.arange(20).reshape(4, 5) % 2**bits
        labels, _, _ = read_picture_labels(write_grey_png(tmp_path / "few.png", values, bits))
        np.testing.assert_array_equal(labels, values)

    def test_grey_stored_as_rgb(self, tmp_path):
        labels, _, _ = read_picture_labels(save(tmp_path, np.stack([GREY] * 3, -1)))
        np.testing.assert_array_equal(labels, GREY)

    def test_colours(self, tmp_path):
        with pytest.raises(LabelError, match="holds colours"):
            read_picture_labels(save(tmp_path, COLOUR))

    def test_jpeg(self, tmp_path):
        with pytest.raises(UnsupportedFormatError, match="lossy"):
            read_picture_labels(save(tmp_path, GREY, "jpg"))


def write_grey_png(file, values, bits):
    """A greyscale PNG of 2 or 4 bits, which Pillow does not write."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b""
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        lines += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
    return file


@pytest.mark.realdata
def test_real_pictures(realdata):
    files = sorted((realdata / "cxr_lung").rglob("*.jpg")) + sorted((realdata / "cxr_lung").rglob("*.png"))
    assert len(files) > 500
    for file in files[::9]:
        header = picture_header(file)
        volume = read_picture(file)
        assert volume.shape[1:] == header.shape[1:]
        assert volume.array.dtype == np.uint8
        if file.suffix == ".png" and "masks" in file.parent.name:
            assert read_picture_labels(file)[0].shape == volume.shape[1:]
