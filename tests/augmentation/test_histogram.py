import numpy as np

from helpers.augmentation import changed, grey
from voxelry.augmentation.histogram import Histogram, HistogramParams


def test_histogram_as_numpy_interpolates():
    knots, image = [0.0, 0.15, 0.5, 0.55, 0.9, 1.0], grey()
    low, width = image.min(), np.ptp(image)
    wanted = low + np.interp((image - low) / width, np.linspace(0, 1, 6), knots) * width
    assert np.abs(changed(image, Histogram(), HistogramParams(tuple(knots))) - wanted).max() < 1e-5
