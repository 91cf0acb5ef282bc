import numpy as np
from scipy import stats

from helpers.augmentation import changed
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
