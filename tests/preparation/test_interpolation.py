import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from voxelry.preparation.interpolation import resampling_operator

SIZES = st.integers(1, 70)


@given(n=SIZES, m=SIZES, order=st.sampled_from([0, 1, 3]), smooth=st.booleans(), seed=st.integers(0, 9))
def test_one_axis_as_skimage_resizes_it(n, m, order, smooth, seed):
    values = np.random.default_rng(seed).normal(size=(n, 2))
    theirs = resize(values, (m, 2), order=order, mode="edge", anti_aliasing=smooth, preserve_range=True, clip=False)
    np.testing.assert_allclose(resampling_operator(n, m, order, smooth).matrix(n) @ values, theirs, atol=3e-5)


@given(n=SIZES, m=SIZES, order=st.sampled_from([0, 1, 3]), smooth=st.booleans())
def test_what_callers_rely_on(n, m, order, smooth):
    start, weights = resampling_operator(n, m, order, smooth)
    assert start.shape == (m,)
    assert weights.dtype == np.float32
    assert len(weights) == m
    assert (start >= 0).all()
    assert (start + weights.shape[1] <= n).all()
    assert (np.diff(start) >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert weights.shape[1] <= {0: 1, 1: 2}.get(order, n) or smooth


@given(n=st.integers(1, 40), m=SIZES)
def test_linear_as_sampled_between_voxel_centres(n, m):
    values = np.random.default_rng(0).normal(size=n)
    places = (np.arange(m) + 0.5) * n / m - 0.5
    got = resampling_operator(n, m, 1).matrix(n) @ values
    np.testing.assert_allclose(got, map_coordinates(values, [places], order=1, mode="nearest"), atol=1e-6)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_an_axis_that_keeps_its_size_has_one_tap(order):
    start, weights = resampling_operator(9, 9, order)
    assert start.tolist() == list(range(9))
    assert weights.tolist() == [[1.0]] * 9


def test_halving_takes_the_upper_of_two_nearest_voxels():
    assert resampling_operator(6, 3, 0).start.tolist() == [1, 3, 5]


def test_the_band_of_a_cubic_is_narrow():
    assert resampling_operator(512, 273, 3).weights.shape[1] <= 20


def test_the_shared_arrays_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        resampling_operator(4, 7, 1).weights[0] = 0
