import numpy as np
import pytest
import torch

from helpers.plans import tiny_model, tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import Volume
from voxelry.inference.engine import Member
from voxelry.inference.forward import Batches
from voxelry.inference.patches import PatchGrid
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.inference.roi import MARGIN, body_roi, coarse_roi
from voxelry.preparation.slice_stream import InMemorySlices

SHAPE = (70, 40, 36)


def ct(noise=0):
    """Air with a body in one corner."""
    rng = np.random.default_rng(0)
    array = np.full(SHAPE, -1000, np.int16) + rng.integers(0, noise + 1, SHAPE, dtype=np.int16)
    array[3:20, 4:22, 5:21] = rng.integers(-100, 300, (17, 18, 16))
    return Volume(array[None], Geometry.from_spacing(SHAPE, (1, 1, 1)), modality="CT")


class Counting:
    def __init__(self, network):
        self.network, self.patches = network, []

    def __call__(self, x):
        self.patches.append(x)
        return self.network(x)


def predictors(roi, **changes):
    plan = tiny_plan(patch_size=(16, 16, 16), **changes)
    model = tiny_model(plan, LabelTable.numbered([1, 2]), seed=2)
    return Predictor(model, "cpu", PredictOptions(roi=roi, mixed_precision="off"))


@pytest.mark.parametrize("noise", [0, 15])
def test_labels_outside_skipped_air_are_identical(noise):
    scan = ct(noise)
    whole, part = predictors("whole").predict(scan).labels.array, predictors("body").predict(scan).labels.array
    image = scan.array.astype(np.float32)
    grid = PatchGrid.of(SHAPE, (16, 16, 16), 0.5)
    roi, skipped = body_roi(InMemorySlices(image, grid.axis), grid), np.zeros(SHAPE, bool)
    for s in grid.starts[0]:
        for start in grid.sheet(s):
            if not roi.keeps(start):
                placed = dict(zip(grid.order, start, strict=True))
                box = tuple(slice(placed[axis], placed[axis] + 16) for axis in range(3))
                assert image[0][box].max() <= -1000 + 0.02 * 1300
                skipped[box] = True
    assert skipped.mean() > 0.5
    assert not skipped[3:20, 4:22, 5:21].any()
    assert np.array_equal(part[~skipped], whole[~skipped])
    assert len(np.unique(whole[~skipped])) > 1


def test_what_any_channel_shows_is_of_interest():
    image = np.zeros((2, 64, 40, 48), np.float32)
    image[0, 3, 3, 3], image[1, 50, 20, 33] = 1, 200
    grid = PatchGrid.of(image.shape[1:], (16, 16, 16), 0.5)
    assert np.argwhere(body_roi(InMemorySlices(image, grid.axis), grid).blocks).tolist() == [[0, 0, 0], [6, 2, 4]]


def test_the_coarse_pass_finds_what_is_there_and_looks_around_it():
    def bright(x):
        return torch.cat([torch.zeros_like(x), x - 0.5], 1)

    image = np.zeros((1, 64, 40, 48), np.float32)
    image[0, 50, 20, 33] = 1
    grid = PatchGrid.of(image.shape[1:], (16, 16, 16), 0.5)
    roi = coarse_roi(Member(bright, InMemorySlices(image, grid.axis)), grid, Batches(3), torch.device("cpu"))
    found = np.argwhere(roi.blocks)
    assert np.array_equal(found.min(0), [6 - MARGIN, 2 - MARGIN, 4 - MARGIN])
    assert np.array_equal(found.max(0), [7, 4, 5])
    kept = [start for s in grid.starts[0] for start in grid.sheet(s) if roi.keeps(start)]
    assert 0 < len(kept) < grid.count
    assert coarse_roi(Member(bright, InMemorySlices(0 * image, grid.axis)), grid, Batches(3), torch.device("cpu")).is_empty


def test_predicting_with_a_coarse_pass():
    scan = ct()
    whole = predictors("whole").predict(scan)
    part = predictors("coarse").predict(scan)
    inside = (slice(3, 20), slice(4, 22), slice(5, 21))
    assert (part.labels.array[inside] == whole.labels.array[inside]).mean() > 0.9


def test_pictures():
    picture = np.zeros((1, 50, 30), np.float32)
    picture[0, 40:, :6] = 1
    grid = PatchGrid.of((50, 30), (16, 16), 0.5)
    roi = body_roi(InMemorySlices(picture, grid.axis), grid)
    assert np.array_equal(np.argwhere(roi.blocks), [[5, 0], [6, 0]])
    assert not roi.keeps((0, 0, 0))


@pytest.mark.parametrize(
    ("share", "kept"), [(0.0, False), (0.01, False), (0.02, False), (0.025, True), (0.05, True), (0.1, True)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_dark_tissue_is_no_air(share, kept, channels):
    """Lung is at 11 % of the range of clipped CT, fat of MRI may be at 3 %: air ends at 2 % above the darkest voxel."""
    image = np.zeros((channels, 64, 40, 48), np.float32)
    image[:, :8, :8, :8] = 1000  # the brightest voxels
    image[-1, 40:48, 24:32, 32:40] = 1000 * share
    grid = PatchGrid.of(image.shape[1:], (16, 16, 16), 0.5)
    blocks = body_roi(InMemorySlices(image - 500, grid.axis), grid).blocks
    expected = np.zeros(blocks.shape, bool)
    expected[0, 0, 0], expected[5, 3, 4] = True, kept
    assert np.array_equal(blocks, expected)
