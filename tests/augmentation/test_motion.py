import numpy as np

from helpers.augmentation import changed, grey
from voxelry.augmentation.motion import Motion, MotionParams, moved_image


def test_motion_as_in_k_space():
    """The lines up to 0.6 of k-space are of the first pose, the others of the second; a scanner shows the real part."""
    matrix = np.array([[1, 0.02, 0, 0.3], [-0.02, 1, 0, 0.8], [0, 0, 1, -0.6]])
    for axis, size in enumerate((14, 15, 17)):
        late = np.fft.fftfreq(size) + 0.5 >= 0.6
        late = late.reshape([-1 if other == axis else 1 for other in range(3)])
        both = np.where(late, np.fft.fft(moved_image(grey(), matrix), axis=axis), np.fft.fft(grey(), axis=axis))
        made = changed(grey(), Motion(), MotionParams(axis, 0.6, tuple(map(tuple, matrix.tolist()))))
        assert np.abs(made - np.fft.ifft(both, axis=axis).real).max() < 1e-4
