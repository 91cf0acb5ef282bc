import math

import numpy as np

from helpers.augmentation import changed, grey
from voxelry.augmentation.spike import Spike, SpikeParams


def test_spike_is_one_point_of_k_space():
    made = changed(grey(), Spike(), SpikeParams(0.7, 1.0, (3, -2, 4)))
    spectrum = np.abs(np.fft.fftn(made.astype(float) - grey()))
    peaks = np.argwhere(spectrum > 0.01 * spectrum.max())
    assert sorted(map(tuple, peaks.tolist())) == sorted([(3, 15 - 2, 4), (14 - 3, 2, 17 - 4)])
    assert math.isclose((made - grey()).max(), 0.7 * grey().std(), rel_tol=0.02)
