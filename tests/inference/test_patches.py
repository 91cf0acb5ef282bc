import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices

from voxelry.inference.patches import Layout, mirrors
from voxelry.preparation.slice_stream import InMemorySlices

SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), min_size=2, max_size=3)


@given(axes=SIZES, step=st.sampled_from([0.25, 0.5, 0.7, 1.0]))
def test_windows_lie_where_monais_lie(axes, step):
    size, window = zip(*axes, strict=True)
    padded = [max(n, p) for n, p in axes]
    interval = [p if n == p else max(1, int(p * step)) for n, p in zip(padded, window, strict=True)]
    wanted = sorted(tuple(s.start for s in found) for found in dense_patch_slices(padded, window, interval))
    layout = Layout.of(size, window, step)
    found = []
    for s in layout.starts[0]:
        for start in layout.sheet(s):
            placed = start if len(size) == 3 else (start[0], start[2])
            found.append(tuple(placed[layout.order.index(axis)] for axis in range(len(size))))
    assert sorted(found) == wanted
    assert layout.count == len(wanted)


@pytest.mark.parametrize("weighting", ["gaussian", "constant"])
def test_weights_are_monais_scaled_so_that_no_sum_exceeds_one(weighting):
    layout = Layout((20, 30, 17), (8, 12, 10), 0.25, 1, weighting)
    theirs = compute_importance_map((8, 12, 10), weighting, 0.125).permute(1, 0, 2)
    ratio = layout.weights / theirs
    assert torch.allclose(ratio, ratio.flatten()[0], rtol=1e-5)
    total = torch.zeros(layout.shape)
    for s in layout.starts[0]:
        for z, y, x in layout.sheet(s):
            total[z : z + 12, y : y + 8, x : x + 10] += layout.weights
    assert 0.5 < total.max() <= 1
    assert total.min() > 0


def test_windows_stream_along_the_axis_with_the_smallest_ring():
    assert Layout.of((100, 200, 300), (50, 50, 50), 0.5).axis == 2
    assert Layout.of((100, 100, 100), (64, 32, 64), 0.5).axis == 1
    assert Layout.of((10, 300), (64, 64), 0.5).axis == 1


def test_a_small_scan_lies_in_the_middle_of_its_window():
    layout = Layout.of((3, 4), (8, 8), 0.5)
    window = layout.cut(InMemorySlices(np.ones((1, 3, 4), np.float32), layout.axis), (0, 0, 0))
    assert window.shape == (1, 8, 8)
    assert window.sum() == 12
    assert window[0, 2:5, 2:6].all()
    assert layout.turned(torch.from_numpy(window)).sum() == 12


def test_every_set_of_mirrors_comes_once_and_the_plain_window_first():
    assert mirrors(()) == [()]
    assert mirrors((0, 2)) == [(), (0,), (2,), (0, 2)]
    assert len(set(mirrors((0, 1, 2)))) == 8
