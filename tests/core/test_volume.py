from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import SPARSE, LabelMap, Source, Volume
from voxelry.errors import GeometryError, GridMismatchError, LabelError

GRID = Geometry.from_spacing((3, 4, 5), (1, 2, 3), (7, 8, 9))
TABLE = LabelTable.numbered([1, 2])
CHANGE = Reindex((2, 0, 1), (True, False, True))
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(-99, 99, (2, 3, 4, 5)).astype(np.int16)
LABELS = RNG.integers(0, 3, (3, 4, 5)).astype(np.uint8)


def counted(array: np.ndarray) -> tuple[list[int], object]:
    calls: list[int] = []

    def decode() -> np.ndarray:
        calls.append(1)
        return array

    return calls, decode


# ---- Volume


def test_the_header_is_known_before_pixels_are_decoded_and_they_are_decoded_once():
    calls, decode = counted(PIXELS)
    volume = Volume(decode, GRID, channels=2)
    assert (volume.shape, volume.spacing) == ((2, 3, 4, 5), (1.0, 2.0, 3.0))
    assert calls == []
    assert_array_equal(volume.array, PIXELS)
    assert volume.array is volume.array
    assert calls == [1]


def test_pixels_that_contradict_the_header_are_an_error():
    volume = Volume(lambda: PIXELS[:, :2], GRID, channels=2, source=Source(files=("a/b.nii",)))
    with pytest.raises(GeometryError, match=r"a/b\.nii: pixels have shape \(2, 2, 4, 5\), the header states \(2, 3, 4, 5\)"):
        _ = volume.array


def test_a_reindexed_volume_keeps_every_voxels_value_and_place():
    volume = Volume(PIXELS, GRID, channels=2, modality="MR")
    moved = volume.reindexed(CHANGE)
    assert moved.modality == "MR"
    for index in np.ndindex(*moved.geometry.shape):
        place = np.rint(np.linalg.solve(GRID.affine, [*moved.geometry.world(index), 1])[:3]).astype(int)
        assert_array_equal(moved.array[(slice(None), *index)], PIXELS[(slice(None), *place)])


def test_a_reindexed_volume_no_longer_claims_an_instance_per_slice():
    source = Source("dicom", instances=(("1.2.3", 1),) * 5)
    volume = Volume(PIXELS, GRID, channels=2, source=source)
    assert volume.reindexed(CHANGE).source.instances == ()
    assert volume.reindexed(Reindex((0, 1, 2), (False,) * 3)).source.instances == source.instances


@pytest.mark.parametrize(
    ("files", "name"),
    [((), "<memory>"), (("a/x.nii",), "a/x.nii"), (("a/1.dcm", "a/2.dcm"), "a"), (("1.dcm", "2.dcm"), ".")],
)
def test_a_source_is_called_by_its_file_or_folder(files, name):
    assert Source(files=files).name == name


# ---- LabelMap


@pytest.mark.parametrize("change", [CHANGE, CHANGE.inverse, Reindex((0, 1, 2), (True, True, False))])
def test_labels_with_flipped_or_permuted_axes_land_on_the_images_grid(change):
    stored = LabelMap.of(change.apply(LABELS), GRID.reindexed(change), TABLE, Source("dicom", instances=(("1.2", 1),)))
    landed = stored.on_grid(GRID)
    assert landed.geometry is GRID
    assert_array_equal(landed.array, LABELS)
    assert landed.source.instances == ()


def test_labels_on_an_equal_grid_are_not_touched():
    nearly = GRID.affine.copy()
    nearly[0, 3] += 1e-8
    source = Source("dicom", instances=(("1.2", 1),))
    landed = LabelMap.of(LABELS, Geometry(GRID.shape, nearly), TABLE, source).on_grid(GRID)
    assert landed.geometry is GRID
    assert np.shares_memory(landed.array, LABELS)
    assert landed.source is source


def test_instance_ids_travel_with_their_labels():
    ids = np.arange(60, dtype=np.uint32).reshape(1, 3, 4, 5)
    stored = LabelMap(CHANGE.apply(LABELS[None]), GRID.reindexed(CHANGE), TABLE, instances=CHANGE.apply(ids))
    assert_array_equal(stored.on_grid(GRID).instances, ids)


def test_instance_ids_are_placed_within_a_larger_grid():
    ids = np.where(LABELS > 0, np.arange(60, dtype=np.uint32).reshape(3, 4, 5) + 70_000, 0).astype(np.uint32)
    box = LabelMap(LABELS[None, 1:, :2], GRID.cropped((1, 0, 0), (2, 2, 5)), TABLE, Source(SPARSE), ids[None, 1:, :2])
    placed = box.on_grid(GRID)
    expected = np.zeros_like(ids)
    expected[1:, :2] = ids[1:, :2]
    assert_array_equal(placed.instances[0], expected)
    assert placed.instances.dtype == np.uint32


@pytest.mark.parametrize("change", [CHANGE, CHANGE.inverse, Reindex((0, 1, 2), (True, False, True))])
def test_labels_on_some_slices_land_on_those_slices(change):
    """Slices 0 and 4 of the grid as two of a coarser one, four slices apart; the grid may be turned."""
    coarse = Geometry((*GRID.shape[:2], 2), GRID.affine @ np.diag([1, 1, 4, 1]))
    source = Source(SPARSE, files=("x.dcm",), is_spacing_assumed=True)
    stored = LabelMap.of(LABELS[:, :, ::4], coarse, TABLE, source)
    expected = np.zeros_like(LABELS)
    expected[:, :, ::4] = LABELS[:, :, ::4]
    for landed in (stored.on_slices(GRID), stored.on_grid(GRID)):
        assert_array_equal(landed.array, expected)
    turned = GRID.reindexed(change)
    assert_array_equal(stored.on_slices(turned).array, change.apply(expected))
    ids = replace(stored, instances=stored.layers.astype(np.uint32) + np.uint32(70_000) * (stored.layers > 0))
    landed_ids = ids.on_slices(GRID).instances
    assert_array_equal(landed_ids[0], np.where(expected > 0, expected.astype(np.uint32) + 70_000, 0))
    known = replace(stored, source=replace(source, is_spacing_assumed=False))
    with pytest.raises(GridMismatchError, match="different shapes"):
        known.on_grid(GRID)
    assert_array_equal(known.on_slices(GRID).array, expected)


def test_labels_between_slices_land_on_none():
    between = GRID.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1.5, 0], [0, 0, 0, 1]])
    stored = LabelMap.of(
        LABELS[:, :, :2], Geometry((*GRID.shape[:2], 2), between), TABLE, Source(SPARSE, is_spacing_assumed=True)
    )
    with pytest.raises(GridMismatchError, match=r"slice 1 .* is no slice of the image"):
        stored.on_grid(GRID)
    beyond = Geometry((*GRID.shape[:2], 2), GRID.affine @ np.diag([1, 1, 5, 1]))
    with pytest.raises(GridMismatchError, match="beyond the grid"):
        LabelMap.of(LABELS[:, :, :2], beyond, TABLE).on_slices(GRID)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Geometry.from_spacing((3, 4, 6), (1, 2, 3)), "different shapes"),
        (Geometry.from_spacing((3, 4, 5), (1, 2, 3), (7.5, 8, 9)), r"up to 0\.5 mm apart, tolerance 0\.01 mm"),
        (Geometry((3, 4)), "different shapes"),
    ],
)
def test_another_grid_is_an_error_that_names_both(other, message):
    labels = LabelMap.of(LABELS, GRID, TABLE, Source(files=("mask.nii.gz",)))
    with pytest.raises(GridMismatchError, match=message) as caught:
        labels.on_grid(other)
    assert "mask.nii.gz" in str(caught.value)
    assert GRID.describe() in str(caught.value)
    assert other.describe() in str(caught.value)
    assert "Resample" in str(caught.value)


def test_masks_are_by_name_or_value_and_overlap_by_layer():
    table = LabelTable(labels=(Label(value=1, name="lung"), Label(value=2, name="nodule", layer=1)))
    layers = np.stack([LABELS > 0, np.where(LABELS == 2, 2, 0)]).astype(np.uint8)
    both = LabelMap(layers, GRID, table)
    assert_array_equal(both.mask("lung"), LABELS > 0)
    assert_array_equal(both.mask(2), LABELS == 2)
    with pytest.raises(LabelError, match="2 layers"):
        _ = both.array
    with pytest.raises(LabelError, match="no label 'liver'"):
        both.mask("liver")


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(GeometryError, match="do not fit"):
        LabelMap.of(LABELS[:2], GRID, TABLE)
    with pytest.raises(GeometryError, match="do not fit"):
        LabelMap(LABELS, GRID, TABLE)
    with pytest.raises(LabelError, match="not float32"):
        LabelMap.of(LABELS.astype(np.float32), GRID, TABLE)
    with pytest.raises(GeometryError, match="instance ids"):
        LabelMap(LABELS[None], GRID, TABLE, instances=np.zeros((1, 2, 2, 2), np.uint32))


def test_padding_is_found_when_asked_for_and_follows_its_voxels():
    calls = []
    outside = np.zeros((2, 3, 4), bool)
    outside[1, 2, 0] = True

    def find():
        calls.append(1)
        return outside

    volume = Volume(np.arange(24).reshape(1, 2, 3, 4), Geometry.from_spacing((2, 3, 4), (1, 2, 3)), outside=find)
    assert not calls
    turned = volume.reindexed(volume.geometry.reindexing_to_orientation("PSR"))
    assert turned.array[0][turned.padding].tolist() == volume.array[0][volume.padding].tolist()
    assert len(calls) == 1
    plain = Volume(np.zeros((1, 2, 3, 4)), Geometry.from_spacing((2, 3, 4), (1, 2, 3)))
    assert plain.padding.shape == (2, 3, 4)
    assert not plain.padding.any()
