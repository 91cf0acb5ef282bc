import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from scipy import ndimage

from voxelry.inference.patches import PatchGrid, mirror_sets, summable
from voxelry.preparation.slice_stream import InMemorySlices

SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), min_size=2, max_size=3)


@given(axes=SIZES, overlap=st.sampled_from([0.75, 0.5, 0.3, 0.0]))
def test_patches_lie_where_monais_lie(axes, overlap):
    size, patch = zip(*axes, strict=True)
    padded = [max(n, p) for n, p in axes]
    interval = [p if n == p else max(1, int(p * (1 - overlap))) for n, p in zip(padded, patch, strict=True)]
    wanted = sorted(tuple(s.start for s in found) for found in dense_patch_slices(padded, patch, interval))
    grid = PatchGrid.of(size, patch, overlap)
    found = []
    for s in grid.starts[0]:
        for start in grid.sheet(s):
            placed = start if len(size) == 3 else (start[0], start[2])
            found.append(tuple(placed[grid.order.index(axis)] for axis in range(len(size))))
    assert sorted(found) == wanted
    assert grid.count == len(wanted)


@pytest.mark.parametrize("weighting", ["gaussian", "constant"])
def test_weights_are_monais_scaled_so_that_no_sum_exceeds_one(weighting):
    grid = PatchGrid((20, 30, 17), (8, 12, 10), 0.75, 1, weighting)
    theirs = compute_importance_map((8, 12, 10), weighting, 0.125).permute(1, 0, 2)
    ratio = grid.weights / theirs
    assert torch.allclose(ratio, ratio.flatten()[0], rtol=1e-5)
    total = torch.zeros(grid.shape)
    for s in grid.starts[0]:
        for z, y, x in grid.sheet(s):
            total[z : z + 12, y : y + 8, x : x + 10] += grid.weights
    assert 0.5 < total.max() <= 1
    assert total.min() > 0


@given(patch=st.integers(2, 20), more=st.integers(0, 60), overlap=st.sampled_from([0.75, 0.5, 0.3, 0.0]))
def test_nnunets_patches_lie_at_even_distances(patch, more, overlap):
    """nnU-Net's `compute_steps_for_sliding_window`, written again."""
    count = int(np.ceil(more / (patch * (1 - overlap)))) + 1
    wanted = [int(np.round(more / max(count - 1, 1) * number)) for number in range(count)]
    grid = PatchGrid((patch + more, 30), (patch, 30), overlap, 0, "gaussian", "nnunet")
    assert list(grid.starts[0]) == wanted
    assert list(PatchGrid((patch + more, 30), (1, 30), overlap, 0, "gaussian", "nnunet").starts[0]) == list(range(patch + more))


def test_nnunets_weights_are_a_blurred_point():
    """nnU-Net's `compute_gaussian`, written again; the middle of an even patch is half a voxel further than ours."""
    patch = (8, 12, 10)
    point = np.zeros(patch)
    point[4, 6, 5] = 1
    wanted = ndimage.gaussian_filter(point, [size / 8 for size in patch], mode="constant")
    grid = PatchGrid((20, 30, 17), patch, 0.5, 0, "gaussian", "nnunet")
    ratio = grid.weights.numpy() / grid.weights.numpy().max()
    half = (10 * wanted / wanted.max()).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    assert np.allclose(ratio, half.astype(np.float64) / 10, rtol=1e-3, atol=2.0**-24 / 10)
    assert ratio.min() == pytest.approx(2.0**-24 / 10)
    assert summable(grid.weights, half=False) is grid.weights
    assert summable(grid.weights, half=True).min() / grid.weights.max() == pytest.approx(1e-6)


def test_patches_stream_along_the_axis_with_the_smallest_ring():
    assert PatchGrid.of((100, 200, 300), (50, 50, 50), 0.5).axis == 2
    assert PatchGrid.of((100, 100, 100), (64, 32, 64), 0.5).axis == 1
    assert PatchGrid.of((10, 300), (64, 64), 0.5).axis == 1


def test_a_small_scan_lies_in_the_middle_of_its_patch():
    grid = PatchGrid.of((3, 4), (8, 8), 0.5)
    patch = grid.cut(InMemorySlices(np.ones((1, 3, 4), np.float32), grid.axis), (0, 0, 0))
    assert patch.shape == (1, 8, 8)
    assert patch.sum() == 12
    assert patch[0, 2:5, 2:6].all()
    assert grid.streaming_view(torch.from_numpy(patch)).sum() == 12


def test_every_set_of_mirrors_comes_once_and_the_plain_patch_first():
    assert mirror_sets(()) == [()]
    assert mirror_sets((0, 2)) == [(), (0,), (2,), (0, 2)]
    assert len(set(mirror_sets((0, 1, 2)))) == 8
