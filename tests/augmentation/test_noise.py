import numpy as np
from scipy import stats

from helpers.augmentation import augmenter, changed, only, params_of
from voxelry.augmentation.noise import Noise, NoiseParams


def test_noise_is_normal_independent_and_its_own():
    zero = np.zeros((40, 50, 61), np.float32)
    one, two = (changed(zero, Noise(), NoiseParams(2.0, key)).ravel() for key in (5, 6))
    assert stats.kstest(one / 2, "norm").pvalue > 1e-3
    for lag in (1, 2, 61, 61 * 50):
        assert abs(np.corrcoef(one[:-lag], one[lag:])[0, 1]) < 0.015
        assert abs(np.corrcoef(one[:-lag], two[lag:])[0, 1]) < 0.015
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.015
    assert np.array_equal(one, changed(zero, Noise(), NoiseParams(2.0, 5)).ravel())


def test_each_channel_has_noise_of_its_own_of_one_strength():
    drawn = params_of(augmenter(only(noise_p=1), channels=("a", "b", "c")).draw(3), "noise")
    assert len({noise.key for noise in drawn}) == 3
    assert len({noise.sigma for noise in drawn}) == 1
