"""Masks as PNG: Pillow, an encoder's oracle by decoding, reads what was drawn."""

import io
import struct
import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from voxelry.serving.segment_answer import mask_png


@given(
    inside=arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))),
    margins=st.tuples(*[st.integers(0, 9)] * 4),
)
def test_pillow_reads_the_mask(inside, margins):
    top, bottom, left, right = margins
    shape = (top + inside.shape[0] + bottom, left + inside.shape[1] + right)
    box = (slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1]))
    picture = Image.open(io.BytesIO(mask_png(shape, box, inside)))
    picture.load()
    expected = np.zeros(shape, np.uint8)
    expected[box] = np.where(inside, 255, 0)
    assert (picture.mode, picture.format) == ("L", "PNG")
    assert np.array_equal(np.asarray(picture), expected)


def test_every_chunk_has_its_checksum():
    content = mask_png((30, 50), (slice(3, 9), slice(4, 40)), np.ones((6, 36), np.bool_))
    kinds, start = [], 8
    while start < len(content):
        (size,) = struct.unpack(">I", content[start : start + 4])
        body = content[start + 4 : start + 8 + size]
        assert zlib.crc32(body) == struct.unpack(">I", content[start + 8 + size : start + 12 + size])[0]
        kinds.append(body[:4])
        start += 12 + size
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def test_a_slice_of_a_volume_that_is_turned_is_written_too():
    inside = np.asfortranarray(np.arange(12).reshape(3, 4) % 3 == 0).T
    picture = Image.open(io.BytesIO(mask_png((4, 3), (slice(0, 4), slice(0, 3)), inside)))
    assert np.array_equal(np.asarray(picture) > 0, inside)
