"""Objects in several parts: kept, split, and said where they are far apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import generate_binary_structure, label

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.formats.object_parts import with_parts

TABLE = LabelTable(labels=(Label(value=1, name="cell", kind="thing"),))


def objects(ids, size=None) -> LabelMap:
    ids = np.array(ids, np.uint32)
    geometry = Geometry(ids.shape, None, size) if ids.ndim == 2 else Geometry.from_spacing(ids.shape, (1, 1, 4))
    return LabelMap((ids > 0).astype(np.uint8)[None], geometry, TABLE, instances=ids[None])


@given(arrays(np.uint32, (6, 7), elements=st.sampled_from([0, 0, 1, 4, 2**32 - 1])))
def test_split_parts_are_connected_and_complete(ids):
    """Oracle: scipy's components of each id."""
    found, remarks = with_parts(objects(ids), "split", "ids.png")
    new, expected = found.instances[0], 0
    for id in np.unique(ids[ids > 0]):
        parts, count = label(ids == id, generate_binary_structure(2, 2))
        expected += count
        assert all(len(np.unique(new[parts == part])) == 1 for part in range(1, count + 1))
        sizes = np.bincount(parts.ravel())[1:]
        if id in new:
            assert (new == id).sum() == sizes.max()
    np.testing.assert_array_equal(new > 0, ids > 0)
    assert len(np.unique(new[new > 0])) == expected
    assert bool(remarks) == (expected > len(np.unique(ids[ids > 0])))


def test_parts_far_apart_are_kept_and_said():
    ids = np.zeros((4, 40), np.uint32)
    ids[:, :2], ids[0, 30], ids[1, 10:12], ids[1, 13] = 7, 7, 8, 8
    kept, remarks = with_parts(objects(ids), "keep", "ids.png")
    np.testing.assert_array_equal(kept.instances[0], ids)
    assert remarks == [
        "ids.png: 1 object lies in parts farther apart than the diameter (id 7: 28 pixels from its largest part); kept as one "
        "object each (`parts: split` makes each part an object)"
    ]
    assert "7 mm" in with_parts(objects(ids, (0.25, 0.25)), "keep", "ids.png")[1][0]
    split, remarks = with_parts(objects(ids), "split", "ids.png")
    assert remarks == ["ids.png: 2 objects in several parts became 4, one of each part"]
    assert split.instances[0, 0, 30] == 1
    assert split.instances[0, 1, 13] == 2


def test_distance_across_thick_slices_is_in_mm():
    ids = np.zeros((5, 5, 9), np.uint32)
    ids[1, 1, 0] = ids[1, 1, 8] = 3
    assert "28 mm" in with_parts(objects(ids), "keep", "ids.nii")[1][0]


@pytest.mark.parametrize("parts", ["keep", "split"])
def test_connected_objects_are_not_touched(parts):
    whole = objects([[1, 1, 0, 2]])
    assert with_parts(whole, parts, "ids.png") == (whole, [])
    empty = objects([[0, 0]])
    assert with_parts(empty, parts, "ids.png") == (empty, [])


def test_an_object_of_many_specks():
    ids = np.zeros((300, 300), np.uint32)
    ids[::2, ::2] = 5
    split, _ = with_parts(objects(ids), "split", "ids.png")
    assert len(np.unique(split.instances)) == 150 * 150 + 1
    assert len(with_parts(objects(ids), "keep", "ids.png")[1]) == 1
