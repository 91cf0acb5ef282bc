"""Smoothing of levels, against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from voxelry.inference.smoothing_kernels import smooth, taps


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
