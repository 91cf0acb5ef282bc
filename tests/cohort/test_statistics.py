import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from voxelry.cohort.statistics import bootstrap, holm, patient_means, permutation_test, wilcoxon_test

NUMBERS = st.lists(st.floats(-1, 1, width=16), min_size=2, max_size=7).map(np.array)


@given(NUMBERS)
def test_the_exact_permutation_test_is_scipys(differences):
    result = stats.permutation_test(
        (differences,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert permutation_test(differences) == pytest.approx(result.pvalue)


def test_the_random_permutation_test_is_near_the_exact_one():
    differences = np.random.default_rng(0).normal(0.4, 1, 16)
    signs = np.array(list(itertools.product((-1, 1), repeat=16)))
    exact = (np.abs(signs @ differences) >= abs(differences.sum())).mean()
    assert permutation_test(differences) == pytest.approx(exact, abs=0.02)
    assert permutation_test(differences, 1) == permutation_test(differences, 1)
    assert permutation_test(np.ones(200)) == pytest.approx(1 / 10_001)


def test_wilcoxon_of_nothing_and_of_equals():
    assert np.isnan(wilcoxon_test(np.zeros(0)))
    assert np.isnan(permutation_test(np.zeros(0)))
    assert wilcoxon_test(np.zeros(4)) == permutation_test(np.zeros(4)) == 1
    assert wilcoxon_test(np.arange(1.0, 8)) == stats.wilcoxon(np.arange(1.0, 8)).pvalue


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, np.nan])).tolist() == pytest.approx([0.03, 0.06, 0.06, np.nan], nan_ok=True)
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]


def test_the_interval_is_near_the_normal_one_and_wider_where_cases_share_a_patient():
    values = np.random.default_rng(1).normal(0.8, 0.1, 400)
    alone = bootstrap(values, [str(n) for n in range(400)])
    half = 1.96 * values.std() / 20
    assert (alone.low, alone.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 10)
    pairs = bootstrap(np.repeat(values, 4), [str(n // 4) for n in range(1600)])
    assert pairs.high - pairs.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert pairs.n == 1600


def test_missing_values_are_counted_and_enter_no_mean():
    result = bootstrap(np.array([1.0, np.nan, 0.5]), ["a", "b", "c"])
    assert (result.mean, result.n, result.missing) == (0.75, 2, 1)
    assert (result.low, result.high) == (0.5, 1.0)
    nothing = bootstrap(np.full(2, np.nan), ["a", "b"])
    assert np.isnan(nothing.mean)
    assert (nothing.n, nothing.missing) == (0, 2)
    assert np.isnan(bootstrap(np.array([1.0, 0.0]), ["a", "a"]).low)


def test_patients_weigh_the_same_in_a_test():
    assert patient_means(np.array([1.0, 3.0, 5.0, np.nan]), ["a", "a", "b", "c"]).tolist() == [2, 5]
