from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import UsageError
from voxelry.metrics.segmentation_task import labels_of_task

GRID = Geometry.from_spacing((7, 8, 5), (1, 1, 1))
TABLE = LabelTable(
    labels=(
        Label(value=5, name="organ left", mirror="organ right"),
        Label(value=2, name="lesion", kind="thing"),
        Label(value=4, name="organ right", mirror="organ left"),
        Label(value=2, name="node", kind="thing", layer=1),
    ),
    ignore=9,
)
STUFF = LabelTable(labels=(Label(value=1, name="a"), Label(value=300, name="b")))


def labels_of(seed, kind=np.uint8):
    rng = np.random.default_rng(seed)
    layers = np.stack(
        [rng.choice(np.array([0, 2, 4, 5, 9]), GRID.shape, p=[0.6, 0.2, 0.1, 0.05, 0.05]), np.zeros(GRID.shape, int)]
    )
    layers[1] = rng.choice(np.array([0, 2]), GRID.shape, p=[0.9, 0.1])
    return LabelMap(layers.astype(kind), GRID, TABLE)


@given(st.integers(0, 30), st.sampled_from([np.uint8, np.uint16]))
def test_objects_are_components_by_scipy(seed, kind):
    labels = labels_of(seed, kind)
    objects, remark = labels_of_task(labels, "instance")
    assert "connected components of things" in remark
    counts = [ndimage.label(labels.layers[n] == 2, np.ones((3, 3, 3))) for n in range(2)]
    assert objects.instances.max() == counts[0][1] + counts[1][1]
    for n, (expected, count) in enumerate(counts):
        pairs = set(zip(expected.ravel().tolist(), objects.instances[n].ravel().tolist(), strict=True)) - {(0, 0)}
        assert len(pairs) == count == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert not set(np.unique(objects.instances[0])) & set(np.unique(objects.instances[1])) - {0}


def test_instances_are_things_alone():
    objects, _ = labels_of_task(labels_of(0), "instance")
    assert objects.table.names == ("lesion", "node")
    assert objects.table.ignore == 9
    assert np.array_equal(objects.layers, np.where(labels_of(0).layers == 2, 2, 0))


def test_panoptic_labels_keep_stuff():
    labels = labels_of(1)
    panoptic, _ = labels_of_task(labels, "panoptic")
    assert panoptic.table == TABLE
    assert np.array_equal(panoptic.layers, labels.layers)
    assert not panoptic.instances[labels.layers != 2].any()


def test_ids_that_are_there_stay():
    labels = labels_of(2)
    labels = replace(labels, instances=np.where(labels.layers == 2, 7, 3).astype(np.uint32))
    for task in ("instance", "panoptic"):
        told, remark = labels_of_task(labels, task)
        assert told.instances is labels.instances
        assert remark == ""


def test_a_semantic_map_has_no_ids():
    labels = replace(labels_of(3), instances=np.zeros((2, *GRID.shape), np.uint32))
    assert labels_of_task(labels, "semantic")[0].instances is None


def test_of_a_table_without_things_every_label_has_objects():
    array = np.zeros(GRID.shape, np.uint16)
    array[0, 0, 0], array[3, 3, 3], array[5, 5, 4] = 1, 1, 300
    labels = LabelMap.of(array, GRID, STUFF)
    objects, remark = labels_of_task(labels, "instance")
    assert sorted(np.unique(objects.instances)) == [0, 1, 2, 3]
    assert "no label is of kind thing" in remark
    panoptic, remark = labels_of_task(labels, "panoptic")
    assert (panoptic, remark) == (labels, "")


def test_an_empty_map_has_no_objects():
    labels = LabelMap.of(np.zeros(GRID.shape, np.uint8), GRID, TABLE)
    assert not labels_of_task(labels, "instance")[0].instances.any()


def test_an_unknown_task_is_an_error():
    with pytest.raises(UsageError, match=r"unknown task 'instances'.*Did you mean 'instance'"):
        labels_of_task(labels_of(4), "instances")
