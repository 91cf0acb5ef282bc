import numpy as np
import pytest

from voxelry.plan import Normalisation
from voxelry.prepare.normalise import normalise

IMAGE = Normalisation(scheme="image")


def test_by_the_image_gives_mean_zero_and_deviation_one():
    array = np.random.default_rng(0).normal(500, 70, size=(2, 9, 8, 7)).astype(np.int16)
    result = normalise(array, (IMAGE, IMAGE))
    assert result.dtype == np.float32
    for before, after in zip(array.astype(np.float64), result, strict=True):
        np.testing.assert_allclose(after, (before - before.mean()) / before.std(), atol=1e-5)


def test_global_clips_then_scales():
    scheme = Normalisation(scheme="global", low=-100, high=300, mean=100, std=50)
    array = np.array([[[-1024, -100, 100, 150, 3071]]], dtype=np.int16)
    assert normalise(array, (scheme,)).tolist() == [[[-4, -4, 0, 1, 4]]]


@pytest.mark.parametrize("value", [0, 1, 1234.567, -3e4])
def test_a_constant_channel_becomes_zero(value):
    array = np.full((1, 31, 17, 3), value, dtype=np.float32)
    assert (normalise(array, (IMAGE,)) == 0).all()


def test_the_input_is_left_as_it_was():
    array = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    before = array.copy()
    normalise(array, (IMAGE,))
    assert np.array_equal(array, before)


def test_each_channel_has_its_own_scheme():
    scheme = Normalisation(scheme="global", low=0, high=10, mean=5, std=5)
    result = normalise(np.array([[[0, 10]], [[0, 10]]]), (scheme, IMAGE))
    assert result.tolist() == [[[-1, 1]], [[-1, 1]]]
