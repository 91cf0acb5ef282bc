"""Labels on other grids, against SimpleITK, counting, and closed forms."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.cohort.regrid import regrid_labels, resampled
from voxelry.core.geometry import Geometry, Reindex, flip_lps_ras
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import GridMismatchError

TABLE = LabelTable.numbered([1, 2])


def blobs(grid, sizes=(18, 8)):
    """A ball, and a smaller one within it."""
    world = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    array = np.zeros(grid.shape, np.uint8)
    array[np.linalg.norm(world - (1.0, 2.0, 3.0), axis=-1) < sizes[0]] = 1
    array[np.linalg.norm(world - (6.0, 2.0, 3.0), axis=-1) < sizes[1]] = 2
    return LabelMap.of(array, grid, TABLE)


def turned(shape, spacing, angle, tilt=0.1):
    """A grid about the origin, turned in its first plane and tilted."""
    c, s = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, tilt], [0, 0, 1]]) * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


FINE = Geometry.from_spacing((32, 30, 26), (1.5, 1.6, 1.8), (-23, -22, -20))


def as_itk(array, grid):
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = flip_lps_ras(grid.affine)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / grid.spacing).ravel().tolist())
    return image


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_finer_voxels_have_the_label_at_their_centre_as_in_itk(angle):
    labels = blobs(FINE)
    wanted = turned((40, 39, 31), (1.0, 1.1, 1.4), angle, tilt=0.0)
    found = resampled(labels.array, FINE, wanted)
    theirs = sitk.Resample(as_itk(labels.array, FINE), as_itk(np.zeros(wanted.shape, np.uint8), wanted), sitk.Transform(),
                           sitk.sitkNearestNeighbor)  # fmt: skip
    assert (found == 2).sum() > 100
    assert (found != sitk.GetArrayFromImage(theirs).T).mean() < 1e-4  # centres half way between two voxels


@pytest.mark.parametrize("factor", [2, 3])
def test_what_is_finer_loses_nothing(factor):
    labels = blobs(FINE)
    labels.array[0, 0, 0] = labels.array[31, 29, 25] = 2  # lone voxels in the corners
    laid = regrid_labels(labels, FINE.zoomed([factor * n for n in FINE.shape]))
    np.testing.assert_array_equal(laid.labels.array, labels.array.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2))
    assert laid.losses == ()


@pytest.mark.parametrize("factor", [2, 3])
def test_finer_voxels_and_back_are_the_same(factor):
    labels = blobs(FINE)
    fine = FINE.zoomed([factor * n for n in FINE.shape])
    there = regrid_labels(LabelMap.of(labels.array.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2), fine, TABLE), FINE)
    np.testing.assert_array_equal(there.labels.array, labels.array)
    assert there.losses == ()


def test_coarser_voxels_hold_what_fills_most_of_them():
    """Against counting: each coarse voxel is made of 4 x 4 x 4 fine ones."""
    fine = Geometry.from_spacing((24, 24, 24), (1, 1, 1), (0, 0, 0))
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 2, (6, 6, 6), dtype=np.uint8)
    array = corners.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    array[rng.random(array.shape) < 0.2] = 2  # specks that fill no voxel for the most part
    found = regrid_labels(LabelMap.of(array, fine, TABLE), fine.zoomed((6, 6, 6))).labels.array
    shares = np.stack([(array == value).reshape(6, 4, 6, 4, 6, 4).mean(axis=(1, 3, 5)) for value in range(3)])
    np.testing.assert_array_equal(found, shares.argmax(axis=0))


@settings(max_examples=15)
@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.tuples(*[st.integers(0, 3)] * 3))
def test_the_same_lattice_in_any_order_keeps_every_voxel(order, flips, start):
    labels = blobs(FINE)
    padded = FINE.cropped([-first for first in start], [n + first + 1 for n, first in zip(FINE.shape, start, strict=True)])
    wanted = padded.reindexed(Reindex(tuple(order), flips))
    laid = regrid_labels(labels, wanted)
    assert laid.losses == ()
    world = labels.geometry.world(np.argwhere(labels.array == 2))
    again = wanted.world(np.argwhere(laid.labels.array == 2))
    np.testing.assert_allclose(sorted(map(tuple, world.round(3))), sorted(map(tuple, again.round(3))), atol=1e-3)


def test_volumes_and_dice_are_those_of_a_ball():
    labels = blobs(FINE, sizes=(18, 0))
    laid = regrid_labels(labels, turned((40, 40, 30), (1.3, 1.3, 2.1), 0.4))
    (loss,) = laid.losses
    ball = 4 / 3 * np.pi * 18**3
    assert loss.before_mm3 == pytest.approx(ball, rel=0.02)
    assert loss.after_mm3 == pytest.approx(ball, rel=0.02)
    assert 0.95 < loss.dice < 1
    assert f"{loss.dice:.4f}" in str(loss)


def test_a_label_that_vanishes_is_said():
    array = np.zeros((12, 12, 12), np.uint8)
    array[2:10, 2:10, 2:10] = 1
    array[6, 6, 11] = 2
    labels = LabelMap.of(array, Geometry.from_spacing(array.shape, (1, 1, 1)), TABLE)
    laid = regrid_labels(labels, labels.geometry.zoomed((3, 3, 3)))
    lost = next(loss for loss in laid.losses if loss.label == "label_2")
    assert (lost.after_mm3, lost.dice) == (0.0, 0.0)
    assert "-100.00 %" in str(lost)


def test_layers_and_instances_go_along():
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"), Label(value=1, name="tissue", layer=1)))
    layers = np.zeros((2, 8, 8, 8), np.uint8)
    layers[0, 1:4, 1:4, 1:4] = layers[0, 5:7, 5:7, 5:7] = 1
    layers[1, 1:7] = 1
    instances = np.zeros(layers.shape, np.uint32)
    instances[0, 1:4, 1:4, 1:4], instances[0, 5:7, 5:7, 5:7] = 70000, 3
    grid = Geometry.from_spacing((8, 8, 8), (2, 2, 2))
    laid = regrid_labels(LabelMap(layers, grid, table, instances=instances), grid.zoomed((16, 16, 16))).labels
    np.testing.assert_array_equal(laid.layers, layers.repeat(2, 1).repeat(2, 2).repeat(2, 3))
    np.testing.assert_array_equal(laid.instances, instances.repeat(2, 1).repeat(2, 2).repeat(2, 3))


def test_what_lies_elsewhere_is_refused():
    labels = blobs(FINE)
    with pytest.raises(GridMismatchError, match="none of its labels"):
        regrid_labels(labels, Geometry.from_spacing((5, 5, 5), (1, 1, 1), (900, 0, 0)))
    picture = LabelMap.of(np.ones((4, 5), np.uint8), Geometry((4, 5)), TABLE)
    with pytest.raises(GridMismatchError):
        regrid_labels(picture, Geometry((5, 5)))
    with pytest.raises(GridMismatchError):
        regrid_labels(picture, FINE)


def test_an_empty_map_stays_empty():
    labels = LabelMap.of(np.zeros((4, 4, 4), np.uint8), Geometry.from_spacing((4, 4, 4), (1, 1, 1)), TABLE)
    assert not regrid_labels(labels, turned((5, 5, 5), (1, 1, 1), 0.2)).labels.array.any()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("pair", "winner"),
    [
        ((1, 2), 1), ((2, 1), 1),  # half and half: the lower value
        ((0, 1), 0), ((1, 0), 0), ((0, 2), 0),  # half of a voxel is not most of it
        ((1, 1), 1), ((2, 2), 2), ((0, 0), 0),
    ],
)  # fmt: skip
def test_ties_go_to_the_background_then_to_the_lower_value(axis, pair, winner):
    shape, coarse_shape = [4, 4, 4], [4, 4, 4]
    shape[axis], coarse_shape[axis] = 8, 4
    spacing, coarse_spacing = [2.0] * 3, [2.0] * 3
    spacing[axis] = 1.0
    affine = np.diag([*spacing, 1.0])
    target_affine = np.diag([*coarse_spacing, 1.0])
    target_affine[axis, 3] = 0.5
    classes = np.moveaxis(np.broadcast_to(np.tile(pair, 4), (4, 4, 8)), 2, axis).astype(np.uint8)
    result = resampled(classes, Geometry(tuple(shape), affine), Geometry(tuple(coarse_shape), target_affine))
    assert np.unique(result).tolist() == [winner]


def test_a_third_each_is_the_lowest_and_a_background_of_a_third_wins():
    fine, target = np.diag([1.0, 1, 1, 1]), np.diag([3.0, 1, 1, 1])
    target[0, 3] = 1.0
    for triple, winner in (((3, 1, 2), 1), ((2, 3, 3), 3), ((0, 2, 1), 0), ((0, 2, 2), 2)):
        classes = np.array(triple * 2, np.uint8)[:, None, None] * np.ones((6, 2, 2), np.uint8)
        result = resampled(classes, Geometry((6, 2, 2), fine), Geometry((2, 2, 2), target))
        assert np.unique(result).tolist() == [winner], triple
