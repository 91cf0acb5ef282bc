import numpy as np

from helpers.augmentation import changed, grey
from voxelry.augmentation.brightness import Brightness, BrightnessParams


def test_brightness_multiplies():
    assert np.allclose(changed(grey(), Brightness(), BrightnessParams(1.2)), grey() * 1.2)
