import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.transform import resize
from torch.nn.functional import interpolate

from voxelry.geometry import Geometry
from voxelry.labels import IGNORE_INDEX
from voxelry.prepare.resample import resample_classes, resample_image, resample_logits

PAIRS = [((5, 6, 7), (9, 4, 7)), ((8, 8, 8), (3, 16, 5)), ((1, 9, 4), (3, 4, 8)), ((2, 2, 2), (5, 1, 4)), ((12, 7), (5, 20))]


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_images_as_skimage_resizes_them(before, after, order):
    array = np.random.default_rng(0).normal(size=(2, *before)).astype(np.float32)
    ours = resample_image(array, after, order)
    theirs = [resize(plane, after, order=order, mode="edge", anti_aliasing=False, preserve_range=True) for plane in array]
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_linear_images_as_scipy_samples_at_the_zoomed_grids_voxels(before, after):
    array = np.random.default_rng(1).normal(size=before).astype(np.float32)
    axes = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(before, after, strict=True)]
    places = np.meshgrid(*axes, indexing="ij")
    np.testing.assert_allclose(
        resample_image(array[None], after, 1)[0], map_coordinates(array, places, order=1, mode="nearest"), atol=1e-5
    )


@settings(max_examples=25)
@given(
    before=st.tuples(*[st.integers(6, 12)] * 3),
    after=st.tuples(*[st.integers(4, 14)] * 3),
    order=st.sampled_from([1, 3]),
)
def test_a_ramp_in_world_coordinates_stays_that_ramp(before, after, order):
    affine = np.array([[0.9, 0.1, 0.0, 5], [-0.2, 2.0, 0.3, -7], [0.1, 0.2, 1.4, 3], [0, 0, 0, 1]])
    grid = Geometry(before, affine)

    def ramp(geometry: Geometry) -> np.ndarray:
        return geometry.world(np.moveaxis(np.indices(geometry.shape), 0, -1)) @ (1.0, -0.5, 0.25)

    new = grid.zoomed(after)
    got = resample_image(ramp(grid)[None], after, order)[0]
    # where the source has voxel centres on both sides (a spline also needs room to settle) the ramp is exact
    index = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(before, after, strict=True)]
    edge = 0 if order == 1 else 2.0
    inside = np.ix_(*[np.flatnonzero((i >= edge) & (i <= n - 1 - edge)) for i, n in zip(index, before, strict=True)])
    np.testing.assert_allclose(got[inside], ramp(new)[inside], atol=1e-3 if order == 1 else 0.25)


def test_the_same_shape_is_left_alone():
    array = np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)
    assert np.array_equal(resample_image(array, (2, 3, 4), 3), array)
    assert np.array_equal(resample_classes(array[0], (2, 3, 4)), array[0])


def test_splines_do_not_leave_the_range_of_the_image():
    array = np.zeros((1, 9, 9, 9), dtype=np.float32)
    array[0, 4:] = 1000.0
    result = resample_image(array, (17, 17, 17), 3)
    assert result.min() >= 0
    assert result.max() <= 1000.0


def test_smoothing_turns_fine_stripes_to_grey_instead_of_noise():
    stripes = np.tile(np.array([0.0, 100.0], dtype=np.float32), (1, 64, 101))[:, :, :201]
    smooth, sharp = (resample_image(stripes, (16, 48), 3, smooth=one)[0, 2:-2, 4:-4] for one in (True, False))
    assert np.abs(smooth - 50).max() < 15 < np.abs(sharp - 50).max()


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_classes_as_interpolated_indicators_and_their_argmax(before, after):
    classes = np.random.default_rng(2).integers(IGNORE_INDEX, 4, size=before).astype(np.int16)
    values = np.unique(classes)
    indicators = np.stack([(classes == value).astype(np.float32) for value in values])
    axes = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(before, after, strict=True)]
    places = np.meshgrid(*axes, indexing="ij")
    shares = np.stack([map_coordinates(one, places, order=1, mode="nearest") for one in indicators])
    got = resample_classes(classes, after)
    assert got.dtype == np.int16
    assert set(np.unique(got)) <= set(values)
    best = np.sort(shares, axis=0)
    clear = best[-1] - (best[-2] if len(best) > 1 else 0) > 1e-5
    assert clear.mean() > 0.5
    assert np.array_equal(got[clear], values[shares.argmax(0)][clear])


def test_a_tie_between_classes_goes_to_the_lower():
    classes = np.array([[0, 2, 1, 3]], dtype=np.int16)
    assert resample_classes(classes, (1, 2)).tolist() == [[0, 1]]


@pytest.mark.parametrize(("before", "after"), [*PAIRS, ((4, 4, 4), (4, 4, 4))])
def test_logits_exactly_as_interpolating_all_classes(before, after):
    torch.manual_seed(3)
    logits = torch.randn(5, *before)
    mode = "bilinear" if len(before) == 2 else "trilinear"
    whole = interpolate(logits[None], size=after, mode=mode, align_corners=False)[0].argmax(0)
    got = resample_logits(logits, after)
    assert got.dtype == np.int16
    assert np.array_equal(got, whole.numpy())
