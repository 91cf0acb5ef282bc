import warnings

import numpy as np
import pytest
import torch

from plans import SIDED, tiny_plan
from voxelry.config import AugmentSettings
from voxelry.errors import ConfigError
from voxelry.labels import IGNORE_INDEX
from voxelry.prepare.augment import Augmenter

OFF = {"spatial": 0, "noise": 0, "blur": 0, "brightness": 0, "contrast": 0, "gamma": 0}
ALL = AugmentSettings(spatial=1, noise=1, blur=1, brightness=1, contrast=1, gamma=1, flip_axes=(0, 1))


def window(dimensions=3, edge=12):
    rng = np.random.default_rng(0)
    shape = (edge,) * dimensions
    return rng.normal(size=(1, *shape)).astype(np.float32), rng.integers(-1, 4, shape).astype(np.int16)


def augmenter(settings, dimensions=3, edge=12):
    return Augmenter(tiny_plan(dimensions, patch_size=(edge,) * dimensions), settings, SIDED)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_one_seed_repeats_a_window_whatever_came_before(dimensions):
    image, classes = window(dimensions)
    first = augmenter(ALL, dimensions)
    expected = first(image, classes, 7)
    other = augmenter(ALL, dimensions)
    for seed in (1, 2, 3):
        other(image, classes, seed)
    torch.manual_seed(99)
    np.random.seed(99)
    for one, two in zip(expected, other(image, classes, 7), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(expected[0], first(image, classes, 8)[0])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_shapes_types_and_values(dimensions):
    image, classes = window(dimensions)
    changed, labels = augmenter(ALL, dimensions)(image, classes, 3)
    assert (changed.shape, changed.dtype) == (image.shape, torch.float32)
    assert (labels.shape, labels.dtype) == (classes.shape, torch.int64)
    assert type(changed) is torch.Tensor
    assert type(labels) is torch.Tensor
    assert changed.is_contiguous()
    assert set(labels.unique().tolist()) <= {-1, 0, 1, 2, 3}
    assert torch.isfinite(changed).all()


def test_nothing_is_changed_at_probability_zero():
    image, classes = window()
    before = image.copy(), classes.copy()
    changed, labels = augmenter(AugmentSettings(**OFF))(image, classes, 5)
    assert np.array_equal(changed.numpy(), image)
    assert np.array_equal(labels.numpy(), classes)
    augmenter(ALL)(image, classes, 5)
    assert np.array_equal(image, before[0])
    assert np.array_equal(classes, before[1])


@pytest.mark.parametrize(("axis", "sided"), [(0, True), (1, False), (2, False)])
def test_flips_across_the_sides_of_the_body_swap_the_twins(axis, sided):
    image, classes = window()
    change = augmenter(AugmentSettings(**OFF, flip_axes=(axis,)))
    twin = {-1: -1, 0: 0, 1: 2, 2: 1, 3: 3} if sided else {value: value for value in range(-1, 4)}
    mirrored = np.vectorize(twin.get)(np.flip(classes, axis))
    seen = set()
    for seed in range(12):
        changed, labels = change(image, classes, seed)
        flipped = not np.array_equal(changed.numpy(), image)
        seen.add(flipped)
        assert np.array_equal(changed.numpy(), np.flip(image, axis + 1) if flipped else image)
        assert np.array_equal(labels.numpy(), mirrored if flipped else classes)
    assert seen == {True, False}


def test_voxels_from_beyond_the_window_are_ignored_and_the_rest_kept():
    classes = np.full((12, 12), 2, dtype=np.int16)
    image = np.ones((1, 12, 12), dtype=np.float32)
    settings = AugmentSettings(**(OFF | {"spatial": 1}), rotation=0, scale=(0.5, 0.5), shift=0)
    changed, labels = augmenter(settings, 2)(image, classes, 0)
    expected = torch.full((12, 12), IGNORE_INDEX)
    expected[3:9, 3:9] = 2
    assert torch.equal(labels, expected)
    assert torch.allclose(changed, torch.ones(1, 12, 12))


def test_a_scale_above_one_enlarges():
    classes = np.zeros((12, 12), dtype=np.int16)
    classes[4:8, 4:8] = 1
    settings = AugmentSettings(**(OFF | {"spatial": 1}), rotation=0, scale=(1.5, 1.5), shift=0)
    labels = augmenter(settings, 2)(np.zeros((1, 12, 12), np.float32), classes, 0)[1]
    assert int((labels == 1).sum()) == 36


def test_image_and_labels_move_together():
    ball = np.linalg.norm(np.indices((24, 24, 24)) - np.array([9.0, 13, 12])[:, None, None, None], axis=0) < 7
    settings = AugmentSettings(**(OFF | {"spatial": 1}), rotation=30, scale=(0.8, 1.2), shift=0.1)
    changed, labels = augmenter(settings, 3, 24)(ball[None].astype(np.float32), ball.astype(np.int16), 4)
    one, two = changed[0] > 0.5, labels == 1
    assert 2 * (one & two).sum() / (one.sum() + two.sum()) > 0.93
    assert not np.array_equal(two.numpy(), ball)


def test_no_warning_is_given():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augmenter(ALL)(*window(), 1)


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"augment.flip_axes names axis 2; the data have axes 0..1"):
        augmenter(AugmentSettings(flip_axes=(0, 2)), 2)
