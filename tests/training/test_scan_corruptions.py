import numpy as np
import pytest

from helpers.quality import organs
from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.training.scan_corruptions import CORRUPTIONS, corrupted


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_scan_and_reference_stay_together_and_the_original_as_it_was(kind):
    volume, reference = organs(0)
    before = volume.array.copy(), reference.layers.copy()
    scan, labels = corrupted(volume, reference, kind, 5)
    assert scan.geometry is labels.geometry
    assert scan.array.shape[1:] == labels.array.shape == scan.geometry.shape
    assert scan.array.dtype == np.float32
    assert np.isfinite(scan.array).all()
    assert scan.array.shape != volume.array.shape or not np.array_equal(scan.array, volume.array)
    assert np.array_equal(before[0], volume.array)
    assert np.array_equal(before[1], reference.layers)
    again, _ = corrupted(volume, reference, kind, 5)
    assert np.array_equal(again.array, scan.array)


@pytest.mark.parametrize("kind", ["flip", "cut"])
def test_bright_voxels_stay_those_of_the_labels(kind):
    volume, reference = organs(0)
    scan, labels = corrupted(volume, reference, kind, 1)
    assert scan.array[0][labels.array > 0].mean() > 170 > 110 > scan.array[0][labels.array == 0].mean()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_head_and_feet_are_swapped_however_a_scan_is_stored(order):
    volume, reference = organs(0)
    stored = volume.reindexed(Reindex(order, (False, False, False)))
    scan, _ = corrupted(stored, reference.on_grid(stored.geometry), "flip", 0)
    back = scan.reindexed(scan.geometry.reindexing_to_orientation("RAS"))
    assert np.array_equal(back.array, volume.array[..., ::-1])


def test_a_cut_keeps_where_the_rest_lies():
    volume, reference = organs(0)
    scan, _ = corrupted(volume, reference, "cut", 2)
    offset = volume.geometry.offset_of(scan.geometry)
    box = tuple(slice(first, first + n) for first, n in zip(offset, scan.geometry.shape, strict=True))
    assert np.array_equal(volume.array[0][box], scan.array[0])
    assert 0.45 < scan.array.size / volume.array.size < 0.85


def test_pictures_are_turned_upside_down_by_their_rows():
    array = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
    labels = LabelMap.of((array[0] > 5).astype(np.uint8), Geometry((4, 3)), LabelTable.numbered([1]))
    scan, flipped = corrupted(Volume(array, Geometry((4, 3))), labels, "flip", 0)
    assert np.array_equal(scan.array, array[:, ::-1])
    assert np.array_equal(flipped.array, labels.array[::-1])
