import numpy as np
import torch

from helpers.augmentation import augmenter, only, params_of
from voxelry.augmentation.colour import Colour, ColourParams

COLOURS = {"channels": ("red", "green", "blue"), "normalisation": ({"scheme": "image"},) * 3}


def draws(count=400):
    own = augmenter(only(colour_p=1.0), (8, 8), **COLOURS)
    return [np.array(params_of(own.draw(seed), "colour")[0].weights) for seed in range(count)]


def test_weights_are_means_and_half_of_them_grey():
    drawn = draws()
    for weights in drawn:
        assert weights.shape == (3, 3)
        assert (weights >= 0).all()
        assert np.allclose(weights.sum(1), 1)
    grey = [np.allclose(weights, weights[0]) for weights in drawn]
    assert 0.4 < np.mean(grey) < 0.6


def test_a_grey_picture_stays_as_it_is():
    image = np.repeat(np.random.default_rng(0).normal(size=(1, 6, 7)).astype(np.float32), 3, axis=0)
    for weights in draws(20):
        changed = image.copy()
        Colour().apply(changed, ColourParams(tuple(map(tuple, weights))))
        assert np.allclose(changed, image, atol=1e-5)


def test_the_same_on_a_device():
    image = np.random.default_rng(0).normal(size=(3, 6, 7)).astype(np.float32)
    for weights in draws(20):
        params, changed = ColourParams(tuple(map(tuple, weights.tolist()))), image.copy()
        Colour().apply(changed, params)
        assert np.allclose(changed, np.einsum("ij,j...->i...", weights, image), atol=1e-5)
        assert np.allclose(Colour().apply_patch(torch.from_numpy(image), params).numpy(), changed, atol=1e-5)


def test_one_channel_has_no_colour():
    own = augmenter(only(colour_p=1.0), (8, 8))
    assert not params_of(own.draw(0), "colour")
