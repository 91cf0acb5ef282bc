import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.core.plan import Normalisation
from voxelry.preparation.normalisation import normalise

IMAGE, MASK = Normalisation(scheme="image"), Normalisation(scheme="mask")


def normalised(array, schemes, inside=None):
    image = np.array(array, dtype=np.float32)
    normalise(image, schemes, inside)
    return image


def test_by_the_image_gives_mean_zero_and_deviation_one():
    array = np.random.default_rng(0).normal(500, 70, size=(2, 9, 8, 7)).astype(np.int16)
    result = normalised(array, (IMAGE, IMAGE))
    assert result.dtype == np.float32
    for before, after in zip(array.astype(np.float64), result, strict=True):
        np.testing.assert_allclose(after, (before - before.mean()) / before.std(), atol=1e-5)


def test_global_clips_then_scales():
    scheme = Normalisation(scheme="global", low=-100, high=300, mean=100, std=50)
    array = np.array([[[-1024, -100, 100, 150, 3071]]], dtype=np.int16)
    assert normalised(array, (scheme,)).tolist() == [[[-4, -4, 0, 1, 4]]]


@pytest.mark.parametrize("value", [0, 1, 1234.567, -3e4])
def test_a_constant_channel_becomes_zero(value):
    array = np.full((1, 31, 17, 3), value, dtype=np.float32)
    assert (normalised(array, (IMAGE,)) == 0).all()


@given(st.floats(-38, 36).map(lambda power: 10.0**power), st.floats(-50, 50), st.sampled_from([IMAGE, MASK]), st.integers(0, 99))
def test_any_scale_of_grey_values_is_brought_to_one(scale, offset, scheme, seed):
    array = (np.random.default_rng(seed).normal(offset, 1, size=(1, 9, 8, 7)) * scale).astype(np.float32)
    if np.abs(array).max() < 1e-35:
        scale, array = 1e-9, array.astype(np.float64) / scale * 1e-9  # below, float32 has few digits
        array = array.astype(np.float32)
    before = array[0].astype(np.float64)
    result = normalised(array, (scheme,), np.ones((9, 8, 7), bool))[0]
    np.testing.assert_allclose(result, (before - before.mean()) / before.std(), atol=1e-3)


@pytest.mark.parametrize("value", [0.1, 7.1, 1e-9, -3e-12, 1e6 + 0.3, 3071, 1e-40])
def test_rounding_of_one_value_is_not_blown_up(value):
    array = np.full((1, 40, 50, 30), value, dtype=np.float32)
    array[0, ::3] = np.nextafter(array[0, ::3], np.float32(np.inf))
    assert np.abs(normalised(array, (IMAGE,))).max() == 0


def test_by_the_mask_counts_the_content_alone_and_zeroes_the_rest():
    random = np.random.default_rng(1)
    array = random.normal(200, 30, size=(2, 9, 8, 7)).astype(np.float32)
    inside = random.random((9, 8, 7)) < 0.4
    result = normalised(array, (MASK, MASK), inside)
    for before, after in zip(array.astype(np.float64), result, strict=True):
        content = before[inside]
        np.testing.assert_allclose(after[inside], (content - content.mean()) / content.std(), atol=1e-5)
        assert (after[~inside] == 0).all()


def test_an_empty_mask_gives_zeros():
    assert (normalised(np.ones((1, 3, 3)), (MASK,), np.zeros((3, 3), bool)) == 0).all()


def test_large_images_in_pieces_as_in_one():
    array = np.random.default_rng(2).normal(1000, 3, size=(1, 80, 70, 60))
    scheme = Normalisation(scheme="global", low=995, high=1004, mean=1001, std=2)
    np.testing.assert_allclose(normalised(array, (scheme,)), (array.clip(995, 1004) - 1001) / 2, atol=1e-3)
    one = normalised(array, (IMAGE,))
    np.testing.assert_allclose(one, (array - array.mean()) / array.std(), atol=1e-3)
    assert abs(one.mean(dtype=np.float64)) < 1e-4


def test_pieces_of_other_means_count_as_one():
    ramp = np.linspace(-50, 70, 80 * 70 * 60).reshape(1, 80, 70, 60)
    np.testing.assert_allclose(normalised(ramp, (IMAGE,)), (ramp - ramp.mean()) / ramp.std(), atol=1e-4)


def test_each_channel_has_its_own_scheme():
    scheme = Normalisation(scheme="global", low=0, high=10, mean=5, std=5)
    result = normalised(np.array([[[0, 10]], [[0, 10]]]), (scheme, IMAGE))
    assert result.tolist() == [[[-1, 1]], [[-1, 1]]]


def test_range_and_none():
    image = np.stack([np.arange(-3, 9, dtype=np.float32).reshape(3, 4)] * 2 + [np.full((3, 4), 7, np.float32)])
    normalise(image, (Normalisation(scheme="range"), Normalisation(scheme="none"), Normalisation(scheme="range")))
    assert np.allclose(image[0].ravel(), np.arange(12) / 11)
    assert np.array_equal(image[1].ravel(), np.arange(-3, 9))
    assert not image[2].any()
