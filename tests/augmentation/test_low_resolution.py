import numpy as np
import pytest
import torch

from helpers.augmentation import augmenter, changed, grey, only, params_of
from voxelry.augmentation.low_resolution import LowResolution, LowResolutionParams


@pytest.mark.parametrize(("shape", "coarse"), [((14, 15, 17), (7, 9, 11)), ((20, 22), (13, 22)), ((6, 40, 5), (6, 20, 3))])
def test_low_resolution_as_torch_makes_it(shape, coarse):
    image = torch.from_numpy(grey(shape))[None, None]
    small = torch.nn.functional.interpolate(image, coarse, mode="nearest-exact")
    wanted = torch.nn.functional.interpolate(small, shape, mode="trilinear" if len(shape) == 3 else "bilinear")[0, 0]
    assert np.abs(changed(grey(shape), LowResolution(), LowResolutionParams(coarse)) - wanted.numpy()).max() < 1e-5


def test_an_anisotropic_patch_becomes_coarse_within_its_planes_alone():
    flat = augmenter(only(low_resolution_p=1, low_resolution_scale=(0.5, 0.5)), (5, 24, 20))
    cubic = augmenter(only(low_resolution_p=1, low_resolution_scale=(0.5, 0.5)), (12, 24, 20))
    assert {drawn.shape for drawn in params_of(flat.draw(0), "low_resolution")} == {(5, 12, 10)}
    assert {drawn.shape for drawn in params_of(cubic.draw(0), "low_resolution")} == {(6, 12, 10)}
