import numpy as np
import pytest
import torch

from helpers.augmentation import changed, grey
from voxelry.augmentation.gamma import Gamma, GammaParams, InvertedGamma


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_as_monai(exponent, inverted):
    from monai.transforms import AdjustContrast

    wanted = AdjustContrast(exponent, invert_image=inverted, retain_stats=True)(torch.from_numpy(grey())).numpy()
    made = changed(grey(), InvertedGamma() if inverted else Gamma(), GammaParams(exponent))
    assert np.abs(made - wanted).max() < 2e-4
    assert abs(made.mean() - grey().mean()) < 1e-5
    assert abs(made.std() - grey().std()) < 1e-5
