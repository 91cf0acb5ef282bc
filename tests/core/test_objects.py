"""Objects of a map: against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.objects import objects_of
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError

TABLE = LabelTable(
    labels=(
        Label(value=3, name="cell", kind="thing"),
        Label(value=300, name="wall"),
        Label(value=3, name="drop", kind="thing", layer=1),
        Label(value=9, name="none", kind="thing"),
    ),
    ignore=7,
)


def random_map(seed, ndim, ids=True):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 7, ndim).tolist())
    layers = np.stack([rng.choice([0, 3, 7, 300], shape), rng.choice([0, 3], shape)]).astype(np.uint16)
    numbers = rng.choice(rng.integers(1, 2**32, 5, dtype=np.uint32), (2, *shape)) // 2 * 2  # even, and odd on the second layer
    numbers[1] += 1
    numbers[(layers == 0) | (rng.random(layers.shape) < 0.2)] = 0
    grid = Geometry(shape) if ndim == 2 else Geometry.from_spacing(shape, (1, 1, 1))
    return LabelMap(layers, grid, TABLE, instances=numbers.astype(np.uint32) if ids else None)


@given(st.integers(0, 2**32 - 1), st.integers(2, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_voxel_is_in_the_object_of_brute_force(seed, ndim, ids):
    labels = random_map(seed, ndim, ids)
    expected = []
    for label in TABLE.labels:
        mask = labels.mask(label.name) if label.value != 300 else labels.layers[0] == 300
        numbers = labels.instances[label.layer][mask] if ids and label.kind == "thing" else np.zeros(mask.sum(), np.uint32)
        expected += [(label.name, int(id), mask.copy()) for id in np.unique(numbers)] or [(label.name, 0, mask)]
        if ids and label.kind == "thing":
            for name, id, own in expected:
                if name == label.name:
                    own &= labels.instances[label.layer] == id
    objects = objects_of(labels, "x")
    assert [(item.label.name, item.instance) for item in objects] == [(name, id) for name, id, _ in expected]
    for item, (_, _, mask) in zip(objects, expected, strict=True):
        assert item.voxels == mask.sum()
        if not item.voxels:
            assert (item.box, item.centre) == (None, None)
            continue
        where = np.argwhere(mask)
        assert [(side.start, side.stop) for side in item.box] == list(
            zip(where.min(axis=0).tolist(), (where.max(axis=0) + 1).tolist(), strict=True)
        )
        np.testing.assert_allclose(item.centre, where.mean(axis=0))
        filled = np.zeros(mask.shape, bool)
        filled[item.box] = item.mask(labels)
        np.testing.assert_array_equal(filled, mask)


def faulty(layers, ids):
    array, numbers = np.zeros((2, 2, 2), np.uint16), np.zeros((2, 2, 2), np.uint32)
    array.flat[: len(layers)], numbers.flat[: len(ids)] = layers, ids
    return LabelMap(array, Geometry((2, 2)), TABLE, instances=numbers)


@pytest.mark.parametrize(
    ("layers", "ids", "message"),
    [
        ([3, 0, 3, 0, 3], [5, 0, 0, 0, 5], "instance 5 lies in the labels 'cell' and 'drop'"),
        ([3, 0], [5, 2**32 - 1], "instance 4294967295 lies where no label is"),
        ([4, 3], [0, 0], "label values 4 are not in the table"),
    ],
)
def test_faults(layers, ids, message):
    with pytest.raises(LabelError, match=f"here: {message}"):
        objects_of(faulty(layers, ids), "here")


def test_ids_of_stuff_and_of_ignored_voxels_do_not_count():
    objects = objects_of(faulty([300, 7, 300], [1, 1, 2]), "x")
    assert [(item.label.name, item.instance, item.voxels) for item in objects if item.voxels] == [("wall", 0, 2)]


def test_maps_of_no_labels():
    labels = LabelMap(np.zeros((1, 2, 2), np.uint8), Geometry((2, 2)), LabelTable(labels=()))
    assert objects_of(labels, "x") == []
