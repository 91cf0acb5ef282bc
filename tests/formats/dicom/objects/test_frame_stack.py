"""The stack of planes at known positions: positions count, whatever else a file says of distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.errors import SeriesError
from voxelry.formats.dicom.objects.frame_stack import MOST_SLICES, StoredDistances, stack_of

FILE = Path("x.dcm")
UP = np.array([0.0, 0.0, 1.0])
HINTS = st.one_of(st.none(), st.floats(0.01, 50), st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]))


def at(*heights, normal=UP, across=(0.0, 0.0, 0.0)):
    """Positions at heights along a normal, displaced across it in proportion."""
    return np.outer(heights, normal + np.array(across)) + np.array((3, -7, 11))


def stack(positions, spacing=None, thickness=None, normal=UP):
    return stack_of(positions, normal, StoredDistances(spacing, thickness, 0.8), FILE)


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12), st.floats(0.3, 9), HINTS, HINTS, st.floats(-1, 1), st.floats(0, 0.4)
)
def test_every_plane_keeps_its_position(places, distance, spacing, thickness, turn, tilt):
    """Of any slices of any stack, upright, oblique or tilted, in any order and doubled, beside any stored distances."""
    normal = np.array([np.sin(turn), 0.0, np.cos(turn)])
    relative = lambda hint: None if hint is None else hint * distance  # noqa: E731
    try:
        found = stack_of(
            at(*np.array(places) * distance, normal=normal, across=(0, tilt, 0)), normal,
            StoredDistances(relative(spacing), relative(thickness), 0.8), FILE,
        )  # fmt: skip
    except SeriesError:
        gaps = np.diff(np.unique(places))
        assert gaps.min() // np.gcd.reduce(gaps) > 12 or (max(places) - min(places)) * distance / 0.01 > MOST_SLICES
        return
    laid = found.origin + np.outer(found.slices, found.step)
    np.testing.assert_allclose(laid, at(*np.array(places) * distance, normal=normal, across=(0, tilt, 0)), atol=0.05)
    assert found.slices.min() == 0


@pytest.mark.parametrize(
    ("heights", "spacing", "thickness", "distance", "remark"),
    [
        ((3, 7.5, 12), None, 1.5, 1.5, "are 1.5 mm thick: slices between them are taken to be empty"),
        ((3, 7.5, 12), 1.5, None, 1.5, ""),
        ((3, 7.5, 12), 4.5, 1.5, 4.5, ""),
        ((3, 7.5, 12), None, None, 4.5, ""),
        ((3, 7.5, 12), None, 2, 4.5, ""),
        ((0, 1.5, 3, 4.5), 0.75, 1.5, 1.5, "SpacingBetweenSlices 0.75 mm contradicts the positions of the frames: these count"),
        ((0, 1.5, 3, 4.5), 3, 1.5, 1.5, "SpacingBetweenSlices 3 mm contradicts"),
        ((0, 1.5, 3, 4.5), 1, None, 1.5, "SpacingBetweenSlices 1 mm contradicts"),
        ((0, 1.5, 3, 4.5), 0.75, None, 0.75, ""),
        ((0, 3, 7.5), None, None, 1.5, ""),
        ((0, 6, 15), None, 1.5, 1.5, "are 1.5 mm thick"),
        ((0, 2.5, 5), 2.5, 5, 2.5, ""),
        ((0, 2.5, 5), 2.501, None, 2.5, ""),
        ((4,), 2.5, 5, 2.5, ""),
        ((4,), None, 5, 5, ""),
        ((4,), None, None, 0.8, "one plane, and no thickness is stored"),
    ],
)
def test_the_distance_between_slices(heights, spacing, thickness, distance, remark):
    found = stack(at(*heights), spacing, thickness)
    np.testing.assert_allclose(np.linalg.norm(found.step), distance, rtol=1e-6)
    np.testing.assert_allclose(found.slices * distance, np.array(heights) - heights[0], atol=1e-6)
    assert (remark in " ".join(found.remarks)) if remark else not found.remarks


def test_a_distance_that_neighbours_confirm_is_not_assumed():
    assert not stack(at(0, 1.5, 3), 1.5).is_assumed
    for heights, spacing in (((0, 1.5, 3), None), ((0, 4.5), 1.5), ((0, 1.5, 3), 0.5), ((2,), 1.5)):
        assert stack(at(*heights), spacing).is_assumed


def test_rounded_positions_do_not_drift():
    """300 slices of 2.4986 mm, rounded to 0.01 mm: the smallest gap alone would be a slice off at the end."""
    heights = np.round(np.arange(300) * 2.4986, 2)
    found = stack(at(*heights))
    np.testing.assert_array_equal(found.slices, np.arange(300))
    np.testing.assert_allclose(found.origin + np.outer(found.slices, found.step), at(*heights), atol=0.006)


def test_planes_that_are_no_stack():
    with pytest.raises(SeriesError, match=r"x\.dcm: frames lie up to .* mm off a regular stack"):
        stack(at(0, 2.5, 5.61803, 7.5))
    aside = at(0, 2.5, 5, 7.5)
    aside[2, 0] += 3
    with pytest.raises(SeriesError, match="off a regular stack"):
        stack(aside)
    with pytest.raises(SeriesError, match=f"at most {MOST_SLICES} are read"):
        stack(at(0, 0.1, 9e5))
