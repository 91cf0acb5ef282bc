"""JPEG 2000 by OpenJPEG's own functions: the same as the package and GDCM decode, and errors for what is damaged."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import openjpeg
import pytest

from voxelry.formats.dicom.pixels import jpeg2000
from voxelry.formats.dicom.pixels.codestream import look_at
from voxelry.formats.dicom.pixels.jpeg2000 import decode_jpeg_2000


def coded(bits, signed):
    rng = np.random.default_rng(bits)
    low = -(2 ** (bits - 1)) if signed else 0
    stored = rng.integers(low, low + 2**bits, (40, 64)).astype(np.int16 if signed else np.uint16)
    return stored, bytes(openjpeg.utils.encode_array(stored, bits_stored=bits, photometric_interpretation=2))


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (12, True), (16, False), (16, True)])
@pytest.mark.parametrize("boxes", [b"", bytes(85)])
def test_round_trip(bits, signed, boxes):
    stored, data = coded(bits, signed)
    found = decode_jpeg_2000(boxes + data, look_at(boxes + data))
    np.testing.assert_array_equal(found, stored)
    np.testing.assert_array_equal(found, openjpeg.decode(data))


def test_damaged():
    _, data = coded(12, False)
    said = look_at(data)
    for cut in (60, 100):
        with pytest.raises(RuntimeError):
            decode_jpeg_2000(data[:cut], said)


def test_bytes_are_freed_at_once(monkeypatch):
    made = []
    monkeypatch.setattr(jpeg2000, "_Source", lambda data, real=jpeg2000._Source: made.append(real(data)) or made[-1])
    _, data = coded(12, False)
    gc.disable()
    try:
        decode_jpeg_2000(data, look_at(data))
        alive = weakref.ref(made.pop())
        assert alive() is None
    finally:
        gc.enable()
