"""Smoothing of levels, against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from voxelry.inference.smoothing_kernels import CELL, mark_cells, smooth, taps


@given(
    st.integers(0, 2**32), st.sampled_from([(9, 8, 7), (1, 30), (40, 1), (23, 31), (3, 700)]),
    st.lists(st.floats(0, 4), min_size=3, max_size=3), st.sampled_from("CF"),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_it_is_a_cut_off_gaussian_whose_edge_goes_on(seed, shape, deviations, order):
    levels = np.random.default_rng(seed).integers(0, 256, shape)
    expected, own = levels.astype(float), np.array(levels, np.uint32, order=order)
    for axis, deviation in enumerate(deviations[: len(shape)]):
        expected = ndimage.correlate1d(expected, taps(deviation) / 2**15, axis=axis, mode="nearest")
    smooth(own, [taps(deviation) for deviation in deviations[: len(shape)]])
    assert np.abs(own - expected).max() <= 0.51
    again = np.array(levels, np.uint32)
    smooth(again, [taps(deviation) for deviation in deviations[: len(shape)]])
    assert np.array_equal(own, again)


@given(
    st.integers(0, 2**32), st.sampled_from([(9, 8, 37), (1, 90), (40, 1), (23, 31), (3, 700), (50, 9, 33)]),
    st.lists(st.floats(0, 8), min_size=3, max_size=3), st.sampled_from("CF"), st.floats(0, 0.05),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_cells_that_are_wanted_are_those_of_the_whole(seed, shape, deviations, order, share):
    rng, kernels = np.random.default_rng(seed), [taps(deviation) for deviation in deviations[: len(shape)]]
    levels = rng.integers(0, 256, shape).astype(np.uint32) | (rng.random(shape) < 0.2).astype(np.uint32) << np.uint32(31)
    classes = np.array(rng.random(shape) < share, np.uint8, order=order)
    whole, own = np.array(levels, order=order), np.array(levels, order=order)
    rows = classes.reshape(-1, order="A").reshape(-1, shape[-1] if classes.flags.c_contiguous else shape[0])
    cells = np.zeros((len(rows), -(-rows.shape[1] // CELL)), np.bool_)
    mark_cells(rows, np.array([False, True]), 0, len(rows), cells)
    groups = [rows[:, first : first + CELL].any(axis=1) for first in range(0, rows.shape[1], CELL)]
    assert np.array_equal(cells, np.stack(groups, axis=1))
    smooth(whole, kernels)
    smooth(own, kernels, cells)
    assert np.array_equal(own[classes > 0], whole[classes > 0])


@pytest.mark.parametrize("deviation", [0.0, 0.39, 0.4, 1.0, 1.3, 4.0])
def test_taps(deviation):
    weights = taps(deviation)
    assert weights.sum() == 2**15
    assert np.array_equal(weights, weights[::-1])
    reach = int(2.5 * deviation)
    assert len(weights) == 2 * reach + 1
    spread = np.sqrt((weights * np.arange(-reach, reach + 1.0) ** 2).sum() / 2**15)
    assert spread <= deviation + 1e-9
    assert spread >= 0.85 * deviation or deviation < 1
