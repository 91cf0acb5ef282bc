"""Slice positions: what counts as even, what as a hole, what as a tilt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.dicom.stacks.positions import (
    SAME_POSITION_MM,
    SLICE_TOLERANCE_MM,
    SMALLEST_TILT,
    fit_in_plane_shift,
    fit_spacing,
    position_tolerance_mm,
    resampled_spacing,
    slice_positions,
    sort_by_position,
)

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NORMALS = (
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1).map(lambda v: np.array(v) / np.linalg.norm(v))
)


@SLOW
@given(spacing=st.floats(0.3, 10), start=st.floats(-500, 500), jitter=st.lists(st.floats(-0.4, 0.4), min_size=2, max_size=40))
def test_jitter_within_the_tolerance_is_even(spacing, start, jitter):
    heights = start + np.arange(len(jitter)) * spacing + np.array(jitter) * position_tolerance_mm(spacing)
    even = fit_spacing(heights)
    assert even is not None
    assert even.missing == 0
    np.testing.assert_allclose(even.start + even.spacing * even.levels, heights, atol=position_tolerance_mm(spacing))


@SLOW
@given(spacing=st.floats(0.3, 10), count=st.integers(4, 60), data=st.data())
def test_holes_are_found_where_they_are(spacing, count, data):
    inner = st.sets(st.integers(1, count - 2), min_size=1, max_size=count - 3)
    holes = data.draw(inner)
    levels = np.array([level for level in range(count) if level not in holes], dtype=float)
    assume((np.diff(levels) == 1).any())
    even = fit_spacing(levels * spacing)
    assert even is not None
    assert (even.count, even.missing) == (count, len(holes))
    np.testing.assert_array_equal(even.levels, levels)
    assert even.spacing == pytest.approx(spacing, rel=1e-9)


@SLOW
@given(spacing=st.floats(0.5, 10), count=st.integers(3, 30), share=st.floats(1.2, 3.0), data=st.data())
def test_a_slice_out_of_place_is_not_even(spacing, count, share, data):
    heights = np.arange(count) * spacing
    heights[data.draw(st.integers(1, count - 2))] += min(share * 2 * position_tolerance_mm(spacing), 0.45 * spacing)
    even = fit_spacing(heights)
    assert even is None or even.missing  # as of a much finer lattice, whose holes outnumber its slices


def test_a_series_without_every_other_slice_is_even():
    even = fit_spacing(np.arange(8) * 5.0)
    assert (even.spacing, even.missing, even.count) == (5.0, 0, 8)


def test_half_the_slices_missing_at_random():
    levels = np.sort(np.random.default_rng(1).choice(101, 50, replace=False)).astype(float)
    even = fit_spacing(levels * 1.25 + np.random.default_rng(2).uniform(-0.01, 0.01, 50))
    np.testing.assert_array_equal(even.levels, levels - levels[0])


@pytest.mark.parametrize("spacing", [0.5, 0.6, 0.625, 0.75, 1.25, 1.375, 3.27, 5.0])
@pytest.mark.parametrize("count", [3, 20, 78, 200])
@pytest.mark.parametrize("start", [0.0, 1e-6, -77.123])
def test_a_spacing_of_which_positions_keep_one_decimal(spacing, count, start):
    even = fit_spacing(np.round(start + np.arange(count) * spacing, 1))
    assert even.missing == 0
    assert even.spacing == pytest.approx(spacing, abs=0.11 / (count - 1))


@pytest.mark.parametrize("growth", [0.02, 0.05, 0.2])
def test_a_spacing_that_grows_is_not_even(growth):
    heights = np.concatenate([[0], np.cumsum(2.5 + growth * np.arange(12))])
    assert fit_spacing(heights) is None


@SLOW
@given(normal=NORMALS, spacing=st.floats(0.5, 5), angle=st.floats(-60, 60), count=st.integers(3, 9), turn=st.floats(0, 6.3))
def test_a_tilt_is_measured_whatever_its_sign_and_direction(normal, spacing, angle, count, turn):
    across = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    across /= np.linalg.norm(across)
    down = np.cross(normal, across)
    aside = np.cos(turn) * across + np.sin(turn) * down
    slope = np.tan(np.radians(angle))
    positions = np.array([7.0, -8, 9]) + np.arange(count)[:, None] * spacing * (normal + slope * aside)
    found = fit_in_plane_shift(positions, normal, position_tolerance_mm(spacing))
    assert found.is_even
    assert found.is_tilted == (abs(slope) > SMALLEST_TILT and abs(slope) * spacing * (count - 1) > 1e-3)
    np.testing.assert_allclose(found.slope, slope * aside * found.is_tilted, atol=1e-9)
    larger = max(slope * np.cos(turn), slope * np.sin(turn), key=abs)
    assert found.degrees(across, down) == pytest.approx(np.copysign(abs(angle), larger) * found.is_tilted, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_jitter_of_scanner_rounding_is_no_tilt(seed):
    jitter = np.random.default_rng(seed).uniform(-0.01, 0.01, (8, 3))
    positions = np.arange(8)[:, None] * [0, 0, 2.5] + jitter
    found = fit_in_plane_shift(positions, np.array([0, 0, 1.0]), position_tolerance_mm(2.5))
    assert found.is_even
    assert not found.is_tilted


def test_a_rounded_orientation_is_no_tilt():
    normal = np.array([0, np.sin(0.3), np.cos(0.3)])
    rounded = np.round(normal, 4) / np.linalg.norm(np.round(normal, 4))
    found = fit_in_plane_shift(np.arange(100)[:, None] * 2.5 * normal, rounded, position_tolerance_mm(2.5))
    assert not found.is_tilted


@given(st.integers(0, 1000), st.floats(0.1, 0.6))
def test_the_residuals_of_a_tilt_are_those_of_a_line_with_its_start(seed, rate):
    """The first plane lies off the line as any other, so the line does not pass through it; NumPy's least squares agree."""
    heights = np.arange(12) * 2.5
    positions = np.stack([np.zeros(12), rate * heights, heights], axis=1)
    positions[:, :2] += np.random.default_rng(seed).uniform(-0.03, 0.03, (12, 2))
    shift = fit_in_plane_shift(positions, np.array([0, 0, 1.0]), 0.06)
    terms = np.stack([heights, np.ones(12)], axis=1)
    (slope, start), *_ = np.linalg.lstsq(terms, positions - positions[0] - np.outer(heights, [0, 0, 1]), rcond=None)
    distances = np.linalg.norm(shift.shifts - terms @ np.stack([slope, start]), axis=1)
    np.testing.assert_allclose(shift.slope, slope, atol=1e-9)
    np.testing.assert_allclose(shift.start, start, atol=1e-9)
    np.testing.assert_allclose(shift.residuals, distances, atol=1e-9)


def test_slices_shifted_at_random_do_not_lie_on_a_tilt():
    positions = np.array([[0, 0, 0], [0, 3, 2.5], [0, -1, 5], [0, 2, 7.5]], dtype=float)
    assert not fit_in_plane_shift(positions, np.array([0, 0, 1.0]), 0.05).is_even


@pytest.mark.parametrize("normal", [(0, 0, 1), (0, 0, -1)])
def test_sorted_along_the_normal(plain, save_slice, tmp_path, normal):
    headers = [read_planes(save_slice(data, tmp_path / f"{k}.dcm"))[0] for k, data in enumerate(plain)]
    ordered, positions = sort_by_position(headers[2:] + headers[:2], np.array(normal, dtype=float))
    assert ordered == (headers if normal[2] > 0 else headers[::-1])
    assert positions.shape == (5, 3)


def test_planes_at_one_place_are_in_the_order_of_their_files(plain, save_slice, tmp_path):
    header = read_planes(save_slice(plain[0], tmp_path / "b.dcm"))[0]
    other = replace(header, path=tmp_path / "a.dcm")
    assert sort_by_position([header, other], np.array([0, 0, 1.0]))[0] == [other, header]


@pytest.mark.parametrize(
    ("heights", "sizes"),
    [
        ([0, 2.5, 5], [1, 1, 1]),
        ([0, 0.01, 2.5, 2.51, 5, 5], [2, 2, 2]),
        ([0, 0, 0], [3]),
        ([0, 0.04, 0.08], [1, 1, 1]),
        ([7], [1]),
    ],
)
def test_places(heights, sizes):
    assert [len(run) for run in slice_positions(np.array(heights, dtype=float))] == sizes


@given(st.floats(0.01, 20))
def test_tolerance_is_absolute_and_never_hides_a_slice(spacing):
    assert position_tolerance_mm(spacing) <= spacing / 4 + 1e-6
    assert position_tolerance_mm(spacing) <= SLICE_TOLERANCE_MM + 1e-6
    assert SAME_POSITION_MM >= 2 * 0.010


@SLOW
@given(gaps=st.lists(st.floats(0.5, 8), min_size=2, max_size=30))
def test_even_slices_span_uneven_ones(gaps):
    heights = np.concatenate([[0], np.cumsum(gaps)])
    even = resampled_spacing(heights, float(np.median(gaps)))
    assert even.levels[0] == 0
    assert even.levels[-1] == even.count - 1
    np.testing.assert_allclose(even.levels * even.spacing, heights, atol=1e-3)
