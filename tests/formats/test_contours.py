"""Contours as voxels: against scikit-image and brute force, and the rule at the rim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage.measure import find_contours, label
from skimage.measure import points_in_poly as inside_of

from voxelry.formats.contours import EDGE_TOLERANCE, fill

SHAPE = (23, 17)
SQUARE = np.array([(2.5, 3.5), (6.5, 3.5), (6.5, 8.5), (2.5, 8.5)])


def mask_of(contours, shape=SHAPE, **options):
    found = fill([np.asarray(points, dtype=float) for points in contours], shape, **options)
    mask = np.zeros(shape, dtype=bool)
    columns, rows = found.inside.shape
    mask[found.start[0] : found.start[0] + columns, found.start[1] : found.start[1] + rows] = found.inside
    return mask, found


def centres(shape=SHAPE):
    return np.argwhere(np.ones(shape, dtype=bool)).astype(float)


def distance_to(points, centre):
    """From each centre to the outline, by brute force."""
    nearest = np.full(len(centre), np.inf)
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        run = b - a
        along = ((centre - a) @ run / max(run @ run, 1e-300)).clip(0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(centre - a - along[:, None] * run, axis=1))
    return nearest


def edges_of(mask):
    """Outlines along voxel edges: the corner points of each boundary, walked by brute force."""
    padded = np.pad(mask, 1)
    follow = {}
    for x, y in np.argwhere(padded):
        corners = [(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)]
        for k, (dx, dy) in enumerate([(0, -1), (1, 0), (0, 1), (-1, 0)]):
            if not padded[x + dx, y + dy]:
                follow.setdefault(corners[k], []).append(corners[(k + 1) % 4])
    loops = []
    while follow:
        start = at = next(iter(follow))
        loop = []
        while True:
            loop.append(at)
            onward = follow[at].pop()
            if not follow[at]:
                del follow[at]
            at = onward
            if at == start:
                break
        loops.append(np.array(loop, dtype=float) - 1.5)
    return loops


def _coordinates(low, high):
    """Numbers of at most nine decimals: squares of an outline's 1e-200 vanish in the oracle."""
    return st.floats(low, high).map(lambda value: round(value, 9))


@settings(max_examples=150)
@given(st.lists(st.tuples(_coordinates(-4, 27), _coordinates(-4, 21)), min_size=3, max_size=12))
@example([(0.0, 1.0), (1.0, 0.0), (2.0, 5e-324)])
def test_any_polygon_as_skimage_has_it(points):
    """Centres nearer to the outline than the tolerance belong to it; the others are as the even-odd rule has them."""
    polygon = np.array(points)
    mask, _ = mask_of([polygon])
    expected = inside_of(centres(), polygon)
    away = distance_to(polygon, centres())
    clear = away > 2 * EDGE_TOLERANCE
    np.testing.assert_array_equal(mask.ravel()[clear], expected[clear])
    assert mask.ravel()[away < 0.5 * EDGE_TOLERANCE].all()


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_outlines_along_voxel_edges_come_back_exactly(seed, share):
    """Any mask, holes and islands in holes too; each boundary a contour of its own."""
    mask = np.random.default_rng(seed).random(SHAPE) < share
    mask = np.kron(mask[::3, ::3], np.ones((3, 3), dtype=bool))[: SHAPE[0], : SHAPE[1]]  # no corners that touch
    mask = largest_without_diagonals(mask)
    if mask.any():
        found, _ = mask_of(edges_of(mask))
        np.testing.assert_array_equal(found, mask)


def largest_without_diagonals(mask):
    """Fill until no two voxels meet at a corner alone, where an outline along edges is ambiguous."""
    mask = mask.copy()
    while True:
        a, b, c, d = mask[:-1, :-1], mask[1:, 1:], mask[1:, :-1], mask[:-1, 1:]
        bad = (a & b & ~c & ~d) | (c & d & ~a & ~b)
        if not bad.any():
            return mask
        x, y = np.argwhere(bad)[0]
        mask[x : x + 2, y : y + 2] = True


def test_outlines_through_voxel_centres_keep_their_rim():
    """As OpenCV and rt-utils trace: the rim's own centres are the points."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[3:9, 4:12] = True
    mask[5, 12:15] = True
    outline = [(3, 4), (8, 4), (8, 11), (5, 11), (5, 14), (5, 11), (3, 11)]
    np.testing.assert_array_equal(mask_of([outline])[0], mask)
    rounded = np.round(np.array(outline) * 0.7, 2) / 0.7
    np.testing.assert_array_equal(mask_of([rounded])[0], mask)
    np.testing.assert_array_equal(np.argwhere(mask_of([[(6, 7)]])[0]), [(6, 7)])
    np.testing.assert_array_equal(np.argwhere(mask_of([[(6, 7), (8, 7)]])[0]), [(6, 7), (7, 7), (8, 7)])


def test_a_hole_by_a_second_contour_and_by_a_keyhole():
    inner = np.array([(3.5, 4.5), (5.5, 4.5), (5.5, 7.5), (3.5, 7.5)])
    expected = mask_of([SQUARE])[0] & ~mask_of([inner])[0]
    np.testing.assert_array_equal(mask_of([inner, SQUARE])[0], expected)
    keyhole = np.concatenate([SQUARE, SQUARE[:1], inner[[0, 3, 2, 1, 0]], SQUARE[:1]])
    np.testing.assert_array_equal(mask_of([keyhole])[0], expected)
    island = np.array([(3.5, 5.5), (4.5, 5.5), (4.5, 6.5), (3.5, 6.5)])
    expected[4, 6] = True
    np.testing.assert_array_equal(mask_of([SQUARE, inner, island])[0], expected)


def test_a_hole_traced_through_centres_keeps_the_rim():
    outer = [(2, 2), (8, 2), (8, 8), (2, 8)]
    inner = [(4, 4), (6, 4), (6, 6), (4, 6)]
    mask, _ = mask_of([outer, inner])
    assert mask.sum() == 49 - 1
    assert not mask[5, 5]


def test_contours_that_overlap_in_part_are_joined_and_copies_dropped():
    moved = SQUARE + np.array((2, 1))
    mask, found = mask_of([SQUARE, moved, SQUARE[::-1]])
    assert mask.sum() == 4 * 5 * 2 - 2 * 4
    assert (found.overlaps, found.repeated) == (1, 1)
    nearly, _ = mask_of([SQUARE, SQUARE * 1.001])
    assert nearly.sum() == 20


@settings(max_examples=100)
@given(st.lists(st.lists(st.tuples(st.floats(-4, 27), st.floats(-4, 21)), min_size=3, max_size=6), min_size=1, max_size=5))
def test_exclusive_contours_are_xored_as_skimage_fills_them(contours):
    """In any order, doubled ones too; centres nearer to an outline than the tolerance may go either way."""
    polygons = [np.array(points) for points in contours]
    mask, _ = mask_of(polygons, exclusive=True)
    expected = np.logical_xor.reduce([inside_of(centres(), polygon) for polygon in polygons])
    clear = np.min([distance_to(polygon, centres()) for polygon in polygons], axis=0) > 2 * EDGE_TOLERANCE
    np.testing.assert_array_equal(mask.ravel()[clear], expected[clear])
    np.testing.assert_array_equal(mask_of(polygons[::-1], exclusive=True)[0], mask)


def test_exclusive_contours_cancel_where_they_are_doubled():
    assert not mask_of([SQUARE, SQUARE[::-1]], exclusive=True)[0].any()
    assert mask_of([SQUARE] * 3, exclusive=True)[0].sum() == 20
    assert mask_of([SQUARE, SQUARE + 50], exclusive=True)[0].sum() == 20


def test_exclusive_contours_through_centres_keep_the_rims_of_what_is_left():
    outer = np.array([(2, 2), (8, 2), (8, 8), (2, 8)])
    inner = np.array([(4, 4), (6, 4), (6, 6), (4, 6)])
    np.testing.assert_array_equal(mask_of([inner, outer], exclusive=True)[0], mask_of([outer, inner])[0])
    half = np.array([(2, 2), (5, 2), (5, 8), (2, 8)])
    mask, _ = mask_of([outer, half], exclusive=True)
    np.testing.assert_array_equal(mask, mask_of([[(5, 2), (8, 2), (8, 8), (5, 8)]])[0])


def test_what_lies_outside_is_cut():
    mask, found = mask_of([SQUARE - np.array((4, 5))])
    np.testing.assert_array_equal(np.argwhere(mask), [(x, y) for x in range(3) for y in range(4)])
    assert found.clipped
    assert not mask_of([SQUARE])[1].clipped
    assert not mask_of([SQUARE + 100])[0].any()
    whole = [(-0.5, -0.5), (SHAPE[0] - 0.5, -0.5), (SHAPE[0] - 0.5, SHAPE[1] - 0.5), (-0.5, SHAPE[1] - 0.5)]
    mask, found = mask_of([whole])
    assert mask.all()
    assert not found.clipped


@pytest.mark.parametrize("value", [1e300, -1e18, 1e9])
def test_absurd_coordinates_neither_hang_nor_warn(value):
    mask_of([[(2.5, 3.5), (value, 3.5), (6.5, 8.5)]])
    mask_of([[(value, value), (-value, 3.5), (6.5, -value)]])


def test_smooth_shapes_have_the_area_of_their_polygon():
    y, x = np.mgrid[:60, :60]
    outline = find_contours(((x - 30.2) ** 2 / 400 + (y - 28.7) ** 2 / 150 < 1).astype(float), 0.5)[0]
    mask, _ = mask_of([outline], (60, 60))
    assert label(mask).max() == 1
    assert mask.sum() == pytest.approx(np.pi * np.sqrt(400 * 150), rel=0.02)
