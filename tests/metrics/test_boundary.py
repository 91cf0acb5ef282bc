import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from voxelry.metrics.boundary import border_voxels, mask_boundary_iou

MASKS = hnp.arrays(np.bool_, st.tuples(*[st.integers(1, 6)] * 2))


@given(MASKS)
def test_a_border_voxel_has_a_face_outside(mask):
    padded = np.pad(mask, 1)
    expected = np.zeros_like(mask)
    for i, j in np.argwhere(mask):
        around = padded[i, j + 1], padded[i + 2, j + 1], padded[i + 1, j], padded[i + 1, j + 2]
        expected[i, j] = not all(around)
    np.testing.assert_array_equal(border_voxels(mask), expected)


def authors_boundary(mask, ratio=0.02):
    """The band as the paper's code takes it: pad by one, erode by a 3 x 3 square, so many times (Cheng et al. 2021)."""
    rounds = max(1, round(ratio * np.hypot(*mask.shape)))
    eroded = np.pad(mask, 1)
    for _ in range(rounds):
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(eroded, 1), (3, 3))
        eroded = windows.all(axis=(2, 3))
    return mask & ~eroded[1:-1, 1:-1]


@pytest.mark.parametrize("size", [20, 120])
def test_agrees_with_the_authors_definition(size):
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(size, size)), 4)
    reference, prediction = noise > 0, np.roll(noise, 3, 0) > 0
    bands = authors_boundary(reference), authors_boundary(prediction)
    expected = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
    assert mask_boundary_iou(reference, prediction) == pytest.approx(expected, abs=1e-12)


def test_a_band_in_mm_follows_the_spacing():
    reference, prediction = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    reference[5:15, 5:15] = True
    prediction[5:15, 5:15] = True
    prediction[8:12, 8:12] = False
    thin = mask_boundary_iou(reference, prediction, width=1.0, spacing=(1.0, 1.0))
    assert thin == pytest.approx(36 / (36 + 20 - 4 * 1 + 0), abs=0.1)
    assert mask_boundary_iou(reference, prediction, width=1.0, spacing=(2.0, 0.5)) != pytest.approx(thin)
    assert mask_boundary_iou(reference, prediction, width=100.0) == pytest.approx(84 / 100)


@settings(max_examples=40)
@given(MASKS, st.integers(0, 99))
def test_symmetric_and_one_for_itself(mask, seed):
    other = np.random.default_rng(seed).random(mask.shape) < 0.5
    np.testing.assert_equal(mask_boundary_iou(mask, other), mask_boundary_iou(other, mask))
    assert not mask.any() or mask_boundary_iou(mask, mask) == 1


def test_empty_masks():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert np.isnan(mask_boundary_iou(empty, empty))
    assert mask_boundary_iou(full, empty) == mask_boundary_iou(empty, full) == 0
