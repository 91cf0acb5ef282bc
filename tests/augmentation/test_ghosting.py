import numpy as np

from helpers.augmentation import changed, grey
from voxelry.augmentation.ghosting import Ghosting, GhostingParams


def test_ghosting_as_in_k_space():
    for axis, size in enumerate((14, 15, 17)):
        line = np.abs(np.rint(np.fft.fftfreq(size) * size))
        kept = np.where((line % 4 == 0) & (line > 0), 0.4, 1.0)
        spectrum = np.fft.fft(grey(), axis=axis) * kept.reshape([-1 if other == axis else 1 for other in range(3)])
        assert (
            np.abs(changed(grey(), Ghosting(), GhostingParams(axis, 4, 0.6)) - np.fft.ifft(spectrum, axis=axis).real).max() < 1e-4
        )
