import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose
from scipy.ndimage import label
from scipy.spatial import ConvexHull

from voxelry.metrics.diameters import diameters

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7))
spacings = st.tuples(st.sampled_from([0.5, 0.7, 1.0, 2.3]), st.sampled_from([0.5, 0.7, 1.0, 2.3]))


def sides(mask, spacing):
    """The middles of all voxel sides of a slice, in mm."""
    at = np.argwhere(mask).astype(float)
    return np.concatenate([at + shift for shift in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))]) * spacing


def brute_long(mask, spacing):
    """The longest line between voxel sides of one part of one slice: every pair of points."""
    longest = 0.0
    for k in range(mask.shape[2]):
        parts, count = label(mask[:, :, k], structure=np.ones((3, 3)))
        for number in range(1, count + 1):
            points = sides(parts == number, spacing)
            longest = max(longest, np.linalg.norm(points[:, None] - points[None], axis=-1).max())
    return longest


def brute_short(points, direction):
    """The longest chord at a right angle to `direction`: every corner against every edge of the hull."""
    hull = points[ConvexHull(points).vertices]
    across = np.array([-direction[1], direction[0]]) / np.linalg.norm(direction)
    best = 0.0
    for corner in hull:
        for one, other in itertools.pairwise([*hull, hull[0]]):
            edge = other - one
            matrix = np.column_stack([across, -edge])
            if abs(np.linalg.det(matrix)) > 1e-12:
                reach, along = np.linalg.solve(matrix, one - corner)
                if -1e-9 <= along <= 1 + 1e-9:
                    best = max(best, abs(reach))
    return best


@given(masks, spacings)
def test_the_axes_by_brute_force(mask, spacing):
    found = diameters(mask, spacing)
    if not mask.any():
        assert found is None
        return
    assert_allclose(found.long_mm, brute_long(mask, spacing))
    ends = np.array(found.ends) * spacing
    assert_allclose(np.linalg.norm(ends[1] - ends[0]), found.long_mm)
    parts, count = label(mask[:, :, found.slice], structure=np.ones((3, 3)))
    fitting = [sides(parts == number, spacing) for number in range(1, count + 1)]
    points = next(p for p in fitting if all(np.isclose(p, end).all(axis=1).any() for end in ends))
    assert_allclose(found.short_mm, brute_short(points, ends[1] - ends[0]), atol=1e-9)
    assert found.short_mm <= found.long_mm + 1e-9


@given(masks, spacings)
def test_they_do_not_depend_on_how_the_scan_is_stored(mask, spacing):
    one = diameters(mask, spacing)
    for turned in (mask[::-1], mask[:, ::-1], mask[:, :, ::-1]):
        other = diameters(turned, spacing)
        assert (one is None) == (other is None)
        if one is not None:
            assert_allclose(other.long_mm, one.long_mm)


def ellipse(a, b, degrees, spacing):
    size = [int(2 * max(a, b) / s) + 5 for s in spacing]
    x, y = (np.array((np.arange(n) - n / 2 + 0.3) * s) for n, s in zip(size, spacing, strict=True))
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    u, v = c * x[:, None] + s * y[None], -s * x[:, None] + c * y[None]
    return ((u / a) ** 2 + (v / b) ** 2 <= 1)[:, :, None]


@pytest.mark.parametrize("degrees", [0, 30, 45, 77])
def test_an_ellipse_has_its_axes(degrees):
    found = diameters(ellipse(30, 12, degrees, (0.5, 0.8)), (0.5, 0.8))
    assert_allclose((found.long_mm, found.short_mm), (60, 24), atol=0.9)


def test_a_lone_voxel_and_a_rod():
    assert diameters(np.ones((1, 1, 1), bool), (0.7, 0.9)).long_mm == pytest.approx(0.9)
    assert diameters(np.ones((1, 1, 1), bool), (0.7, 0.9)).short_mm == pytest.approx(0.7)
    rod = np.zeros((9, 5, 4), bool)
    rod[2:8, 3, 1] = True
    found = diameters(rod, (2.0, 0.5))
    assert (found.long_mm, found.short_mm, found.slice) == (pytest.approx(12), pytest.approx(0.5), 1)
    assert sorted(found.ends) == [(1.5, 3.0), (7.5, 3.0)]


def test_the_slice_with_the_longest_axis_counts_not_the_largest_area():
    mask = np.zeros((20, 20, 3), bool)
    mask[2:10, 2:10, 0] = True
    mask[1:18, 5, 2] = True
    assert diameters(mask, (1.0, 1.0)).slice == 2


def test_parts_that_do_not_touch_are_measured_apart():
    mask = np.zeros((30, 30, 1), bool)
    mask[0:4, 0:4] = mask[26:30, 26:30] = True
    assert diameters(mask, (1.0, 1.0)).long_mm == pytest.approx(5)
    mask[4:26, 4] = mask[25, 4:27] = True
    assert diameters(mask, (1.0, 1.0)).long_mm > 30


def test_none_where_nothing_is():
    assert diameters(np.zeros((3, 3, 3), bool), (1.0, 1.0)) is None
