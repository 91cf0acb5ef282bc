from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxelry.errors import UsageError
from voxelry.metrics.instances import ObjectOverlaps
from voxelry.metrics.matching import match

SHARED = hnp.arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.integers(0, 3))


def pairs_of(shared, spare=0):
    """ObjectOverlaps in which objects are as large as what they share, and `spare` voxels more."""
    rows, columns = np.nonzero(shared)
    classes = [np.ones(n, np.int64) for n in shared.shape]
    return ObjectOverlaps(*classes, shared.sum(axis=1) + spare, shared.sum(axis=0) + spare, rows, columns, shared[rows, columns])


def best(pairs, shape, threshold):
    """The most pairs and the largest IoU sum, by trying every assignment."""
    iou = np.zeros(shape)
    iou[pairs.reference, pairs.prediction] = pairs.iou
    wide = iou if shape[0] <= shape[1] else iou.T
    options = []
    for order in permutations(range(wide.shape[1]), wide.shape[0]):
        values = [wide[i, j] for i, j in enumerate(order) if wide[i, j] >= threshold and wide[i, j] > 0]
        options.append((len(values), sum(values)))
    return max(options)


@given(SHARED, st.sampled_from([0.01, 0.2, 0.34, 0.5]))
def test_optimal_is_the_best_of_all_assignments(shared, threshold):
    pairs = pairs_of(shared, 1)
    found = match(pairs, threshold, "optimal")
    count, total = best(pairs, shared.shape, threshold)
    assert found.tp == count
    assert found.iou.sum() == pytest.approx(total)


@given(SHARED, st.sampled_from([0.01, 0.2, 0.34, 0.51]), st.sampled_from(["greedy", "optimal"]))
def test_every_object_has_one_partner_at_most(shared, threshold, method):
    found = match(pairs_of(shared, 1), threshold, method)
    assert len(set(found.reference.tolist())) == len(set(found.prediction.tolist())) == found.tp
    assert (found.iou >= threshold).all()
    assert found.tp + found.fp == shared.shape[1]
    assert found.tp + found.fn == shared.shape[0]


@given(SHARED)
def test_above_one_half_the_methods_agree(shared):
    greedy, optimal = (match(pairs_of(shared), 0.51, method) for method in ("greedy", "optimal"))
    assert greedy.reference.tolist() == optimal.reference.tolist()
    assert greedy.prediction.tolist() == optimal.prediction.tolist()


def test_greedy_takes_the_best_pair_first_and_optimal_the_most_pairs():
    shared = np.array([[6, 2], [2, 0]])
    pairs = pairs_of(shared)
    greedy, optimal = match(pairs, 0.1, "greedy"), match(pairs, 0.1, "optimal")
    assert (greedy.reference.tolist(), greedy.prediction.tolist()) == ([0], [0])
    assert (optimal.reference.tolist(), optimal.prediction.tolist()) == ([0, 1], [1, 0])


def test_a_pair_that_just_reaches_the_threshold_counts():
    pairs = pairs_of(np.array([[2]]), 1)
    assert pairs.iou.tolist() == [0.5]
    assert match(pairs, 0.5).tp == 1
    assert match(pairs, 0.51).tp == 0


@pytest.mark.parametrize(("threshold", "method"), [(0, "greedy"), (1.1, "greedy"), (0.5, "hungarian")])
def test_bad_requests(threshold, method):
    with pytest.raises(UsageError):
        match(pairs_of(np.ones((1, 1), np.int64)), threshold, method)
