import numpy as np
import pytest
from skimage.morphology import skeletonize

from voxelry.metrics.centreline import mask_cldice
from voxelry.metrics.empty_policy import EmptyPolicy


def tube(length=40, shift=0, axis=0):
    mask = np.zeros((50, 15, 15), bool)
    mask[2 : 2 + length, 6 + shift : 9 + shift, 6:9] = True
    return np.moveaxis(mask, 0, axis)


def test_the_formula_of_the_paper():
    rng = np.random.default_rng(0)
    reference, prediction = rng.random((2, 20, 20)) < 0.5
    precision = (skeletonize(prediction) & reference).sum() / skeletonize(prediction).sum()
    sensitivity = (skeletonize(reference) & prediction).sum() / skeletonize(reference).sum()
    assert mask_cldice(reference, prediction) == pytest.approx(2 * precision * sensitivity / (precision + sensitivity), abs=1e-12)


@pytest.mark.parametrize("axis", range(3))
def test_a_tube_with_half_its_length(axis):
    assert mask_cldice(tube(axis=axis), tube(axis=axis)) == 1
    assert mask_cldice(tube(40, axis=axis), tube(20, axis=axis)) == pytest.approx(2 * 0.5 / 1.5, abs=0.05)


def test_thickness_does_not_matter_but_position_does():
    thick = np.zeros((50, 15, 15), bool)
    thick[2:42, 5:10, 5:10] = True
    assert mask_cldice(tube(), thick) == 1
    assert mask_cldice(tube(), tube(shift=5)) == 0


def test_empty_masks():
    empty = np.zeros_like(tube())
    assert np.isnan(mask_cldice(empty, empty))
    assert mask_cldice(tube(), empty) == mask_cldice(empty, tube()) == 0
    assert mask_cldice(empty, empty, EmptyPolicy(both=1.0)) == 1
