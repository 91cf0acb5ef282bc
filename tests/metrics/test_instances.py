import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from voxelry.errors import GridMismatchError, LabelError, UsageError
from voxelry.metrics.instances import connected_objects, object_overlaps, objects_from_ids

MAPS = st.integers(2, 3).flatmap(
    lambda ndim: hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * ndim), elements=st.integers(0, 2))
)


@given(MAPS, st.integers(0, 2), st.sampled_from("CF"))
def test_components_are_scipys_class_by_class(classes, rank, order):
    rank = min(rank, classes.ndim - 1)
    connectivity = {2: (4, 8), 3: (6, 18, 26)}[classes.ndim][rank]
    objects = connected_objects(np.asarray(classes, order=order), connectivity)
    structure = ndimage.generate_binary_structure(classes.ndim, rank + 1)
    seen = 0
    for index in (1, 2):
        expected, count = ndimage.label(classes == index, structure)
        mine = np.where(classes == index, objects.ids, 0)
        assert len(set(zip(expected.ravel().tolist(), mine.ravel().tolist(), strict=True)) - {(0, 0)}) == count
        assert (objects.classes == index).sum() == count
        seen += count
    assert len(objects) == seen
    assert ((objects.ids > 0) == (classes > 0)).all()


@given(MAPS, st.randoms(use_true_random=False))
def test_overlaps_are_those_of_brute_force(classes, random):
    other = classes.ravel().copy()
    random.shuffle(other)
    one, two = connected_objects(classes), connected_objects(other.reshape(classes.shape))
    found = object_overlaps(one, two)
    expected = {
        (i, j): int(((one.ids == i + 1) & (two.ids == j + 1)).sum())
        for i in range(len(one))
        for j in range(len(two))
        if ((one.ids == i + 1) & (two.ids == j + 1)).any()
    }
    assert (
        dict(zip(zip(found.reference.tolist(), found.prediction.tolist(), strict=True), found.shared.tolist(), strict=True))
        == expected
    )
    assert found.reference_sizes.tolist() == [int((one.ids == i + 1).sum()) for i in range(len(one))]
    assert found.prediction_sizes.tolist() == [int((two.ids == j + 1).sum()) for j in range(len(two))]
    same = sum(one.classes[i] == two.classes[j] for i, j in expected)
    assert sum(len(found.of_class(index).shared) for index in (1, 2)) == same
    assert len(found.of_classes(np.array([1, 2])).shared) == len(found.shared)


def test_many_objects_take_the_sorted_path():
    rng = np.random.default_rng(0)
    ids, other = rng.integers(0, 6000, (2, 20, 30, 30))
    one, two = objects_from_ids(ids, ids > 0), objects_from_ids(other, other > 0)
    found = object_overlaps(one, two)
    both = (ids > 0) & (other > 0)
    assert found.shared.sum() == both.sum()
    assert found.reference_sizes.sum() == (ids > 0).sum()


def test_the_default_joins_corners():
    corners = np.eye(3, dtype=np.uint8)
    assert len(connected_objects(corners)) == 1
    assert len(connected_objects(corners, 4)) == 3
    cube = np.zeros((2, 2, 2), bool)
    cube[0, 0, 0] = cube[1, 1, 1] = True
    assert [len(connected_objects(cube, c)) for c in (6, 18, 26)] == [2, 2, 1]


def test_given_ids_close_gaps_and_part_classes():
    ids = np.array([[0, 7, 7], [9, 9, 3]])
    classes = np.array([[1, 1, 2], [2, 2, 0]])
    objects = objects_from_ids(ids, classes)
    assert objects.ids.tolist() == [[0, 1, 2], [3, 3, 0]]
    assert objects.classes.tolist() == [1, 2, 2]
    assert objects.given.tolist() == [7, 7, 9]


@given(MAPS, st.permutations(range(1, 3)), st.booleans())
def test_which_ids_objects_have_changes_nothing_but_what_was_given(classes, order, far):
    """Small ids take a table, ids up to 32 bits the sorted path."""
    ids = np.arange(classes.size).reshape(classes.shape) % 3
    other = np.array([0, *order])[ids] * ((2**32 - 1) // 2 if far else 1)
    one, two = objects_from_ids(ids, classes), objects_from_ids(other.astype(np.uint32), classes)
    np.testing.assert_array_equal(one.ids, two.ids)
    assert one.classes.tolist() == two.classes.tolist()
    assert [other[two.ids == i + 1][0] for i in range(len(two))] == two.given.tolist()


def test_iou_and_dice_of_a_shifted_square():
    one, two = np.zeros((2, 10, 10), np.uint8)
    one[2:6, 2:6] = two[2:6, 3:7] = 1
    found = object_overlaps(connected_objects(one), connected_objects(two))
    assert found.iou.tolist() == [12 / 20]
    assert found.dice.tolist() == [24 / 32]


def test_values_beyond_a_byte_do_not_overflow():
    classes = np.zeros((4, 4), np.uint16)
    classes[0, 0], classes[3, 3] = 256, 40000
    objects = connected_objects(classes)
    assert objects.classes.tolist() == [256, 40000]


def test_nothing_is_no_object():
    empty = connected_objects(np.zeros((3, 4, 5), np.int16))
    found = object_overlaps(empty, empty)
    assert len(empty) == 0
    assert found.shared.size == found.reference_sizes.size == 0


@pytest.mark.parametrize(
    ("classes", "connectivity", "error"),
    [
        (np.zeros((2, 2), np.uint8), 6, UsageError),
        (np.zeros((2, 2, 2), np.uint8), 8, UsageError),
        (np.zeros((2, 2, 2, 2), np.uint8), None, UsageError),
        (np.zeros((2, 2)), None, LabelError),
        (np.full((2, 2), -1), None, LabelError),
    ],
)
def test_bad_input(classes, connectivity, error):
    with pytest.raises(error):
        connected_objects(classes, connectivity)


def test_grids_must_agree():
    one, two = (connected_objects(np.ones((2, n), np.uint8)) for n in (2, 3))
    with pytest.raises(GridMismatchError):
        object_overlaps(one, two)
    with pytest.raises(GridMismatchError):
        objects_from_ids(np.ones((2, 2), int), np.ones((2, 3), int))
