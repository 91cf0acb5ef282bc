import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import SPARSE, LabelMap, Source
from voxelry.errors import GridMismatchError, LabelError
from voxelry.metrics.evaluate import common_classes, score

GRID = Geometry.from_spacing((4, 5, 6), (1, 2, 3))


def table(ignore=None, **values):
    return LabelTable(labels=tuple(Label(value=v, name=n) for n, v in values.items()), ignore=ignore)


def labels(array, names=None, geometry=None, name="x.nii.gz"):
    array = np.asarray(array)
    grid = geometry or Geometry(array.shape)
    return LabelMap.of(array, grid, names or LabelTable.numbered(np.unique(array)), Source("nifti", (name,)))


def row(*values):
    return np.array([values], dtype=np.uint8)


@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.integers(0, 99))
def test_a_flipped_or_permuted_prediction_is_put_back(order, flips, seed):
    rng = np.random.default_rng(seed)
    truth, guess = (rng.integers(0, 3, GRID.shape, dtype=np.uint8) for _ in range(2))
    change = Reindex(tuple(order), flips)
    names = table(a=1, b=2)
    turned = labels(change.apply(guess), names, GRID.reindexed(change))
    expected = score(labels(truth, names, GRID), labels(guess, names, GRID))
    np.testing.assert_array_equal(score(labels(truth, names, GRID), turned).confusions, expected.confusions)


def test_names_match_whatever_the_values():
    scores = score(labels(row(0, 1, 2, 2), table(a=1, b=2)), labels(row(0, 40, 30, 40), table(b=30, a=40)))
    assert scores.labels == ("a", "b")
    np.testing.assert_allclose(scores.dice, [[2 / 3, 2 / 3]])


def test_values_match_where_the_prediction_has_no_names():
    scores = score(labels(row(0, 1, 2), table(a=1, b=2)), labels(row(0, 1, 1)))
    np.testing.assert_allclose(scores.dice, [[2 / 3, 0]])


def test_a_numbered_reference_takes_the_predictions_labels():
    scores = score(labels(row(0, 0, 1)), labels(row(0, 2, 1), table(liver=1, lesion=2)), "c")
    assert scores.cases == ("c",)
    assert scores.labels == ("liver", "lesion")
    np.testing.assert_allclose(scores.dice, [[1, 0]])


def test_an_empty_numbered_reference_makes_false_alarms_count():
    scores = score(labels(row(0, 0)), labels(row(0, 1)))
    assert scores.labels == ("label_1",)
    assert scores.mean_dice == 0.0


@pytest.mark.parametrize("ignore", [255])
def test_the_ignore_value_counts_nowhere(ignore):
    names = table(ignore=ignore, lung=1)
    truth = np.array([[0, 1, ignore, ignore, ignore]], dtype=np.int16)
    scores = score(labels(truth, names), labels(row(0, 1, 1, 0, 1), table(lung=1)))
    assert scores.confusions.tolist() == [[[1, 0], [0, 1]]]
    against_itself = score(labels(truth, names), labels(truth, names))
    assert against_itself.confusions.tolist() == [[[1, 0], [0, 1]]]


def test_a_prediction_may_not_ignore_what_counts():
    names = table(ignore=9, lung=1)
    with pytest.raises(LabelError, match="prediction"):
        score(labels(row(0, 1, 9), names), labels(row(9, 1, 9), names))


def test_sparse_and_large_values_do_not_overflow():
    names = table(a=250, b=60000)
    truth = np.array([[0, 250, 60000]], dtype=np.uint16)
    guess = np.array([[0, 60000, 60000]], dtype=np.int64)
    np.testing.assert_allclose(score(labels(truth, names), labels(guess, names)).dice, [[0, 2 / 3]])


def test_unknown_values_are_refused_with_the_nearest_name():
    known = table(liver=1, spleen=2)
    with pytest.raises(LabelError, match=r"x\.nii\.gz.* 7"):
        score(labels(row(0, 7), known), labels(row(0, 1), known))
    with pytest.raises(LabelError, match=r"p\.nii.*3 \('livr'\).*'liver'"):
        score(labels(row(0, 1), known), labels(row(0, 3), table(livr=3), name="p.nii"))
    with pytest.raises(LabelError, match=r"p\.nii.* 5.*spleen"):
        score(labels(row(0, 1), known), labels(row(0, 5), name="p.nii"))
    with pytest.raises(LabelError, match="200000"):
        score(labels(row(0, 1), known), labels(np.array([[0, 200000]]), known))
    with pytest.raises(LabelError, match="-3"):
        score(labels(row(0, 1), known), labels(np.array([[0, -3]]), known))


def test_a_named_label_without_voxels_does_no_harm():
    scores = score(labels(row(0, 1), table(a=1)), labels(row(0, 1), table(a=1, other=2)))
    assert scores.labels == ("a",)
    assert scores.mean_dice == 1.0


def test_other_grids_are_refused_and_class_indices_of_several_layers():
    one = labels(np.zeros((4, 5, 6), np.uint8), table(a=1), GRID)
    shifted = Geometry.from_spacing((4, 5, 6), (1, 2, 3), (0, 0, 0.5))
    with pytest.raises(GridMismatchError, match=r"up to 0\.5 mm apart"):
        score(one, labels(np.zeros((4, 5, 6), np.uint8), table(a=1), shifted))
    layered = LabelMap(np.zeros((2, 4, 5, 6), np.uint8), GRID, table(a=1))
    with pytest.raises(LabelError, match="2 layers"):
        common_classes(one, layered)


def test_common_classes_are_on_the_references_grid_and_background_where_ignored():
    geometry = Geometry((2, 3, 1), np.eye(4))
    reference = LabelMap.of(
        np.array([[7, 7, 0], [9, 3, 3]], np.uint8)[..., None],
        geometry,
        table := LabelTable(labels=(Label(value=7, name="a"), Label(value=3, name="b")), ignore=9),
    )
    change = geometry.reindexing_to_orientation("LPS")
    prediction = LabelMap.of(change.apply(reference.array), geometry.reindexed(change), table)
    names, truth, guess = common_classes(reference, prediction)
    assert names.names == ("a", "b")
    assert truth[..., 0].tolist() == guess[..., 0].tolist() == [[1, 1, 0], [0, 2, 2]]


def sparse(array, start):
    """A map as a DICOM SEG gives it: slices from `start` on, the others left out."""
    geometry = Geometry.from_spacing(array.shape, (1, 2, 3), (0, 0, 3 * start))
    return LabelMap.of(array, geometry, table(a=1), Source(kind=SPARSE, files=("x.seg.dcm",)))


@pytest.mark.parametrize("swap", [False, True])
def test_a_map_that_leaves_empty_slices_out_is_laid_onto_the_other(swap):
    whole = np.zeros((4, 5, 6), np.uint8)
    whole[:, :, 2:4] = 1
    pair = [labels(whole, table(a=1), GRID), sparse(whole[:, :, 2:5], 2)]
    scores = score(*(pair[::-1] if swap else pair))
    assert scores.mean_dice == 1.0
    assert scores.confusions.sum() == whole.size


def test_two_maps_that_leave_different_slices_out_meet_on_a_grid_that_holds_both():
    ones = np.ones((4, 5, 2), np.uint8)
    assert score(sparse(ones, 0), sparse(ones, 4)).mean_dice == 0.0
    assert score(sparse(ones, 0), sparse(ones, 1)).mean_dice == 0.5


def test_labels_beyond_the_grid_are_refused():
    with pytest.raises(GridMismatchError, match="20 labelled voxels lie beyond"):
        score(labels(np.zeros((4, 5, 6), np.uint8), table(a=1), GRID), sparse(np.ones((4, 5, 2), np.uint8), 5))
