"""The fit of a mask: where a moved mask belongs is found whatever the contrast, and nothing is claimed without one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.datasets.mask_fit import fit_mask


def block(shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(size // 4, size // 2) for size in shape)] = True
    return mask


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), st.sampled_from([-200.0, 50.0]))
def test_the_shift_that_fits_is_the_one_that_was_made(shift, contrast):
    mask = block((40, 48))
    image = 10 + contrast * mask + np.random.default_rng(0).normal(0, 2, mask.shape)
    fit = fit_mask(image, np.roll(mask, shift, (0, 1)))
    assert fit is not None
    back = tuple(-step for step in shift)
    assert (fit.highest_shift if contrast > 0 else fit.lowest_shift) == back
    assert max(abs(fit.highest), abs(fit.lowest)) == pytest.approx(1, abs=0.25)


def test_a_mirrored_mask_fits_mirrored_back():
    mask = block((40, 36, 30))
    fit = fit_mask(mask.astype(np.int16), np.flip(mask, 2))
    assert fit is not None
    assert np.argmax(fit.mirrored) == 2
    assert fit.mirrored[2] > 0.6 > 0.2 > abs(fit.step)


def test_shifts_of_large_images_are_in_their_own_voxels():
    mask = block((300, 260))
    fit = fit_mask(mask.astype(np.float32), np.roll(mask, 15, 0))
    assert fit is not None
    assert abs(fit.highest_shift[0] + 15) <= 5
    assert fit.highest_shift[1] == 0


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (np.ones((9, 9)), np.eye(9, dtype=bool)),
        (np.arange(81.0).reshape(9, 9), np.zeros((9, 9), bool)),
        (np.arange(81.0).reshape(9, 9), np.ones((9, 9), bool)),
    ],
)
def test_nothing_is_said_of_what_has_no_surface_or_no_contrast(image, mask):
    assert fit_mask(image, mask) is None
