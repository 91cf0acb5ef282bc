import numpy as np

from helpers.augmentation import changed, grey
from voxelry.augmentation.invert import Invert, InvertParams


def test_the_negative_keeps_the_range():
    assert np.allclose(changed(grey(), Invert(), InvertParams()), grey().max() + grey().min() - grey(), atol=1e-5)
