import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.ndimage import binary_fill_holes
from torch.nn.functional import interpolate

from helpers.nnunet_network import nnunet_prepared
from helpers.plans import IDENTITY, one_hot, picture, tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.plan import Normalisation
from voxelry.core.volume import Volume
from voxelry.errors import ModelError
from voxelry.preparation.preparation import content, content_box, prepare, slices_apart, target_shape
from voxelry.preparation.resampling import resample_classes, resample_image

ORIENTATIONS = ["".join(order[i] for i in range(3)) for pairs in itertools.product("RL", "AP", "SI") for order in
                itertools.permutations(pairs)]  # fmt: skip
AXES = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def grid(shape, codes, spacing, tilt=0.0):
    """A grid whose axes run along `codes`, sheared and turned by `tilt` radians."""
    matrix = np.array([AXES[code] for code in codes], dtype=float).T
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ matrix * spacing
    affine[:3, 3] = (12.0, -30.0, 7.5)
    return Geometry(tuple(shape), affine)


def restored(preparation, logits_K):
    """Full interpolation of logits back to the scan's grid, the inverse of a preparation by definition."""
    whole = np.zeros(preparation.source.reindexed(preparation.reorder).shape, np.int16)
    box = tuple(slice(first, first + size) for first, size in zip(preparation.start, preparation.extent, strict=True))
    mode = "trilinear" if len(box) == 3 else "bilinear"
    whole[box] = interpolate(logits_K[None], size=preparation.extent, mode=mode, align_corners=False)[0].argmax(0).numpy()
    return preparation.reorder.inverse.apply(whole)


@settings(max_examples=40)
@given(
    stored=st.sampled_from(ORIENTATIONS),
    wanted=st.sampled_from([*ORIENTATIONS, None]),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    border=st.tuples(*[st.integers(0, 2)] * 6),
    tilt=st.floats(-0.4, 0.4),
    seed=st.integers(0, 99),
)
def test_without_zoom_the_labels_come_back_exactly(stored, wanted, shape, border, tilt, seed):
    rng = np.random.default_rng(seed)
    pads = np.array(border).reshape(3, 2)
    image = np.pad(rng.integers(1, 900, shape), pads).astype(np.int16)
    classes = np.pad(rng.integers(0, 4, shape), pads).astype(np.int16)
    geometry = grid(image.shape, stored, (1.0, 2.0, 0.5), tilt)
    preparation = prepare(Volume(image[None], geometry), tiny_plan(orientation=wanted))
    prepared = preparation.classes(classes)
    assert prepared.size == np.prod(shape)
    assert preparation.geometry.shape == prepared.shape
    assert np.array_equal(restored(preparation, one_hot(prepared, 4)), classes)
    if wanted is not None:
        assert preparation.geometry.orientation == wanted


@settings(max_examples=15)
@given(
    stored=st.sampled_from(ORIENTATIONS),
    spacing=st.tuples(*[st.floats(0.7, 1.6)] * 3),
    target=st.tuples(*[st.floats(0.8, 1.6)] * 3),
    tilt=st.floats(-0.3, 0.3),
)
def test_with_zoom_a_ball_comes_back_where_it_was(stored, spacing, target, tilt):
    shape = np.array([28, 26, 30])
    geometry = grid(shape, stored, spacing, tilt)
    index = np.moveaxis(np.indices(shape), 0, -1)
    centre = geometry.world((11.3, 15.2, 13.4))
    inside = np.linalg.norm(geometry.world(index) - centre, axis=-1) < 7.5
    classes = inside.astype(np.int16)
    preparation = prepare(Volume(np.full((1, *shape), 7, np.int16), geometry), tiny_plan(spacing=target))
    prepared = preparation.classes(classes)

    def centroid(mask, grid):
        return grid.world(np.argwhere(mask).mean(0))

    before = centroid(inside, geometry)
    half_voxel = 0.5 * min(*spacing, *target)
    assert np.linalg.norm(centroid(prepared == 1, preparation.geometry) - before) < half_voxel
    back = restored(preparation, one_hot(prepared, 2)) == 1
    assert np.linalg.norm(centroid(back, geometry) - before) < half_voxel
    assert 2 * (back & inside).sum() / (back.sum() + inside.sum()) > 0.9


def test_the_prepared_image_lies_on_the_geometry_it_names():
    shape = (20, 18, 22)
    geometry = grid(shape, "PIR", (1.0, 1.5, 0.8), 0.2)
    world = geometry.world(np.moveaxis(np.indices(shape), 0, -1))
    volume = Volume(np.moveaxis(world, -1, 0).astype(np.float32) + 500, geometry, channels=3)
    plan = tiny_plan(spacing=(1.2, 1.1, 1.3), image_order=1, channels=("x", "y", "z"), normalisation=(IDENTITY,) * 3)
    preparation = prepare(volume, plan)
    image = preparation.image(volume) - 500
    expected = np.moveaxis(preparation.geometry.world(np.moveaxis(np.indices(preparation.shape), 0, -1)), -1, 0)
    core = (slice(None), *(slice(2, -2),) * 3)
    np.testing.assert_allclose(image[core], expected[core], atol=1e-3)
    assert preparation.geometry.orientation == "RAS"
    np.testing.assert_allclose(preparation.geometry.spacing, (1.2, 1.1, 1.3), rtol=0.05)


@settings(max_examples=25)
@given(
    stored=st.sampled_from(ORIENTATIONS),
    wanted=st.sampled_from(ORIENTATIONS),
    axis=st.integers(0, 2),
    shape=st.tuples(*[st.integers(2, 9)] * 3),
    border=st.tuples(*[st.integers(0, 2)] * 6),
    order=st.sampled_from([0, 1, 3]),
    seed=st.integers(0, 99),
)
def test_along_an_axis_without_spacing_slices_stay_as_they_are(stored, wanted, axis, shape, border, order, seed):
    """Each slice is what the picture of it alone becomes; none is mixed with another, and each comes back from its own."""
    rng = np.random.default_rng(seed)
    pads = np.array(border).reshape(3, 2)
    image = np.pad(rng.integers(1, 900, shape), pads).astype(np.int16)
    classes = np.pad(rng.integers(0, 4, shape), pads).astype(np.int16)
    volume = Volume(image[None], grid(image.shape, stored, (1.0, 2.0, 0.5), 0.1))
    spacing = tuple(None if one == axis else 1.3 for one in range(3))
    preparation = prepare(volume, tiny_plan(orientation=wanted, spacing=spacing, image_order=order))
    kept, made = preparation.box(volume.array), preparation.image(volume)
    assert made.shape[1 + axis] == kept.shape[1 + axis] == preparation.extent[axis]
    assert preparation.geometry.spacing[axis] == pytest.approx(volume.geometry.spacing[preparation.reorder.order[axis]])
    flat = tuple(n for one, n in enumerate(preparation.shape) if one != axis)
    prepared = preparation.classes(classes)
    for index in range(preparation.extent[axis]):
        stored_slice = kept.take(index, axis + 1)
        alone = resample_image(stored_slice, flat, order)  # clipped to its own range, not to the scan's
        np.testing.assert_allclose(made.take(index, axis + 1).clip(stored_slice.min(), stored_slice.max()), alone, atol=0.1)
        some = resample_classes(preparation.box(classes).take(index, axis), flat, 1)
        np.testing.assert_array_equal(prepared.take(index, axis), some)
    logits = torch.from_numpy(rng.normal(size=(3, *preparation.shape)).astype(np.float32))
    back = preparation.box(restored(preparation, logits))
    for index in range(preparation.extent[axis]):
        size = tuple(n for one, n in enumerate(preparation.extent) if one != axis)
        alone = interpolate(logits.select(1 + axis, index)[None], size=size, mode="bilinear", align_corners=False)[0].argmax(0)
        assert np.mean(back.take(index, axis) == alone.numpy()) > 0.99


def test_the_axis_without_spacing_is_not_zoomed_however_it_is_spaced():
    plan = tiny_plan(spacing=(2.0, None, 0.5))
    assert target_shape((5, 7, 3), (1.0, 9.0, 1.0), plan) == (3, 7, 6)
    assert target_shape((5, 7, 3), (1.0, 0.1, 1.0), plan) == (3, 7, 6)


def test_pictures_are_scaled_by_their_longer_edge_and_come_back():
    classes = np.zeros((60, 40), dtype=np.int16)
    classes[10:40, 6:20] = 1
    image = picture(np.full((1, 60, 40), 9, np.uint8))
    preparation = prepare(image, tiny_plan(2, long_side=30))
    assert preparation.shape == (30, 20)
    assert preparation.image(image).shape == (1, 30, 20)
    back = restored(preparation, one_hot(preparation.classes(classes), 2))
    assert np.array_equal(back, classes)  # edges lie between pixels of both grids


def test_pictures_of_known_size_may_be_brought_to_a_spacing():
    preparation = prepare(picture(np.ones((1, 60, 40)), (0.5, 0.25)), tiny_plan(2, spacing=(1.0, 1.0)))
    assert preparation.shape == (30, 10)
    assert preparation.geometry.spacing == (1.0, 1.0)


def test_pictures_of_unknown_size_cannot_be_brought_to_a_spacing():
    with pytest.raises(ModelError, match="pixel size is unknown, the plan works at 1 x 1 mm"):
        prepare(picture(np.ones((1, 60, 40))), tiny_plan(2, spacing=(1.0, 1.0)))


@pytest.mark.parametrize("shape", [(9, 8, 1), (1, 9, 8), (2, 2, 2), (1, 1, 1)])
def test_thin_and_tiny_volumes(shape):
    rng = np.random.default_rng(0)
    volume = Volume(rng.integers(1, 9, (1, *shape)).astype(np.int16), grid(shape, "LPS", (1.0, 1.0, 5.0)))
    classes = rng.integers(0, 3, shape).astype(np.int16)
    for spacing in (None, (0.5, 0.5, 1.0), (3.0, 3.0, 9.0)):
        preparation = prepare(volume, tiny_plan(spacing=spacing))
        assert min(preparation.shape) >= 1
        assert np.isfinite(preparation.image(volume)).all()
        assert restored(preparation, one_hot(preparation.classes(classes), 3)).shape == shape


def test_the_coarse_axis_takes_the_nearest_slice():
    array = np.random.default_rng(3).normal(300, 50, (1, 12, 14, 5)).astype(np.int16)
    volume = Volume(array, grid(array.shape[1:], "RAS", (1.0, 1.0, 5.0)))
    classes = (array[0] > 300).astype(np.int16)
    preparation = prepare(volume, tiny_plan(spacing=(1.5, 1.5, 2.5), coarse_axis=2))
    assert np.array_equal(preparation.image(volume), resample_image(array, (8, 9, 10), (3, 3, 0)))
    assert np.array_equal(preparation.classes(classes), resample_classes(classes, (8, 9, 10), (1, 1, 0)))


def test_inside_the_content_grey_values_are_normalised_and_outside_they_are_zero():
    array = np.zeros((1, 20, 22, 18), np.float32)
    ball = np.linalg.norm(np.moveaxis(np.indices(array.shape[1:]), 0, -1) - (10, 11, 9), axis=-1) < 8
    array[0][ball] = np.random.default_rng(4).normal(300, 50, ball.sum())
    array[0, 9:11, 10:12, 8:10] = 0  # a hole is content
    volume = Volume(array, grid(array.shape[1:], "LPS", (1.0, 1.0, 1.0)))
    preparation = prepare(volume, tiny_plan(spacing=(1.3, 0.9, 1.1), normalisation=(Normalisation(scheme="mask"),)))
    image = preparation.image(volume)[0]
    inside = preparation.classes(binary_fill_holes(array[0] != 0).astype(np.int16)) > 0
    assert inside.mean() < 0.7
    assert (image[~inside] == 0).all()
    np.testing.assert_allclose((image[inside].mean(), image[inside].std()), (0, 1), atol=1e-3)


def test_content_is_inside_where_any_channel_shows_something():
    array = np.zeros((2, 6, 7, 8), np.float32)
    array[0, 1:3, 2:5, 2:5], array[1, 4, 5, 6] = 9, 5
    wanted = np.zeros(array.shape[1:], bool)
    wanted[1:3, 2:5, 2:5] = wanted[4, 5, 6] = True
    assert np.array_equal(content(array), wanted)
    assert np.array_equal(content(array[::-1]), wanted)


def test_large_scans_are_prepared_as_small_ones_in_any_memory_order():
    array = np.random.default_rng(5).normal(0, 300, (90, 80, 70)).astype(np.int16)
    plan = tiny_plan(spacing=(1.2, 1.3, 0.9))
    images = []
    for stored in (array, np.asfortranarray(array)):
        volume = Volume(stored[None], grid(array.shape, "PIR", (1.0, 1.5, 0.8)))
        images.append(prepare(volume, plan).image(volume))
    assert images[0].flags.c_contiguous
    np.testing.assert_allclose(images[1], images[0], atol=1e-2)


@settings(max_examples=60)
@given(shape=st.tuples(*[st.integers(1, 6)] * 3), used=st.floats(0, 0.2), channels=st.integers(1, 2), seed=st.integers(0, 999))
def test_the_box_as_all_voxels_say(shape, used, channels, seed):
    array = (np.random.default_rng(seed).random((channels, *shape)) < used).astype(np.int16)
    found = np.argwhere(array.any(0))
    start, extent = content_box(array)
    if len(found):
        assert start == tuple(found.min(0))
        assert extent == tuple(found.max(0) - found.min(0) + 1)
    else:
        assert (start, extent) == ((0, 0, 0), shape)


def test_a_scan_of_zeros_is_kept_whole():
    assert content_box(np.zeros((1, 3, 4, 5))) == ((0, 0, 0), (3, 4, 5))


def test_content_is_what_any_channel_holds():
    array = np.zeros((2, 5, 6, 7))
    array[0, 1, 2, 3] = -1
    array[1, 3, 2, 5] = 4
    assert content_box(array) == ((1, 2, 3), (3, 1, 3))


def test_halves_round_up_on_every_axis():
    plan = tiny_plan(spacing=(2.0, 2.0, 2.0))
    assert target_shape((5, 7, 1), (1.0, 1.0, 0.1), plan) == (3, 4, 1)


def test_another_number_of_axes_or_channels_is_refused():
    volume = Volume(np.ones((1, 4, 4, 4)), grid((4, 4, 4), "RAS", (1, 1, 1)))
    with pytest.raises(ModelError, match=r"a volume where the model takes pictures"):
        prepare(volume, tiny_plan(2))
    with pytest.raises(ModelError, match=r"1 channels, the plan has 2 \(T1, T2\)"):
        prepare(volume, tiny_plan(channels=("T1", "T2")))


SOFT = np.random.default_rng(5)


@pytest.mark.parametrize("scheme", ["global", "image", "mask"])
@pytest.mark.parametrize(
    ("spacing", "target"),
    [((1, 1, 1), (1.3, 0.9, 1.1)), ((1, 1, 1), (2, 2, 2)), ((0.8, 0.8, 5), (1.1, 1.1, 5)), ((1, 1, 1), (1, 1, 1))],
)
def test_nnunets_convention_prepares_as_nnunet_does(spacing, target, scheme):
    """Normalised on the scan's grid, then resampled; 25 / 2 voxels are 12; nothing is interpolated between thick slices."""
    array = ndimage.gaussian_filter(SOFT.normal(size=(33, 25, 21)), 1.5).astype(np.float32) * 900 + 100
    array[:3] = array[:, -2:] = array[10:14, 10:14, 5:8] = 0
    numbers = {"low": -60, "high": 250, "mean": 90, "std": 70} if scheme == "global" else {}
    plan = tiny_plan(spacing=target, normalisation=(Normalisation(scheme=scheme, **numbers),), convention="nnunet")
    volume = Volume(array[None], Geometry.from_spacing(array.shape, spacing))
    theirs = nnunet_prepared(array, spacing, target, scheme, numbers)
    ours = prepare(volume, plan).image(volume)[0]
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-4 * theirs.std() if max(spacing) < 3 else np.abs(ours - theirs).mean() < 2e-3


def test_slices_are_kept_apart_by_the_scan_or_else_by_the_plan():
    assert slices_apart((0.8, 0.8, 5.0), (1, 1, 1)) == 2
    assert slices_apart((1, 1, 1), (4, 1, 1.2)) == 0
    assert slices_apart((1, 1, 3.0), (1, 1, 1)) is None
    assert slices_apart((0.2, 1, 1), (1, 1, 9)) is None
