"""Objects of a mask as ids: by brute force voxel for voxel, and where mask and id map disagree."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import generate_binary_structure, label

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source
from voxelry.errors import LabelError
from voxelry.formats.object_ids import dense_ids, from_mask_ids, unused_ids, with_components, with_id_map, with_labels

TABLE = LabelTable(
    labels=(
        Label(value=1, name="cell", kind="thing"),
        Label(value=2, name="vessel"),
        Label(value=3, name="lesion", kind="thing"),
    ),
    ignore=9,
)
NUCLEI = LabelTable(labels=(Label(value=1, name="nucleus", kind="thing"),))


def labels(array, table=TABLE, size=None) -> LabelMap:
    array = np.array(array)
    geometry = Geometry(array.shape, None, size) if array.ndim == 2 else Geometry.from_spacing(array.shape, (1, 1, 1))
    return LabelMap.of(array.astype(np.uint8), geometry, table, Source(files=("mask.png",)))


def is_sound(found: LabelMap) -> bool:
    """An id belongs to one label, and only things have ids."""
    values = {id: np.unique(found.layers[found.instances == id]).tolist() for id in np.unique(found.instances) if id}
    return all(len(each) == 1 and found.table[each[0]].kind == "thing" for each in values.values())


masks = arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, 3, 9]))
id_maps = arrays(np.uint32, (6, 7), elements=st.sampled_from([0, 1, 5, 70_000, 2**32 - 1]))


@given(masks)
def test_components_are_those_of_scipy(mask):
    found = with_components(labels(mask))
    assert is_sound(found)
    ids = found.instances[0]
    for value in (1, 3):
        expected, count = label(mask == value, generate_binary_structure(2, 2))
        assert len(np.unique(ids[mask == value])) == count
        assert all(len(np.unique(ids[expected == part])) == 1 for part in range(1, count + 1))
    assert (ids[np.isin(mask, [0, 2, 9])] == 0).all()


@given(masks)
def test_each_thing_is_one_object(mask):
    found = with_labels(labels(mask))
    np.testing.assert_array_equal(found.instances[0], np.select([mask == 1, mask == 3], [1, 3], 0))


@given(masks, id_maps)
def test_an_id_map_partitions_each_thing(mask, ids):
    """Voxels of one thing are one object exactly where their ids are equal; all voxels keep their class."""
    only_bare = {int(id) for id in np.unique(ids) if id and not (mask[ids == id] > 0).any()}
    if only_bare:
        with pytest.raises(LabelError, match="without a class"):
            with_id_map(labels(mask), ids, "ids.png")
        return
    found, remarks = with_id_map(labels(mask), ids, "ids.png")
    assert is_sound(found)
    new = found.instances[0]
    np.testing.assert_array_equal(found.array, mask)
    np.testing.assert_array_equal(new > 0, np.isin(mask, [1, 3]) & (ids > 0))
    pairs = {(int(m), int(i)) for m, i in zip(mask[new > 0], ids[new > 0], strict=True)}
    assert len(np.unique(new[new > 0])) == len(pairs)
    crossing = {i for m, i in pairs if (4 - m, i) in pairs}
    assert bool(crossing) == any("cross" in remark for remark in remarks)
    for id in {i for _, i in pairs} - crossing:
        np.testing.assert_array_equal(new == id, (ids == id) & np.isin(mask, [1, 3]))
    assert any("without an id" in remark for remark in remarks) == bool((np.isin(mask, [1, 3]) & (ids == 0)).any())
    assert any("background in the mask" in remark for remark in remarks) == bool(((mask == 0) & (ids > 0)).any())


def test_ids_that_cross_labels_are_said_and_split():
    found, remarks = with_id_map(labels([[1, 1, 1, 3, 0]]), np.array([[7, 7, 7, 7, 0]], np.uint32), "ids.png")
    np.testing.assert_array_equal(found.instances[0], [[7, 7, 7, 1, 0]])
    assert remarks == [
        "ids.png: 1 id crosses labels (7 in cell and lesion): an object has one label, so the part in each label is an object of "
        "its own"
    ]


def test_ids_without_a_class_and_things_without_an_id_are_said():
    mask, ids = labels([[1, 1, 0, 2, 9, 3]]), np.array([[4, 4, 4, 4, 4, 0]], np.uint32)
    found, remarks = with_id_map(mask, ids, "ids.png")
    np.testing.assert_array_equal(found.instances[0], [[4, 4, 0, 0, 0, 0]])
    assert remarks == [
        "ids.png: id 4: 1 voxels are background in the mask and belong to no object; give them a label in the mask, or 0 in the "
        "id map",
        "ids.png: voxels of things without an id (lesion: 1) keep their class and belong to no object; give them ids in the id "
        "map",
    ]
    with pytest.raises(LabelError, match=r"ids.png: ids 5, 6: on background of the mask alone.*mask.png.*Give these voxels"):
        with_id_map(labels([[1, 0, 0]]), np.array([[1, 5, 6]], np.uint32), "ids.png")


def test_overlapping_layers_share_an_id_map():
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"), Label(value=1, name="spot", kind="thing", layer=1)))
    layers = np.array([[[1, 1, 0]], [[0, 1, 1]]], np.uint8)
    found, remarks = with_id_map(LabelMap(layers, Geometry((1, 3), None), table), np.array([[3, 3, 4]], np.uint32), "ids.png")
    np.testing.assert_array_equal(found.instances, [[[3, 3, 0]], [[0, 1, 4]]])
    assert "3 in cell and spot" in remarks[0]


def test_values_of_a_mask_as_ids():
    ids = np.array([[0, 70_000, 9, 2**32 - 1]], np.uint32)
    found = from_mask_ids(ids, Geometry((1, 4), None), NUCLEI.model_copy(update={"ignore": 9}), Source())
    np.testing.assert_array_equal(found.array, [[0, 1, 9, 1]])
    np.testing.assert_array_equal(found.instances[0], [[0, 70_000, 0, 2**32 - 1]])
    with pytest.raises(LabelError, match=r"one label of kind thing; the table has cell \(thing\), vessel \(stuff\), lesion"):
        from_mask_ids(ids, Geometry((1, 4), None), TABLE, Source())
    stuff = LabelTable(labels=(Label(value=1, name="liver"),))
    with pytest.raises(LabelError, match=r"liver \(stuff\)"):
        from_mask_ids(ids, Geometry((1, 4), None), stuff, Source())


@given(id_maps)
def test_dense_ids_are_those_of_numpy(ids):
    known, places = dense_ids(ids)
    np.testing.assert_array_equal(known, np.unique(np.append(ids.ravel(), 0)))
    np.testing.assert_array_equal(known[places], ids)


def test_unused_ids_are_the_smallest():
    assert unused_ids(np.array([0, 1, 3, 2**32 - 1]), 3).tolist() == [2, 4, 5]


@pytest.mark.parametrize("array", [np.zeros((3, 4)), np.zeros((2, 3, 4))])
def test_an_empty_reference_has_no_objects(array):
    for found in (
        with_components(labels(array)),
        with_labels(labels(array)),
        with_id_map(labels(array), array.astype(np.uint32), "")[0],
    ):
        assert not found.instances.any()


def test_seventy_thousand_objects_in_seconds():
    places = np.arange(256) // 6
    ids = (1 + places[:, None, None] + 43 * places[None, :, None] + 43 * 43 * places[None, None, :]).astype(np.uint32)
    started = time.process_time()
    found, remarks = with_id_map(labels(np.ones(ids.shape), NUCLEI), ids, "ids.nii")
    assert time.process_time() - started < 10
    assert remarks == []
    np.testing.assert_array_equal(found.instances[0], ids)
    assert ids.max() > 70_000


def test_ids_of_two_layers_are_different():
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"), Label(value=1, name="spot", kind="thing", layer=1)))
    layers = np.array([[[1, 0, 1, 0]], [[1, 1, 0, 1]]], np.uint8)
    found = with_components(LabelMap(layers, Geometry((1, 4), None), table))
    np.testing.assert_array_equal(found.instances, [[[1, 0, 2, 0]], [[3, 3, 0, 4]]])
    np.testing.assert_array_equal(with_labels(found).instances, [[[1, 0, 1, 0]], [[2, 2, 0, 2]]])
