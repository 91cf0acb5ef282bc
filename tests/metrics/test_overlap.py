import tracemalloc

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from helpers.peak_memory import peak_megabytes
from voxelry.base.threads import THREADS
from voxelry.errors import GridMismatchError, LabelError
from voxelry.metrics.overlap import CHUNK_VOXELS, confusion, count_values, dice_of_confusion, iou_of_confusion

CLASSES = 4
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6)
PAIRS = SHAPES.flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1)) for _ in range(2)])
)


def brute(reference, prediction, classes, ignore=-1):
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for truth, guess in zip(reference.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if truth != ignore:
            matrix[truth, guess] += 1
    return matrix


@given(PAIRS)
def test_confusion_is_a_plain_count(pair):
    np.testing.assert_array_equal(confusion(*pair, CLASSES), brute(*pair, CLASSES))


@given(PAIRS)
def test_scikit_learn_counts_and_scores_alike(pair):
    truth, guess = (labels.ravel() for labels in pair)
    known = list(range(CLASSES))
    np.testing.assert_array_equal(confusion(*pair, CLASSES), confusion_matrix(truth, guess, labels=known))
    occurs = np.isin(known, np.concatenate([truth, guess]))
    for ours, theirs in ((dice_of_confusion, f1_score), (iou_of_confusion, jaccard_score)):
        expected = theirs(truth, guess, labels=known, average=None, zero_division=0)
        np.testing.assert_allclose(ours(confusion(*pair, CLASSES))[occurs], expected[occurs], rtol=1e-12, atol=1e-12)


@given(PAIRS)
def test_dice_and_iou_are_those_of_sets(pair):
    reference, prediction = pair
    matrix = confusion(reference, prediction, CLASSES)
    for k in range(CLASSES):
        r, p = reference == k, prediction == k
        both, either = (r & p).sum(), (r | p).sum()
        np.testing.assert_allclose(dice_of_confusion(matrix)[k], 2 * both / (r.sum() + p.sum()) if either else np.nan, atol=1e-12)
        np.testing.assert_allclose(iou_of_confusion(matrix)[k], both / either if either else np.nan, atol=1e-12)


@given(PAIRS)
def test_dice_and_iou_are_symmetric(pair):
    forth, back = confusion(*pair, CLASSES), confusion(*pair[::-1], CLASSES)
    np.testing.assert_array_equal(forth, back.T)
    np.testing.assert_array_equal(dice_of_confusion(forth), dice_of_confusion(back))
    np.testing.assert_array_equal(iou_of_confusion(forth), iou_of_confusion(back))


@given(PAIRS, st.permutations(range(CLASSES)))
def test_renaming_labels_permutes_the_scores(pair, order):
    names = np.array(order)
    renamed = confusion(names[pair[0]], names[pair[1]], CLASSES)
    np.testing.assert_array_equal(dice_of_confusion(renamed)[names], dice_of_confusion(confusion(*pair, CLASSES)))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_simpleitk(seed):
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, 5, (9, 11, 7), dtype=np.uint8)
    prediction = np.where(rng.random(reference.shape) < 0.6, reference, rng.integers(0, 5, reference.shape)).astype(np.uint8)
    matrix = confusion(reference, prediction, 5)
    peer = SimpleITK.LabelOverlapMeasuresImageFilter()
    peer.Execute(SimpleITK.GetImageFromArray(reference), SimpleITK.GetImageFromArray(prediction))
    for k in range(1, 5):
        assert dice_of_confusion(matrix)[k] == pytest.approx(peer.GetDiceCoefficient(k), abs=1e-12)
        assert iou_of_confusion(matrix)[k] == pytest.approx(peer.GetJaccardCoefficient(k), abs=1e-12)


def test_many_classes_do_not_overflow_small_types():
    reference = np.full((10, 10), 200, dtype=np.uint8)
    prediction = np.full((10, 10), 250, dtype=np.uint8)
    matrix = confusion(reference, prediction, 256)
    assert matrix[200, 250] == 100
    assert matrix.sum() == 100


def test_ignored_reference_voxels_count_nowhere():
    reference = np.array([0, 1, -1, -1, 2], dtype=np.int16)
    prediction = np.array([0, 1, 2, -1, 1], dtype=np.int16)
    matrix = confusion(reference, prediction, 3)
    assert matrix.sum() == 3
    np.testing.assert_array_equal(matrix, brute(reference[[0, 1, 4]], prediction[[0, 1, 4]], 3))


def test_another_ignore_value_and_none():
    reference, prediction = np.array([0, 1, 255]), np.array([1, 1, 0])
    assert confusion(reference, prediction, 2, ignore=255).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(LabelError, match="255"):
        confusion(reference, prediction, 2, ignore=None)


@settings(max_examples=20)
@given(st.integers(1, 3), st.randoms(use_true_random=False))
def test_memory_order_and_strides_do_not_matter(step, random):
    rng = np.random.default_rng(random.randrange(1000))
    reference, prediction = (rng.integers(0, 3, (6, 8, 10)) for _ in range(2))
    expected = brute(reference[::step, ::-1], prediction[::step, ::-1], 3)
    fortran = np.asfortranarray(reference.astype(np.uint8))
    np.testing.assert_array_equal(confusion(fortran[::step, ::-1], prediction[::step, ::-1].astype(np.int16), 3), expected)


def test_more_voxels_than_a_chunk_in_bounded_memory():
    rng = np.random.default_rng(0)
    reference, prediction = (rng.integers(0, 3, (300, 4096), dtype=np.uint8) for _ in range(2))
    assert reference.size > 5 * CHUNK_VOXELS
    tracemalloc.start()
    matrix = confusion(reference, prediction, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = np.histogram2d(reference.ravel(), prediction.ravel(), bins=3)[0]
    np.testing.assert_array_equal(matrix, expected)
    assert peak < 12e6


def test_nothing_to_count():
    empty = np.zeros((0, 4), dtype=np.uint8)
    assert confusion(empty, empty, 3).tolist() == np.zeros((3, 3)).tolist()
    assert np.isnan(dice_of_confusion(np.zeros((3, 3), dtype=np.int64))).all()


def test_a_label_in_neither_map_is_missing_and_in_one_scores_nought():
    reference, prediction = np.array([0, 0, 1]), np.array([0, 2, 0])
    scores = dice_of_confusion(confusion(reference, prediction, 4))
    assert scores[1] == 0.0
    assert scores[2] == 0.0
    assert np.isnan(scores[3])


def test_booleans_are_counted():
    assert confusion(np.array([True, False]), np.array([True, True]), 2).tolist() == [[0, 1], [0, 1]]


def test_refusals():
    with pytest.raises(GridMismatchError, match=r"\(2,\).*\(3,\)"):
        confusion(np.zeros(2, int), np.zeros(3, int), 2)
    with pytest.raises(LabelError, match="float64"):
        confusion(np.zeros(2), np.zeros(2, int), 2)
    with pytest.raises(LabelError, match=r"prediction.*\[2\]"):
        confusion(np.array([0, 1]), np.array([0, 2]), 2)
    with pytest.raises(LabelError, match=r"prediction.*\[-1\]"):
        confusion(np.array([1, 1]), np.array([0, -1]), 2)


def test_memory_is_that_of_the_tables_alone():
    shape = (130, 140, 150)
    array = np.random.default_rng(0).integers(0, 12, shape)
    for kind, order, most in ((np.uint8, "C", 8), (np.int32, "C", 8), (np.uint8, "F", 8), (np.int16, "F", 8)):
        truth, guess = array.astype(kind), np.array(array, kind, order=order)
        assert peak_megabytes(lambda a=truth, b=guess: count_values(a, b)) < most
    many = np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)
    assert peak_megabytes(lambda: count_values(many, many)) < 8.4 * (THREADS + 2)
