import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label, points_in_poly

from voxelry.formats.outline import area, outlines, pixels_inside

MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def filled(rings, shape):
    """The pixels whose centres lie within the polygons, by scikit-image; how often each."""
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 2)
    return sum((points_in_poly(centres, ring).astype(int) for ring in rings), np.zeros(len(centres), int)).reshape(shape)


@given(MASKS)
def test_filled_outlines_are_the_mask(mask):
    rings = outlines(mask)
    np.testing.assert_array_equal(filled(rings, mask.shape), mask)
    assert sum(map(area, rings)) == mask.sum()
    assert len(rings) == label(mask, connectivity=1).max()


@given(MASKS)
def test_vertices_lie_on_corners_of_pixels_where_the_outline_turns(mask):
    for ring in outlines(mask):
        assert (np.abs(ring % 1) == 0.5).all()
        steps = np.roll(ring, -1, axis=0) - ring
        assert ((steps != 0).sum(axis=1) == 1).all()
        assert (np.sign(steps) != np.sign(np.roll(steps, 1, axis=0))).any(axis=1).all()


def test_a_hole_is_joined_by_a_channel_of_no_width():
    mask = np.ones((5, 4), bool)
    mask[2, 2] = False
    (ring,) = outlines(mask)
    assert ring.tolist().count([-0.5, 1.5]) == 2
    assert len(ring) == 10
    np.testing.assert_array_equal(filled([ring], mask.shape), mask)


def test_holes_within_holes_and_rows_of_holes():
    mask = np.zeros((13, 13), bool)
    mask[1:12, 1:12] = True
    mask[3:10, 3:10] = False
    mask[5:8, 5:8] = True
    mask[6, 6] = False
    rings = outlines(mask)
    assert len(rings) == 2
    np.testing.assert_array_equal(filled(rings, mask.shape), mask)
    comb = np.ones((15, 3), bool)
    comb[1::2, 1] = False
    (ring,) = outlines(comb)
    np.testing.assert_array_equal(filled([ring], comb.shape), comb)


@pytest.mark.parametrize("mask", [np.zeros((3, 4), bool), np.zeros((1, 1), bool)])
def test_nothing_has_no_outline(mask):
    assert outlines(mask) == []


def test_a_lone_pixel_and_views_of_any_order():
    (ring,) = outlines(np.ones((1, 1), bool))
    assert sorted(ring.tolist()) == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]
    mask = np.random.default_rng(0).random((8, 9)) < 0.6
    for one, other in zip(outlines(mask), outlines(np.asfortranarray(mask)[:, :]), strict=True):
        np.testing.assert_array_equal(one, other)


def disc(radius, hole=0):
    y, x = np.mgrid[:64, :64] - 31.5
    return (x**2 + y**2 < radius**2) & (x**2 + y**2 >= hole**2)


@pytest.mark.parametrize("mask", [disc(24), disc(24, 9), disc(3)])
def test_smooth_outlines_keep_the_area_and_lose_the_steps(mask):
    smooth, steps = outlines(mask, smooth=True), outlines(mask)
    assert sum(map(area, smooth)) == pytest.approx(mask.sum(), rel=2e-3)
    turn = [np.roll(ring, -1, axis=0) - ring for ring in (smooth[0], steps[0])]
    length = [np.linalg.norm(step, axis=1).sum() for step in turn]
    assert length[0] < 0.9 * length[1]
    found = filled(smooth, mask.shape) > 0
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.96


@given(MASKS)
def test_smooth_outlines_of_anything_stay_near(mask):
    rings = outlines(mask, smooth=True)
    assert sum(map(area, rings)) == pytest.approx(mask.sum(), rel=0.05)
    assert all((ring > -2).all() and (ring < np.array(mask.shape) + 1).all() for ring in rings)


def test_a_lone_pixel_is_not_smoothed_away():
    (ring,) = outlines(np.ones((1, 1), bool), smooth=True)
    assert area(ring) == 1


@given(MASKS, st.booleans())
def test_pixels_inside_are_counted_as_scikit_image_counts_them(mask, smooth):
    rings = [ring + 0.0123 for ring in outlines(mask, smooth=smooth)]
    assert [pixels_inside(ring) for ring in rings] == [sum(filled([ring + 3], (16, 16)).ravel() > 0) for ring in rings]
