"""TIFF: the numbers that were stored, of any depth, sign, photometric interpretation, orientation, byte order and layout."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.raw_tiff import FLOAT, LONG, SHORT, SIGNED, raw_tiff
from voxelry.errors import CorruptFileError, LabelError, NonFiniteError, UnsupportedFormatError
from voxelry.formats.pictures.picture_read import picture_header, read_picture, read_picture_labels

RNG = np.random.default_rng(0)
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, 1),
}
"""TIFF 6.0, page 36: where row 0 and column 0 are."""
DEPTHS = [bits for bits in range(1, 33) if bits != 24]


def numbers(bits, shape=(5, 7), rng=RNG):
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return rng.integers(0, 2**bits, shape).astype(kind)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_the_layout_the_numbers_are_those_stored(tmp_path_factory, data):
    """The oracle is the array that was written, byte by byte."""
    draw = data.draw
    bits, order = draw(st.sampled_from(DEPTHS)), draw(st.sampled_from("<>"))
    photometric, samples = draw(st.sampled_from([(0, 1), (1, 1), (2, 3)]))
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 20))
    stored = numbers(bits, (rows, columns, samples), np.random.default_rng(draw(st.integers(0, 99))))
    orientation = draw(st.sampled_from(sorted(UPRIGHT)))
    file = raw_tiff(
        tmp_path_factory.getbasetemp() / "any.tif",
        stored,
        bits,
        order=order,
        photometric=photometric,
        fill_order=draw(st.sampled_from([1, 2])),
        planar=draw(st.sampled_from([1, 2])),
        rows_per_strip=draw(st.integers(1, rows)),
        more={274: (SHORT, (orientation,))},
    )
    shown = np.stack([UPRIGHT[orientation](stored[..., s]) for s in range(samples)])
    volume = read_picture(file)
    right = 2**bits - 1 - shown.astype(np.float64) if photometric == 0 else shown.astype(np.float64)
    grey = len(volume.array) == 1 and samples == 3  # every pixel has equal colours
    np.testing.assert_allclose(volume.array, right[:1] if grey else right, rtol=1e-7 if bits > 24 else 0)
    assert picture_header(file).shape[1:] == volume.shape[1:]
    assert any("inverted" in remark for remark in volume.source.remarks) == (photometric == 0)
    if samples == 1 and stored.max() < 2**16:
        np.testing.assert_array_equal(read_picture_labels(file)[0], shown[0])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_as_tifffile_wrote_it(tmp_path_factory, data):
    draw = data.draw
    kind = np.dtype(draw(st.sampled_from("u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8".split())))
    compression = draw(st.sampled_from([None, "lzw", "zlib", "zstd", "packbits", "lzma"]))
    samples = draw(st.sampled_from([1, 3, 4]))
    options = draw(st.sampled_from([{}, {"tile": (16, 16)}, {"rowsperstrip": 3}]))
    if compression and draw(st.booleans()):
        options = options | {"predictor": 3 if kind.kind == "f" else 2}
    rng, shape = np.random.default_rng(draw(st.integers(0, 99))), (draw(st.integers(1, 40)), draw(st.integers(1, 40)), samples)
    highest = 1 if kind.kind == "f" else np.iinfo(kind).max
    stored = (
        rng.normal(0, 50, shape) if kind.kind == "f" else rng.integers(-99 * (kind.kind == "i"), min(highest, 9000), shape)
    ).astype(kind)
    stored[..., 3:] = highest
    file = tmp_path_factory.getbasetemp() / "written.tif"
    planes = samples > 1 and draw(st.booleans())
    tifffile.imwrite(
        file,
        np.moveaxis(stored, -1, 0) if planes else stored[..., 0] if samples == 1 else stored,
        photometric="rgb" if samples > 1 else "minisblack",
        planarconfig="separate" if planes else None,
        byteorder=draw(st.sampled_from("<>")),
        bigtiff=draw(st.booleans()),
        compression=compression,
        metadata=None,
        **options,
    )
    array = read_picture(file).array
    right = np.moveaxis(stored[..., :3], -1, 0).astype(np.float64)
    np.testing.assert_allclose(array, right[: len(array)], rtol=1e-7)
    assert array.dtype in (np.uint8, np.uint16, np.int16, np.float32)


@pytest.mark.parametrize(
    ("mode", "compression"),
    [("1", name) for name in ("group3", "group4", "tiff_ccitt")]
    + [
        (m, name) for m in ("1", "L", "RGB", "LA", "F") for name in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "lzma")
    ],
)
def test_as_libtiff_wrote_it(tmp_path, mode, compression):
    image = Image.fromarray(RNG.integers(0, 255, (20, 33, 3)).astype(np.uint8)).convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as again:
        right = np.atleast_3d(np.array(again))[..., : len(mode) if mode == "RGB" else 1]
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").array, np.moveaxis(right, -1, 0))


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr"])
def test_jpeg_in_tiff_is_an_image_and_no_labels(tmp_path, mode):
    ramp = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
    Image.fromarray(np.stack([ramp, ramp + 60, ramp * 2], -1)).convert(mode).save(tmp_path / "a.tif", compression="jpeg")
    with Image.open(tmp_path / "a.tif") as again:
        right = np.atleast_3d(np.array(again))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").array, np.moveaxis(right, -1, 0))
    with pytest.raises(UnsupportedFormatError, match="lossy"):
        read_picture_labels(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float32"])
def test_as_itk_wrote_it(tmp_path, kind):
    stored = RNG.integers(0, 200, (6, 9)).astype(kind)
    sitk.WriteImage(sitk.GetImageFromArray(stored), str(tmp_path / "a.tif"))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").array[0], stored)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i1", "i2", "i4", "i8"])
def test_signs_and_fractions(tmp_path, kind, order):
    """Half floats, floats of 64 bits and signed bytes are kept; Pillow calls the first two damaged, and drops the sign."""
    stored = np.array([[-3, 0, 1], [2, 100, -7]]).astype(kind)
    code = FLOAT if kind[0] == "f" else SIGNED
    file = raw_tiff(tmp_path / "a.tif", stored, 8 * int(kind[1]), order=order, sample_format=code)
    np.testing.assert_array_equal(read_picture(file).array[0], stored)
    with pytest.raises(LabelError, match="negative"):
        read_picture_labels(file)
    np.testing.assert_array_equal(
        read_picture_labels(raw_tiff(file, abs(stored), 8 * int(kind[1]), order=order, sample_format=code))[0], abs(stored)
    )


def test_numbers_beyond_float32_are_said_to_be_rounded(tmp_path):
    large = read_picture(raw_tiff(tmp_path / "a.tif", np.array([[2**24 + 1, 7]], np.uint32), 32))
    assert any("rounded" in remark for remark in large.source.remarks)
    small = read_picture(raw_tiff(tmp_path / "a.tif", np.array([[2**24, 7]], np.uint32), 32))
    assert not any("rounded" in remark for remark in small.source.remarks)
    with pytest.raises(NonFiniteError):
        read_picture(raw_tiff(tmp_path / "a.tif", np.array([[1e300]]), 64, sample_format=FLOAT))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_white_as_zero(tmp_path, bits):
    """An image is inverted, as it is shown; labels are the stored numbers."""
    file = raw_tiff(tmp_path / "a.tif", stored := numbers(bits), bits, photometric=0)
    np.testing.assert_array_equal(read_picture(file).array[0], 2**bits - 1 - stored.astype(int))
    labels, _, source = read_picture_labels(file)
    np.testing.assert_array_equal(labels, stored)
    assert any("stored as 0" in remark for remark in source.remarks)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("written", ["16 bits", "8 bits spread", "8 bits"])
def test_palette(tmp_path, bits, written):
    """A map of colours has 16 bits a colour; some writers store 8."""
    stored = numbers(bits)
    colours = RNG.integers(0, 2**16, (3, 2**bits)).astype(np.uint16)
    colours[:, -1] = (0x1234, 0x5678, 0x9ABC)
    if written != "16 bits":
        colours = (colours >> 8) * (257 if "spread" in written else 1)
    right = {"16 bits": colours, "8 bits spread": colours >> 8, "8 bits": colours}[written]
    file = raw_tiff(tmp_path / "a.tif", stored, bits, photometric=3, more={320: (SHORT, tuple(colours.ravel().tolist()))})
    volume = read_picture(file)
    np.testing.assert_array_equal(volume.array, right[:, stored])
    assert volume.array.dtype == (np.uint16 if written == "16 bits" else np.uint8)
    labels, _, source = read_picture_labels(file)
    np.testing.assert_array_equal(labels, stored)
    assert "palette indices are the labels" in source.remarks


def test_further_samples(tmp_path):
    """Opacity that is full, and samples without a stated meaning, are left out and said to be; what is transparent is refused."""
    four = RNG.integers(0, 200, (5, 6, 4)).astype(np.uint8)
    for code, opaque, words in ((1, True, "opaque"), (2, True, "opaque"), (0, False, "further samples")):
        four[..., 3] = 255 if opaque else 9
        volume = read_picture(raw_tiff(tmp_path / "a.tif", four, 8, photometric=2, more={338: (SHORT, (code,))}))
        np.testing.assert_array_equal(volume.array, np.moveaxis(four[..., :3], -1, 0))
        assert any(words in remark for remark in volume.source.remarks)
    four[2, 2, 3] = 254
    with pytest.raises(UnsupportedFormatError, match="transparent"):
        read_picture(raw_tiff(tmp_path / "a.tif", four, 8, photometric=2, more={338: (SHORT, (2,))}))
    with pytest.raises(UnsupportedFormatError, match="4 samples"):
        read_picture(raw_tiff(tmp_path / "a.tif", four, 8, photometric=1))


def test_photometric_that_is_missing_is_said_to_be(tmp_path):
    volume = read_picture(raw_tiff(tmp_path / "a.tif", stored := numbers(8), 8, photometric=None))
    np.testing.assert_array_equal(volume.array[0], stored)
    assert any("not stated" in remark for remark in volume.source.remarks)


def test_orientation_that_does_not_exist(tmp_path):
    volume = read_picture(raw_tiff(tmp_path / "a.tif", stored := numbers(8), 8, more={274: (SHORT, (9,))}))
    np.testing.assert_array_equal(volume.array[0], stored)
    assert "orientation 9 is unknown: not turned" in volume.source.remarks


def test_several_pages(tmp_path):
    """Pages, ImageJ's stacks behind one page, volumes by tifffile; a thumbnail is no page."""
    stack, file = np.stack([numbers(8)] * 3), tmp_path / "a.tif"
    for options in ({}, {"imagej": True}, {"metadata": None}, {"ome": True}):
        tifffile.imwrite(file, stack, photometric="minisblack", **options)
        with pytest.raises(UnsupportedFormatError, match="3 pages"):
            read_picture(file)
    tifffile.imwrite(file, stack, photometric="minisblack", truncate=True)
    with pytest.raises(UnsupportedFormatError, match="3 pages"):
        picture_header(file)
    described = b"ImageJ=1.53t\nimages=3\nslices=3\n\0"
    with tifffile.TiffWriter(file) as writer:
        writer.write(stack[0], photometric="minisblack", description=described, metadata=None)
    with pytest.raises(UnsupportedFormatError, match="3 pages"):
        read_picture(file)
    for order in (1, -1):
        pages = [(stack[0], 0), (stack[0][::2, ::2], 1)][::order]
        with tifffile.TiffWriter(file) as writer:
            for page, kind in pages:
                writer.write(page, photometric="minisblack", subfiletype=kind, metadata=None)
        volume = read_picture(file)
        np.testing.assert_array_equal(volume.array[0], stack[0])
        assert any("reduced" in remark for remark in volume.source.remarks)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"photometric": 5}, "SEPARATED"),
        ({"photometric": 8}, "CIELAB"),
        ({"photometric": 32803}, "CFA"),
        ({"photometric": 6}, "YCBCR"),
        ({"sample_format": 5}, "COMPLEXINT"),
        ({"more": {259: (SHORT, (32771,))}}, "compression 32771"),
        ({"more": {258: (SHORT, (8, 4, 4))}}, r"\(8, 4, 4\) bits"),
    ],
)
def test_what_is_not_read_is_not_called_damaged(tmp_path, kind, words):
    file = raw_tiff(tmp_path / "a.tif", numbers(8, (4, 5, 3)), 8, **{"photometric": 2, **kind})
    for reading in (read_picture, read_picture_labels, picture_header):
        with pytest.raises(UnsupportedFormatError, match=words):
            reading(file)


@pytest.mark.parametrize("bits", [24])
def test_a_depth_that_readers_disagree_on(tmp_path, bits):
    with pytest.raises(UnsupportedFormatError, match="24 bits"):
        read_picture(raw_tiff(tmp_path / "a.tif", numbers(bits), bits))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"rowsperstrip": 4}])
def test_a_strip_that_is_missing_is_no_zeros(tmp_path, compression, options, capfd):
    """Libraries fill what is missing with 0, and print."""
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, numbers(8, (40, 50)), compression=compression, metadata=None, **options)
    whole = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as tiff:
        tag = tiff.pages[0].tags[325 if "tile" in options else 279]
    where = tag.valueoffset + (struct.calcsize("H" if tag.dtype == SHORT else "I") * (tag.count - 1))
    whole[where : where + 2] = b"\0\0"
    file.write_bytes(whole)
    with pytest.raises(CorruptFileError, match="have data"):
        read_picture(file)
    file.write_bytes(whole[: len(whole) - 30])
    with pytest.raises(CorruptFileError, match=r"a\.tif"):
        read_picture(file)
    assert capfd.readouterr() == ("", "")


def test_tiles_that_claim_more_than_a_picture_may_hold(tmp_path):
    more = {322: (LONG, (2**20,)), 323: (LONG, (2**20,)), 324: (LONG, (8,)), 325: (LONG, (35,))}
    with pytest.raises(UnsupportedFormatError, match="too large"):
        read_picture(raw_tiff(tmp_path / "a.tif", numbers(8), 8, more=more))


@pytest.mark.parametrize(("unit", "inch"), [(2, 254), (3, 254 * 2.54), (1, None)])
def test_resolution(tmp_path, unit, inch):
    """Dots per inch, dots per centimetre, or a mere ratio."""
    from voxelry.formats.read_options import ReadOptions

    file = tmp_path / "a.tif"
    tifffile.imwrite(file, numbers(8), resolution=(254, 127), resolutionunit=unit, metadata=None)
    spacing = read_picture(file, ReadOptions(dpi=True)).spacing
    assert spacing is None if inch is None else spacing == pytest.approx((50.8 / inch, 25.4 / inch))
