"""Slice positions: what counts as even."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxelry.errors import SeriesError
from voxelry.read.dicom_header import read_dicom_header
from voxelry.read.positions import check_spacing, sort_by_position, tolerance_mm

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NORMALS = (
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1).map(lambda v: np.array(v) / np.linalg.norm(v))
)


@pytest.fixture
def header(tmp_path, plain, save_slice):
    return read_dicom_header(save_slice(plain[0], tmp_path / "a.dcm"))


def check(header, positions, normal):
    return check_spacing([header] * len(positions), np.asarray(positions), normal, "here")


@SLOW
@given(normal=NORMALS, spacing=st.floats(0.3, 10), jitter=st.lists(st.floats(-0.4, 0.4), min_size=3, max_size=12))
def test_jitter_within_the_tolerance_is_even(header, normal, spacing, jitter):
    steps = np.arange(len(jitter)) * spacing + np.array(jitter) * tolerance_mm(spacing)
    step = check(header, steps[:, None] * normal, normal)
    even = (steps[-1] - steps[0]) / (len(steps) - 1)
    np.testing.assert_allclose(step, normal * even, atol=1e-9)


@SLOW
@given(normal=NORMALS, spacing=st.floats(0.3, 10), count=st.integers(5, 12), data=st.data())
def test_a_missing_slice_is_found(header, normal, spacing, count, data):
    hole = data.draw(st.integers(1, count - 2))
    steps = np.delete(np.arange(count) * spacing, hole)
    with pytest.raises(SeriesError, match="1 slices are missing"):
        check(header, steps[:, None] * normal, normal)


@SLOW
@given(normal=NORMALS, spacing=st.floats(0.5, 5), angle=st.floats(3, 30), count=st.integers(3, 9))
def test_a_tilt_is_found_and_measured(header, normal, spacing, angle, count):
    aside = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    aside /= np.linalg.norm(aside)
    steps = np.arange(count)[:, None] * spacing
    with pytest.raises(SeriesError, match=f"tilt of {angle:.3g} degrees".replace(".", r"\.")):
        check(header, steps * normal + steps * np.tan(np.radians(angle)) * aside, normal)


@given(st.floats(0.01, 20))
def test_tolerance_never_hides_a_slice(spacing):
    assert 0.01 * spacing <= tolerance_mm(spacing) <= spacing / 4


def test_sorted_along_the_normal(plain, save_slice, tmp_path):
    headers = [read_dicom_header(save_slice(data, tmp_path / f"{k}.dcm")) for k, data in enumerate(plain)]
    for normal, expected in ((np.array([0, 0, 1.0]), headers), (np.array([0, 0, -1.0]), headers[::-1])):
        ordered, positions = sort_by_position(headers[2:] + headers[:2], normal)
        assert ordered == expected
        assert positions.shape == (5, 3)
