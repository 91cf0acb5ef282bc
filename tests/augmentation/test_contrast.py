import numpy as np
import pytest
import torch

from helpers.augmentation import changed, grey
from voxelry.augmentation.contrast import Contrast, ContrastParams


@pytest.mark.parametrize("factor", [0.75, 1.2])
def test_contrast_as_monai(factor):
    from monai.transforms import ScaleIntensityFixedMean

    wanted = ScaleIntensityFixedMean(factor - 1, preserve_range=True)(torch.from_numpy(grey())).numpy()
    assert np.abs(changed(grey(), Contrast(), ContrastParams(factor)) - wanted).max() < 1e-5
