"""Slices made one after the other against `Preparation.image`, which makes the whole scan."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.plans import tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.plan import Normalisation
from voxelry.core.volume import Volume
from voxelry.preparation import slice_stream
from voxelry.preparation.preparation import prepare
from voxelry.preparation.slice_stream import InMemorySlices, StreamedSlices, open_slice_stream, slice_stream_footprint

GLOBAL = Normalisation(scheme="global", low=-500, high=800, mean=20, std=300)
IMAGE, MASK = Normalisation(scheme="image"), Normalisation(scheme="mask")


def scan(shape, channels=1, order="C", dtype=np.int16, spacing=(0.8, 1.1, 2.0), empty=0):
    array = np.random.default_rng(sum(shape)).integers(-1000, 1500, (channels, *shape)).astype(dtype)
    array[:, :empty] = 0
    array[:, shape[0] // 2 :: 5, 3:9] = 0
    array = np.asarray(array, order=order)
    return Volume(array, Geometry.from_spacing(shape, spacing), channels=channels)


def plan_of(schemes, **changes):
    channels = tuple(f"channel {number}" for number in range(len(schemes)))
    return tiny_plan(channels=channels, normalisation=schemes, **changes)


def compared(volume, plan, axis, depth, step):
    preparation = prepare(volume, plan)
    whole = np.moveaxis(preparation.image(volume), axis + 1, 1)
    slabs = StreamedSlices(preparation, volume, axis, depth)
    size, worst = whole.shape[1], 0.0
    for _ in range(2):  # a second pass starts anew
        for first in (*range(0, max(size - depth, 0), step), max(size - depth, 0)):
            part = np.moveaxis(slabs.slices(first, min(first + depth, size)), axis + 1, 1)
            assert part.dtype == np.float32
            assert part.shape[1] == min(depth, size)
            worst = max(worst, float(np.abs(part - whole[:, first : first + depth]).max()))
    return worst


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("schemes", [(GLOBAL,), (IMAGE,), (MASK,), (GLOBAL, IMAGE, MASK)])
def test_slices_equal_the_whole_image(schemes, order, axis):
    volume = scan((50, 41, 37), len(schemes), order, empty=4)
    assert compared(volume, plan_of(schemes, spacing=(1.5, 1.0, 1.3)), axis, 11, 5) < 2e-5


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("spacing", [(1.5, 1.0, 1.3), (0.8, 1.1, 2.0), (0.8, 1.5, 7.0)])
def test_slices_normalised_first_equal_the_whole_image(spacing, order, axis):
    schemes = (GLOBAL, MASK, Normalisation(scheme="range"))
    volume = scan((50, 41, 37), len(schemes), order, empty=4)
    assert compared(volume, plan_of(schemes, spacing=spacing, convention="nnunet"), axis, 11, 5) < 2e-5


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kept", [0, 1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_that_stay_as_stored_equal_the_whole_image(order, kept, axis):
    spacing = tuple(None if one == kept else 1.4 for one in range(3))
    assert compared(scan((30, 26, 23), 2, order), plan_of((GLOBAL, IMAGE), spacing=spacing), axis, 9, 4) < 2e-5


@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3), spacing=st.tuples(*[st.sampled_from([0.4, 0.8, 1.1, 2.0, 3.0])] * 3),
    axis=st.integers(0, 2), depth=st.integers(1, 20), step=st.integers(1, 25),
    dtype=st.sampled_from([np.int16, np.uint8, np.float32]),
    orientation=st.sampled_from(["RAS", "LPS", "SAR"]), coarse=st.sampled_from([None, 2]), order=st.sampled_from("CF"),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_grid_any_axis_any_step(shape, spacing, axis, depth, step, dtype, orientation, coarse, order):
    volume = scan(shape, 1, order, dtype)
    plan = plan_of((GLOBAL,), spacing=spacing, orientation=orientation, coarse_axis=coarse)
    assert compared(volume, plan, axis, depth, min(step, depth + 3)) < 2e-5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nothing_to_resample(axis):
    volume = scan((20, 18, 16), order="F", spacing=(1, 1, 1))
    plan = plan_of((GLOBAL,), spacing=(1, 1, 1))
    assert prepare(volume, plan).shape == (20, 18, 16)
    assert compared(volume, plan, axis, 8, 4) == 0


def test_pictures_and_small_scans_are_held_and_large_ones_streamed():
    volume = scan((20, 18, 16))
    preparation = prepare(volume, plan_of((GLOBAL,), spacing=(1, 1, 1)))
    held = open_slice_stream(preparation, volume, 2, 8)
    assert isinstance(held, InMemorySlices)
    assert np.array_equal(held.slices(3, 9), preparation.image(volume)[..., 3:9])
    with patch.object(slice_stream, "LARGE_VOXELS", 1000):
        streamed = open_slice_stream(preparation, volume, 2, 8)
    assert isinstance(streamed, StreamedSlices)
    assert np.abs(streamed.slices(3, 9) - held.slices(3, 9)).max() < 2e-5


def test_what_is_held_does_not_grow_with_the_slices():
    plan = plan_of((GLOBAL,), spacing=(1.5, 1.5, 1.5))
    few, many = (prepare(scan((64, 64, slices)), plan) for slices in (200, 1000))
    assert slice_stream_footprint(few, 1, 2, 2, 32).total == slice_stream_footprint(many, 1, 2, 2, 32).total
    assert slice_stream_footprint(few, 3, 2, 2, 32).total == 3 * slice_stream_footprint(few, 1, 2, 2, 32).total
