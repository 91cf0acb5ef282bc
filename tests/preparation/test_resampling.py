import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from voxelry.base.threads import THREADS
from voxelry.core.geometry import Geometry
from voxelry.core.labels import IGNORE_INDEX
from voxelry.preparation import resampling
from voxelry.preparation.resampling import resample_classes, resample_image

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


ORDERS = [(0, 1, 2), (2, 1, 0), (1, 2, 0)]


@pytest.fixture(params=["compiled", "numpy"])
def path(request, monkeypatch):
    """Both ways through the module, whatever the size."""
    monkeypatch.setattr(resampling, "LARGE_VOXELS", 0 if request.param == "compiled" else 2**62)


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_hounsfield_units_as_skimage_in_any_memory_order(path, order, smooth, kind):
    random = np.random.default_rng(5)
    stored = np.clip(random.normal(100, 400, (41, 33, 37)), 0 if kind == np.uint8 else -1024, 255 if kind == np.uint8 else 3000)
    for axes in ORDERS:
        view = stored.astype(kind).transpose(axes)[::-1, :, ::-1]
        for after in ((23, 50, 37), (60, 12, 40)):
            theirs = resize(view.astype(float), after, order=order, mode="edge", anti_aliasing=smooth, preserve_range=True)
            got = resample_image(view[None], after, order, smooth)
            assert got.flags.c_contiguous
            assert np.abs(got[0] - theirs).max() < 0.05


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_pictures_as_skimage_blurs_and_shrinks_them(path, kind):
    picture = np.random.default_rng(6).integers(0, 255, (2, 90, 70)).astype(kind)
    for after in ((31, 24), (31, 90), (120, 24)):
        theirs = [resize(p.astype(float), after, order=3, mode="edge", anti_aliasing=True, preserve_range=True) for p in picture]
        np.testing.assert_allclose(resample_image(picture, after, 3, smooth=True), theirs, atol=1e-2)


def test_each_axis_may_have_its_own_order(path):
    array = np.random.default_rng(7).normal(size=(1, 19, 14, 23)).astype(np.float32)
    step = resize(array[0], (11, 14, 23), order=0, mode="edge", anti_aliasing=False, preserve_range=True)
    theirs = [
        resize(plane, (20, 15), order=3, mode="edge", anti_aliasing=False, preserve_range=True, clip=False) for plane in step
    ]
    np.testing.assert_allclose(
        resample_image(array, (11, 20, 15), (0, 3, 3))[0], np.clip(theirs, array.min(), array.max()), atol=1e-5
    )


def test_several_callers_share_the_threads():
    array = np.random.default_rng(8).normal(0, 300, (1, 80, 70, 66)).astype(np.int16)
    classes = (array[0] > 100).astype(np.int16)
    image, labels = resample_image(array, (60, 90, 50), 3), resample_classes(classes, (60, 90, 50))

    def job(_):
        return np.array_equal(resample_image(array, (60, 90, 50), 3), image) and np.array_equal(
            resample_classes(classes, (60, 90, 50)), labels
        )

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(job, range(12)))


@pytest.mark.slow
def test_memory_stays_at_the_result_and_a_few_planes():
    """A 160 MB scan, brought to 27 million voxels: what the process peaks at beyond the scan and the result."""
    program = """
import numpy as np, resource
from voxelry.preparation import resampling
from voxelry.preparation.resampling import resample_image, resample_classes
import voxelry.preparation.resampling_kernels
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
scan = np.zeros((320, 512, 512), np.int16); scan[::2] = 7
before = peak()
made = resample_image(scan[None], (300, 300, 300), 3)
print(peak() - before - made.nbytes // 2**20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 * THREADS / 2


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


@pytest.mark.parametrize(("before", "after"), [*PAIRS, ((21, 30, 17), (40, 22, 17)), ((61, 50), (33, 80))])
@pytest.mark.parametrize("order", [0, 1, (0, 1, 1)])
def test_the_shortcut_finds_what_all_classes_find(monkeypatch, before, after, order):
    blocks = np.kron(
        np.random.default_rng(9).integers(IGNORE_INDEX, 300, [n // 4 + 1 for n in before]), np.ones((4,) * len(before))
    )
    classes = blocks[tuple(slice(n) for n in before)].astype(np.int16)
    order = order[: len(before)] if isinstance(order, tuple) else order
    found = []
    for large in (0, 2**62):
        monkeypatch.setattr(resampling, "LARGE_VOXELS", large)
        for axes in itertools.permutations(range(len(before))):
            stored = np.ascontiguousarray(classes.transpose(axes)).transpose(np.argsort(axes))
            found.append(resample_classes(stored, after, order))
    assert all(np.array_equal(one, found[0]) for one in found)
    assert found[0].flags.c_contiguous


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


@pytest.mark.parametrize(("shape", "target"), [((12, 13, 14), (20, 9, 14)), ((80, 70, 60), (50, 90, 77)), ((30, 20), (17, 33))])
@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_of_classes_are_those_of_the_whole(shape, target, order):
    coarse = np.random.default_rng(0).integers(0, 4, [-(-size // 4) for size in shape])
    classes = np.kron(coarse, np.ones((4,) * len(shape), int))[tuple(slice(size) for size in shape)]
    classes = np.asarray(classes, np.uint8, order=order)
    for to in (target, shape):
        whole = resample_classes(classes, to)
        for axis, size in enumerate(to):
            for first, last in ((0, 1), (2, 7), (size - 1, size)):
                section = resample_classes(classes, to, section=(axis, first, last))
                assert np.array_equal(section, np.take(whole, range(first, last), axis))
