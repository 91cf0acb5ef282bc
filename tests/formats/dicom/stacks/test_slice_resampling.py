"""Resampling planes: against scipy, exact where nothing needs to be interpolated, in bounded memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.dicom.stacks.slice_resampling import (
    PLANES_AT_ONCE,
    SliceResampling,
    resample_outside,
    resample_planes,
    round_to_pixels,
)

QUICK = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
RNG = np.random.default_rng(5)


@pytest.fixture
def header(tmp_path, plain, save_slice) -> DicomHeader:
    return read_planes(save_slice(plain[0], tmp_path / "0.dcm"))[0]


def plan_of(header, levels, shifts, shape) -> SliceResampling:
    count, rows, columns = len(levels), 6, 8
    made = tuple(replace(header, sop_instance=str(k), rows=rows, columns=columns) for k in range(count))
    return SliceResampling(made, np.array(levels, dtype=float), np.array(shifts, dtype=float), shape)


def decoder(values):
    return lambda planes: values[[int(plane.sop_instance) for plane in planes]]


@QUICK
@given(
    gaps=st.lists(st.floats(0.5, 2.0), min_size=1, max_size=24),
    shift=st.tuples(st.floats(0, 3), st.floats(0, 2)),
)
def test_against_scipy_where_all_planes_shift_alike(header, gaps, shift):
    """One shift for all planes makes it a plain trilinear interpolation."""
    levels = np.concatenate([[0], np.cumsum(gaps)])
    levels *= max(round(levels[-1]), 1) / levels[-1]
    levels[-1] = round(levels[-1])
    shape = (int(levels[-1]) + 1, 9, 10)
    values = RNG.uniform(0, 100, (len(levels), 6, 8)).astype(np.float32)
    result = resample_planes(plan_of(header, levels, [shift] * len(levels), shape), decoder(values))
    level, row, column = np.mgrid[: shape[0], : shape[1], : shape[2]]
    where = [np.interp(level, levels, np.arange(len(levels))), row - shift[0], column - shift[1]]
    inside = (where[1] >= 0) & (where[1] <= 5) & (where[2] >= 0) & (where[2] <= 7)
    expected = map_coordinates(values, where, order=1, mode="nearest")
    np.testing.assert_allclose(result[inside], expected[inside], atol=0.02)
    assert (result[~inside & (abs(where[1] - 2.5) > 2.51)] == values.min()).all()


def test_planes_on_slices_are_copied_exactly(header):
    values = RNG.integers(-32768, 32767, (3, 6, 8)).astype(np.int16)
    result = resample_planes(plan_of(header, [0, 1, 3], np.zeros((3, 2)), (4, 6, 8)), decoder(values))
    assert result.dtype == np.int16
    np.testing.assert_array_equal(result[[0, 1, 3]], values)
    middle = (values[1].astype(float) + values[2]) / 2
    np.testing.assert_allclose(result[2], middle, atol=0.51)


def test_shifts_of_whole_pixels_copy_exactly_and_pad_with_the_lowest(header):
    values = RNG.integers(0, 3000, (2, 6, 8)).astype(np.int16)
    result = resample_planes(plan_of(header, [0, 1], [[0, 2], [3, 0]], (2, 9, 10)), decoder(values))
    np.testing.assert_array_equal(result[0, :6, 2:], values[0])
    np.testing.assert_array_equal(result[1, 3:, :8], values[1])
    assert set(result[0, 6:].ravel()) | set(result[0, :6, :2].ravel()) == {values.min()}


def test_float_planes_anywhere_make_the_result_float(header):
    values = np.zeros((20, 6, 8), np.float32)
    values[15] = 0.5

    def decode(planes):
        block = decoder(values)(planes)
        return block if block.any() else block.astype(np.int16)

    result = resample_planes(plan_of(header, np.arange(20), np.zeros((20, 2)), (20, 6, 8)), decode)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, values)


def test_padding_is_as_low_in_every_slice(header):
    """A decoder gives padding the lowest value of what it decodes together; planes come in portions."""
    count = 3 * PLANES_AT_ONCE
    values = np.full((count, 6, 8), 50, np.int16)
    values[-1, 0, 0] = -1000
    plan = plan_of(header, [*range(count - 1), count], np.zeros((count, 2)), (count + 1, 6, 8))
    plan = replace(plan, planes=tuple(replace(plane, padding=(-2000, None)) for plane in plan.planes))

    def decode(planes):
        block = decoder(values)(planes).copy()
        block[:, 5, 7] = block.min()
        return block

    assert (resample_planes(plan, decode)[:, 5, 7] == -1000).all()


def test_slices_name_the_planes_that_they_hold(header):
    plan = plan_of(header, [0, 1, 3], np.zeros((3, 2)), (4, 6, 8))
    assert plan.slices == (plan.planes[0], plan.planes[1], None, plan.planes[2])
    assert plan_of(header, [0, 1], [[0, 0], [1, 0]], (2, 7, 8)).slices == (None, None)


def test_memory_is_the_result_and_a_few_planes(header):
    count, size = 60, 192
    made = tuple(replace(header, rows=size, columns=size) for _ in range(count))
    plan = SliceResampling(
        made, np.delete(np.arange(count + 1.0), 7), np.linspace(0, 9.5, count)[:, None] * [1, 0], (count + 1, size + 10, size)
    )
    tracemalloc.start()
    result = resample_planes(plan, lambda planes: np.ones((len(planes), size, size), np.int16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - result.nbytes < 4 * PLANES_AT_ONCE * size * size * result.itemsize


def test_nearly_whole_pixels_are_whole():
    np.testing.assert_array_equal(round_to_pixels(np.array([1.00002, 1.4, -2.99996])), [1, 1.4, -3])


def test_outside_is_where_no_plane_reaches_and_where_padding_has_a_part(header):
    padded = np.zeros((2, 6, 8), bool)
    padded[1, 2, 3] = True
    plan = plan_of(header, [0, 2], [[0, 0], [1, 0]], (3, 7, 8))
    outside = resample_outside(plan, decoder(padded))
    expected = np.zeros((3, 7, 8), bool)
    expected[0, 6] = expected[2, 0] = True
    expected[1, [0, 6]] = True  # half a row is lost on either side
    expected[2, 3, 3] = True
    expected[1, [2, 3], 3] = True
    np.testing.assert_array_equal(outside, expected)
