import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.preparation.instance_ids import object_ids, resample_ids
from voxelry.preparation.resampling import resample_classes

TABLE = LabelTable(labels=(Label(value=5, name="cell", kind="thing"), Label(value=9, name="fat")))


def in_order(ids):
    """Ids renumbered from 1 in the order of their first voxels: numbers themselves mean nothing."""
    order = [id for id in dict.fromkeys(ids.ravel().tolist()) if id]
    return np.vectorize(dict(zip([0, *order], range(len(order) + 1), strict=True)).get)(ids).tolist()


def test_ids_of_the_named_labels_alone():
    layers = np.array([[[5, 5, 0, 9], [5, 0, 9, 9]]], np.uint8)
    ids = np.array([[[70, 8, 0, 3], [70, 0, 3, 3]]], np.uint32)
    labels = LabelMap(layers, Geometry((2, 4)), TABLE, instances=ids)
    assert in_order(object_ids(labels, ["cell"])) == [[1, 2, 0, 0], [1, 0, 0, 0]]
    assert in_order(object_ids(labels, ["cell", "fat"])) == [[1, 2, 0, 3], [1, 0, 3, 3]]


def test_without_ids_components_are_the_objects():
    labels = LabelMap.of(np.array([[5, 0, 5], [0, 5, 0], [0, 0, 0], [9, 9, 5]], np.uint8), Geometry((4, 3)), TABLE)
    assert object_ids(labels, ["cell"]).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 2]]


@given(
    ids=arrays.arrays(np.int32, st.tuples(*[st.integers(1, 7)] * 2), elements=st.integers(0, 4)),
    shape=st.tuples(*[st.integers(1, 9)] * 2),
)
def test_every_new_voxel_of_a_thing_has_an_object_of_its_class(ids, shape):
    classes = np.array([0, 1, 1, 2, 2], np.int16)[ids]
    new_classes = resample_classes(classes, shape)
    new = resample_ids(ids, classes, new_classes)
    assert new.shape == shape
    assert np.array_equal(np.array([0, 1, 1, 2, 2])[new][new > 0], new_classes[new > 0])
    assert set(np.unique(new)) <= {0, *np.unique(ids)}
    if shape == ids.shape:
        assert np.array_equal(new, ids)
    for value in (1, 2):  # a connected class that reaches an object is filled with objects
        region = new_classes == value
        if region.any() and (new[region] > 0).all():
            assert not ((new == 0) & region).any()


def test_enlarged_objects_keep_their_shares():
    ids = np.repeat([[1, 1, 2, 2], [0, 0, 3, 3]], 2, axis=0).astype(np.int32)
    classes = (ids > 0).astype(np.int16)
    new = resample_ids(ids, classes, resample_classes(classes, (8, 8)))
    assert np.bincount(new.ravel()).tolist()[1:] == [16, 16, 16]


def test_what_is_too_small_for_the_grid_is_counted(caplog):
    ids = np.zeros((16, 16), np.int32)
    ids[2:10, 2:10], ids[13, 13] = 1, 2
    classes = (ids > 0).astype(np.int16)
    with caplog.at_level(logging.WARNING):
        new = resample_ids(ids, classes, resample_classes(classes, (4, 4)), "scan.png")
    assert set(np.unique(new)) == {0, 1}
    assert caplog.messages == ["scan.png: 1 object is too small for the network's grid and not learnt"]


@pytest.mark.parametrize("full", [False, True])
def test_a_map_of_one_object_or_none_warns_of_nothing(caplog, full):
    ids = np.full((6, 6), int(full), np.int32)
    resample_ids(ids, ids.astype(np.int16), np.full((3, 3), int(full), np.int16))
    assert not caplog.messages
