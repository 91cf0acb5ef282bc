"""Where pixels lie: found by the header scan, to the byte."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom import uid as uids
from pydicom.encaps import encapsulate, generate_fragments

from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.pixels.fragments import UNDEFINED, PixelElement, fragments_of_frames, open_pixels
from voxelry.formats.dicom.planes import read_planes

PIXELS = np.arange(48, dtype=np.int16).reshape(6, 8)
FRAMES = [b"\xff\xd8\xff" + bytes([number]) * (21 + 8 * number) for number in range(4)]


@pytest.mark.parametrize("syntax", [uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian])
@pytest.mark.parametrize("filler", [0, 40_000])
def test_native_pixels_are_where_it_says(make_slice, save_slice, tmp_path, syntax, filler):
    """Also where the header is longer than what the scan reads at first."""
    path = save_slice(make_slice(PIXELS, EncapsulatedDocument=bytes(filler)), tmp_path / "a", syntax)
    place = read_planes(path)[0].pixels
    assert place is not None
    assert place.length == PIXELS.nbytes
    assert path.read_bytes()[place.offset :][: place.length] == PIXELS.tobytes()


def test_deflated_pixels_lie_nowhere_and_are_found_all_the_same(make_slice, save_slice, tmp_path):
    path = save_slice(make_slice(PIXELS), tmp_path / "a", uids.DeflatedExplicitVRLittleEndian)
    assert read_planes(path)[0].pixels is None
    with open_pixels(path, None) as (stream, place):
        stream.seek(place.offset)
        assert stream.read(place.length) == PIXELS.tobytes()


def test_no_pixels(make_slice, save_slice, tmp_path):
    path = save_slice(make_slice(PIXELS, PixelData=None), tmp_path / "a")
    with pytest.raises(CorruptFileError, match="holds no pixels"), open_pixels(path, None):
        pass


def test_a_damaged_representation_of_the_pixels(make_slice, save_slice, tmp_path):
    path = save_slice(make_slice(PIXELS), tmp_path / "a")
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00XX"))
    with pytest.raises(CorruptFileError, match="breaks off"), open_pixels(path, None):
        pass


def test_pixels_of_a_damaged_length_fit_into_no_memory(monkeypatch, make_slice, save_slice, tmp_path):
    path = save_slice(make_slice(PIXELS), tmp_path / "a")

    def too_large(*_, **__):
        raise MemoryError

    monkeypatch.setattr(pydicom, "dcmread", too_large)
    with pytest.raises(CorruptFileError, match="breaks off"), open_pixels(path, None):
        pass


@pytest.mark.parametrize("per_frame", [1, 2, 3])
@pytest.mark.parametrize("table", [True, False])
def test_fragments_as_pydicom_finds_them(tmp_path, per_frame, table):
    data = encapsulate(FRAMES, fragments_per_frame=per_frame, has_bot=table)
    stream = io.BytesIO(b"before" + data)
    found = fragments_of_frames(stream, PixelElement(6, UNDEFINED), 4, tmp_path)
    got = [b"".join(stream.getvalue()[at : at + size] for at, size in spans) for spans in found]
    assert [one[: len(frame)] for one, frame in zip(got, FRAMES, strict=True)] == FRAMES
    assert sum(map(len, found)) == len(list(generate_fragments(pydicom.encaps.encapsulate(FRAMES, per_frame)))) - 1


def test_a_wrong_table_is_not_believed(tmp_path):
    data = bytearray(encapsulate(FRAMES, fragments_per_frame=2, has_bot=True))
    data[12:16] = (999).to_bytes(4, "little")
    assert len(fragments_of_frames(io.BytesIO(data), PixelElement(0, UNDEFINED), 4, tmp_path)) == 4


def test_a_missing_end_of_the_last_fragment_is_forgiven(tmp_path):
    data = encapsulate(FRAMES[:1])
    assert len(fragments_of_frames(io.BytesIO(data), PixelElement(0, UNDEFINED), 1, tmp_path)[0]) == 1


@pytest.mark.parametrize("cut", [3, 9, 20, 40])
def test_cut_anywhere(tmp_path, cut):
    data = encapsulate(FRAMES)
    with pytest.raises(CorruptFileError, match=r"breaks off|do not make up"):
        fragments_of_frames(io.BytesIO(data[:-cut]), PixelElement(0, UNDEFINED), 4, tmp_path)


def test_no_fragment_at_all(tmp_path):
    with pytest.raises(CorruptFileError):
        fragments_of_frames(io.BytesIO(encapsulate(FRAMES)[:8]), PixelElement(0, UNDEFINED), 1, tmp_path)
