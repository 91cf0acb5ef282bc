"""The CPU's changes of grey values against scipy, MONAI, closed forms and brute force, and against the GPU's code."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter

from helpers.plans import SIDED, tiny_network, tiny_plan
from voxelry.augmentation.augment import Augmenter
from voxelry.augmentation.draw import ORDER, Change
from voxelry.augmentation.gpu_augmentation import augment_batch
from voxelry.augmentation.intensity import change_channel, moved_image
from voxelry.recipes.settings import AugmentSettings

OFF = dict.fromkeys(("rotation_p", "scale_p", "flip", *ORDER), 0)


def changed(image, kind, *numbers):
    copy = np.ascontiguousarray(image, dtype=np.float32).copy()
    change_channel(copy, Change(kind=kind, channel=0, numbers=numbers))
    return copy


def grey(shape=(14, 15, 17), seed=0):
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1).astype(np.float32) * 3 + 0.4


@pytest.mark.parametrize("shape", [(14, 15, 17), (20, 22), (3, 40, 5)])
@pytest.mark.parametrize("sigma", [0.5, 0.77, 1.0])
def test_blur_as_scipy(shape, sigma):
    sigmas = [sigma * (1 - 0.2 * axis) for axis in range(len(shape))]
    wanted = gaussian_filter(grey(shape), sigmas, mode="mirror", truncate=3)
    assert np.abs(changed(grey(shape), "blur", *sigmas) - wanted).max() < 1e-5


def test_blur_leaves_an_axis_alone_that_it_is_not_drawn_for():
    wanted = gaussian_filter(grey(), (0, 0.8, 0.8), mode="mirror", truncate=3)
    assert np.abs(changed(grey(), "blur", 0.0, 0.8, 0.8) - wanted).max() < 1e-5


@pytest.mark.parametrize(("shape", "coarse"), [((14, 15, 17), (7, 9, 11)), ((20, 22), (13, 22)), ((6, 40, 5), (6, 20, 3))])
def test_low_resolution_as_torch_makes_it(shape, coarse):
    image = torch.from_numpy(grey(shape))[None, None]
    small = torch.nn.functional.interpolate(image, coarse, mode="nearest-exact")
    wanted = torch.nn.functional.interpolate(small, shape, mode="trilinear" if len(shape) == 3 else "bilinear")[0, 0]
    assert np.abs(changed(grey(shape), "low_resolution", *map(float, coarse)) - wanted.numpy()).max() < 1e-5


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_as_monai(exponent, inverted):
    from monai.transforms import AdjustContrast

    wanted = AdjustContrast(exponent, invert_image=inverted, retain_stats=True)(torch.from_numpy(grey())).numpy()
    made = changed(grey(), "inverted_gamma" if inverted else "gamma", exponent)
    assert np.abs(made - wanted).max() < 2e-4
    assert abs(made.mean() - grey().mean()) < 1e-5
    assert abs(made.std() - grey().std()) < 1e-5


@pytest.mark.parametrize("factor", [0.75, 1.2])
def test_contrast_as_monai(factor):
    from monai.transforms import ScaleIntensityFixedMean

    wanted = ScaleIntensityFixedMean(factor - 1, preserve_range=True)(torch.from_numpy(grey())).numpy()
    assert np.abs(changed(grey(), "contrast", factor) - wanted).max() < 1e-5


def test_brightness_and_the_negative():
    assert np.allclose(changed(grey(), "brightness", 1.2), grey() * 1.2)
    assert np.allclose(changed(grey(), "invert"), grey().max() + grey().min() - grey(), atol=1e-5)


def test_histogram_as_numpy_interpolates():
    knots, image = [0.0, 0.15, 0.5, 0.55, 0.9, 1.0], grey()
    low, width = image.min(), np.ptp(image)
    wanted = low + np.interp((image - low) / width, np.linspace(0, 1, 6), knots) * width
    assert np.abs(changed(image, "histogram", *knots) - wanted).max() < 1e-5


def test_noise_is_normal_independent_and_its_own():
    zero = np.zeros((40, 50, 61), np.float32)
    one, two = (changed(zero, "noise", 2.0, float(key)).ravel() for key in (5, 6))
    assert stats.kstest(one / 2, "norm").pvalue > 1e-3
    for lag in (1, 2, 61, 61 * 50):
        assert abs(np.corrcoef(one[:-lag], one[lag:])[0, 1]) < 0.015
        assert abs(np.corrcoef(one[:-lag], two[lag:])[0, 1]) < 0.015
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.015
    assert np.array_equal(one, changed(zero, "noise", 2.0, 5.0).ravel())


def test_collimator_blackens_and_ignores():
    made = changed(grey((10, 12)), "collimator", 2.0, 9.0, 0.0, 12.0)
    assert (made[[0, 1, 9]] == grey((10, 12)).min()).all()
    assert np.array_equal(made[2:9], grey((10, 12))[2:9])
    change = Augmenter(tiny_plan(2, patch_size=(40, 40)), AugmentSettings(set="recipe", **(OFF | {"collimator": 1})), SIDED)
    for seed in range(9):
        drawn = change.draw(seed)
        first, last, left, right = map(int, drawn.changes[0].numbers)
        labels = change.apply(drawn, np.zeros(2, np.int64), grey((1, 40, 40)), np.ones((40, 40), np.int16))[1]
        wanted = torch.full((40, 40), -1)
        wanted[first:last, left:right] = 1
        assert torch.equal(labels, wanted)


def test_bias_field_as_monai():
    """MONAI's own field of the same coefficients, of an image whose air is 0."""
    from monai.transforms import RandBiasField

    field = RandBiasField(degree=3, coeff_range=(-0.4, 0.4))
    drawn = np.random.default_rng(1).uniform(-0.4, 0.4, 20)
    wanted = np.exp(field._generate_random_field((14, 15, 17), 3, drawn))
    full = np.zeros((4, 4, 4))  # MONAI fills the coefficients whose degrees sum up to at most 3 in this order
    full.reshape(-1)[[16 * i + 4 * j + k for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]] = drawn
    image = grey() - grey().min()
    made = changed(image, "bias_field", 4.0, 4.0, 4.0, *full.ravel())
    assert np.allclose(made, image * wanted, atol=1e-4)


def test_ghosting_as_in_k_space():
    for axis, size in enumerate((14, 15, 17)):
        line = np.abs(np.rint(np.fft.fftfreq(size) * size))
        kept = np.where((line % 4 == 0) & (line > 0), 0.4, 1.0)
        spectrum = np.fft.fft(grey(), axis=axis) * kept.reshape([-1 if other == axis else 1 for other in range(3)])
        assert np.abs(changed(grey(), "ghosting", float(axis), 4.0, 0.6) - np.fft.ifft(spectrum, axis=axis).real).max() < 1e-4


def test_motion_as_in_k_space():
    """The lines up to 0.6 of k-space are of the first pose, the others of the second; a scanner shows the real part."""
    matrix = np.array([[1, 0.02, 0, 0.3], [-0.02, 1, 0, 0.8], [0, 0, 1, -0.6]])
    for axis, size in enumerate((14, 15, 17)):
        late = np.fft.fftfreq(size) + 0.5 >= 0.6
        late = late.reshape([-1 if other == axis else 1 for other in range(3)])
        both = np.where(late, np.fft.fft(moved_image(grey(), matrix), axis=axis), np.fft.fft(grey(), axis=axis))
        made = changed(grey(), "motion", float(axis), 0.6, *matrix.ravel())
        assert np.abs(made - np.fft.ifft(both, axis=axis).real).max() < 1e-4


def test_spike_is_one_point_of_k_space():
    made = changed(grey(), "spike", 0.7, 1.0, 3.0, -2.0, 4.0)
    spectrum = np.abs(np.fft.fftn(made.astype(float) - grey()))
    found = np.argwhere(spectrum > 0.01 * spectrum.max())
    assert sorted(map(tuple, found.tolist())) == sorted([(3, 15 - 2, 4), (14 - 3, 2, 17 - 4)])
    assert math.isclose((made - grey()).max(), 0.7 * grey().std(), rel_tol=0.02)


@pytest.mark.parametrize("kind", ORDER)
@pytest.mark.parametrize("value", [0.0, -1.5])
def test_a_window_of_one_value_stays_finite(kind, value):
    change = Augmenter(tiny_plan(), AugmentSettings(set="recipe", **(OFF | {kind: 1, "per_channel": 1})), SIDED)
    drawn = change.draw(0)
    assert {one.kind for one in drawn.changes} == {kind}
    made = change.apply(drawn, np.zeros(3, np.int64), np.full((1, 8, 8, 8), value, np.float32), np.zeros((8, 8, 8), np.int16))
    assert torch.isfinite(made[0]).all()


TOGETHER = [{}, {"flip": 1}, {"rotation_p": 1, "scale_p": 1, "flip": 1}, {"rotation_p": 1, "elastic": 1}]


@pytest.mark.parametrize("parts", [*TOGETHER, *({kind: 1} for kind in ORDER)], ids=str)
@pytest.mark.parametrize(
    ("patch", "changes"),
    [((16, 20, 24), {}), ((24, 20), {}), ((4, 20, 16), {"coarse_axis": 0}), ((12, 16, 12), {"configuration": "3d_cascade"})],
)
def test_the_device_changes_a_batch_as_the_cpu_does(patch, changes, parts):
    chosen = AugmentSettings(set="recipe", **(OFF | parts | {"per_channel": 0.7}))
    network = tiny_network(len(patch), strides=((1,) * len(patch),) * 3)
    plan = tiny_plan(len(patch), patch_size=patch, channels=("a", "b"), network=network, **changes)
    change = Augmenter(plan, chosen, SIDED)
    draws = [change.draw(seed) for seed in range(3)]
    reached = [change.reach(drawn) for drawn in draws]
    size = tuple(np.max([one for _, one in reached], axis=0).tolist())
    rng = np.random.default_rng(0)
    classes = rng.integers(-1, 4, (3, *size)).astype(np.int16)
    image = rng.normal(size=(3, 2 + change.cascade, *size)).astype(np.float16)
    if change.cascade:
        image[:, 2] = np.maximum(classes, 0)
    made, labels = augment_batch(torch.from_numpy(image), torch.from_numpy(classes), draws, change)
    for window, (drawn, (first, _)) in enumerate(zip(draws, reached, strict=True)):
        wanted, indices = change.apply(drawn, first, image[window], classes[window])
        assert (labels[window] != indices).float().mean() < 1e-3  # at exactly half a voxel
        assert (made[window, :2] - wanted[:2]).abs().max() < 1e-3
        assert (made[window, 2:] != wanted[2:]).sum() < 1e-3 * wanted.numel()
    assert (made.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_all_at_once_on_the_device():
    chosen = AugmentSettings(set="recipe", **dict.fromkeys(OFF, 1))
    plan = tiny_plan(3, patch_size=(16, 16, 16), normalisation=({"scheme": "mask"},))
    change = Augmenter(plan, chosen, SIDED)
    draws = [change.draw(seed) for seed in (0, 1)]
    reached = [change.reach(drawn) for drawn in draws]
    size = tuple(np.max([one for _, one in reached], axis=0).tolist())
    image = np.random.default_rng(0).normal(size=(2, 1, *size)).astype(np.float32)
    classes = np.zeros((2, *size), np.int16)
    made, _ = augment_batch(torch.from_numpy(image), torch.from_numpy(classes), draws, change)
    for window, (drawn, (first, _)) in enumerate(zip(draws, reached, strict=True)):
        assert (made[window] - change.apply(drawn, first, image[window], classes[window])[0]).abs().max() < 5e-3
