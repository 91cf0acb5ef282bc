"""Grey values and labels from stored numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxelry.errors import LabelError, NonFiniteError
from voxelry.formats.voxels import as_labels, check_finite, fits_int16, rescaled, values_of

STORED = hnp.arrays(st.sampled_from([np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.int64]), (3, 2))


@given(STORED, st.integers(-3, 3).filter(bool), st.integers(-40000, 40000))
def test_whole_rescale_is_exact(stored, slope, intercept):
    exact = stored.astype(object) * slope + intercept
    result = rescaled(stored, float(slope), float(intercept))
    within = all(-32768 <= value <= 32767 for value in exact.ravel())
    assert result.dtype == (np.int16 if within else np.float32)
    if within:
        assert (result.astype(object) == exact).all()
    else:
        np.testing.assert_allclose(result.astype(np.float64), exact.astype(np.float64), rtol=1e-5, atol=0.01)


@given(st.floats(-50, 50).filter(lambda x: abs(x) > 1e-3 and not x.is_integer()), st.floats(-100, 100))
def test_fractional_rescale_is_float32(slope, intercept):
    stored = np.array([-3, 0, 7], np.int16)
    result = rescaled(stored, slope, intercept)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, stored * slope + intercept, rtol=1e-5, atol=1e-4)


def test_floats_stay_floats():
    assert rescaled(np.array([1.0, 2.0]), 1.0, 0.0).dtype == np.float32


@pytest.mark.parametrize(
    ("high", "intercept", "fits"), [(32767, 0, True), (32768, 0, False), (33791, -1024, True), (5, 0.5, False)]
)
def test_bounds_of_int16(high, intercept, fits):
    assert fits_int16(0, high, 1.0, intercept) is fits


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_names_file_count_and_first(value):
    array = np.zeros((2, 3, 4), np.float32)
    array[1, 0, 2] = array[1, 2, 3] = value
    with pytest.raises(NonFiniteError, match=r"f\.nii: 2 of 24 .*index \(1, 0, 2\)"):
        check_finite(array, "f.nii")


def test_finite_and_integers_pass():
    check_finite(np.array([1e38, -1e38], np.float32), "f")
    check_finite(np.array([1, 2]), "f")


@given(hnp.arrays(np.uint16, (4, 3)), st.sampled_from([np.float32, np.float64, np.int32, np.uint16]))
def test_labels_keep_their_values(values, stored_as):
    labels = as_labels(values.astype(stored_as), "f")
    assert labels.dtype == (np.uint8 if values.max() < 256 else np.uint16)
    np.testing.assert_array_equal(labels, values)
    assert values_of(labels) == tuple(np.unique(values).tolist())


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_values_of_any_number_of_axes(shape):
    labels = np.zeros(shape, np.uint8)
    labels[-1, -1] = 7
    assert values_of(labels) == (0, 7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 0.5, 2.25], r"2 voxels hold fractions \(0\.5, 2\.25\)"),
        ([0, -1, 2], r"negative values \(-1\)"),
        ([0, 70000], "70000 is above 65535"),
    ],
)
def test_what_is_no_label(values, message):
    with pytest.raises(LabelError, match=message):
        as_labels(np.array(values), "f.nii")


def test_nan_is_no_label():
    with pytest.raises(NonFiniteError):
        as_labels(np.array([0.0, np.nan]), "f.nii")
