import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers.augmentation import changed, grey
from voxelry.augmentation.blur import Blur, BlurParams


@pytest.mark.parametrize("shape", [(14, 15, 17), (20, 22), (3, 40, 5)])
@pytest.mark.parametrize("sigma", [0.5, 0.77, 1.0])
def test_blur_as_scipy(shape, sigma):
    sigmas = [sigma * (1 - 0.2 * axis) for axis in range(len(shape))]
    wanted = gaussian_filter(grey(shape), sigmas, mode="mirror", truncate=3)
    assert np.abs(changed(grey(shape), Blur(), BlurParams(tuple(sigmas))) - wanted).max() < 1e-5


def test_blur_leaves_an_axis_alone_that_it_is_not_drawn_for():
    wanted = gaussian_filter(grey(), (0, 0.8, 0.8), mode="mirror", truncate=3)
    assert np.abs(changed(grey(), Blur(), BlurParams((0.0, 0.8, 0.8))) - wanted).max() < 1e-5
