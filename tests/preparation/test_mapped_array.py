import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.preparation import mapped_array
from voxelry.preparation.mapped_array import MappedArray, checksum, store_array

PLACES = st.one_of(st.integers(-3, 2), st.builds(slice, st.integers(0, 3), st.integers(0, 4)), st.just(Ellipsis))


@given(place=PLACES, rows=st.tuples(st.integers(0, 3), st.integers(0, 3)).map(sorted))
def test_a_part_is_what_numpy_takes(tmp_path_factory, place, rows):
    array = np.arange(4 * 3 * 5, dtype=np.int32).reshape(4, 3, 5)
    file = tmp_path_factory.mktemp("a") / "a.npy"
    np.save(file, array)
    found = MappedArray.of(file)
    assert (found.shape, found.ndim, found.dtype, len(found)) == ((4, 3, 5), 3, np.int32, 4)
    np.testing.assert_array_equal(found[place], array[place])
    first, last = rows
    part = found.rows(first, last)
    np.testing.assert_array_equal(part[...], array[first:last])
    np.testing.assert_array_equal(np.asarray(part), array[first:last])


def test_a_part_is_a_copy_and_holds_no_file_open(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        arrays = [MappedArray.of(tmp_path / "a.npy") for _ in range(400)]
        parts = [array[1:3] for array in arrays]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    parts[0][:] = 7
    assert not arrays[0][...].any()


@pytest.mark.parametrize("kind", [np.float16, np.int8, np.int32])
def test_arrays_are_stored_in_pieces_as_numpy_stores_them(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(mapped_array, "_CHUNK", 7)
    array = np.random.default_rng(0).uniform(-90, 90, (3, 4, 5)).astype(np.float32)
    store_array(tmp_path / "a.npy", array, kind)
    np.save(tmp_path / "b.npy", array.astype(kind))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_what_a_half_cannot_hold_becomes_the_largest_it_can(tmp_path):
    store_array(tmp_path / "a.npy", np.array([1e6, -1e9, 3.0], np.float32), np.float16)
    assert MappedArray.of(tmp_path / "a.npy")[...].tolist() == [65504, -65504, 3]


def test_a_checksum_is_that_of_the_bytes(tmp_path, monkeypatch):
    import zlib

    monkeypatch.setattr(mapped_array, "_CHUNK", 5)
    for content in (b"", b"some bytes, some more"):
        (tmp_path / "f").write_bytes(content)
        assert checksum(tmp_path / "f") == zlib.crc32(content)


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_anything_else_is_refused(tmp_path, content):
    if content is None:
        np.save(tmp_path / "a.npy", np.asfortranarray(np.zeros((3, 4))))
    else:
        (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises((ValueError, EOFError)):
        MappedArray.of(tmp_path / "a.npy")
