import numpy as np
import torch

from helpers.augmentation import augmenter, changed, grey, only
from voxelry.augmentation.collimator import Collimator, CollimatorParams


def test_collimator_blackens_and_ignores():
    made = changed(grey((10, 12)), Collimator(), CollimatorParams((2, 0), (9, 12)))
    assert (made[[0, 1, 9]] == grey((10, 12)).min()).all()
    assert np.array_equal(made[2:9], grey((10, 12))[2:9])
    change = augmenter(only(collimator_p=1), (40, 40))
    for seed in range(9):
        drawn = change.draw(seed)
        (first, left), (last, right) = drawn.changes[0].params
        labels = change.apply(drawn, np.zeros(2, np.int64), grey((1, 40, 40)), np.ones((40, 40), np.int16))[1]
        wanted = torch.full((40, 40), -1)
        wanted[first:last, left:right] = 1
        assert torch.equal(labels, wanted)
