import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from voxelry.core.instance_plan import InstancePlan
from voxelry.preparation import instance_targets as module
from voxelry.preparation.instance_targets import BORDER, CORE, FULL, NO_PART, instance_targets

PLAN = InstancePlan(labels=("cell",), diameter=8, border=1.5, erosion=1.5)
small_maps = arrays.arrays(np.int32, st.tuples(*[st.integers(2, 6)] * 2), elements=st.integers(0, 3))
small_volumes = arrays.arrays(np.int32, st.tuples(*[st.integers(2, 4)] * 3), elements=st.integers(0, 3))


def by_hand(ids, spacing):
    """Depths to the nearest voxel of another value, and the nearest object of each voxel outside, by looking at all pairs."""
    voxels = np.array(list(itertools.product(*map(range, ids.shape))))
    values, places = ids.ravel(), voxels * np.array(spacing)
    apart = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
    depth = np.where(values[:, None] != values[None], apart, np.inf).min(1)
    return depth.reshape(ids.shape), apart


@settings(max_examples=60, deadline=None)
@given(ids=st.one_of(small_maps, small_volumes), spacing=st.tuples(*[st.sampled_from([0.7, 1.0, 2.0])] * 3))
def test_distances_are_those_of_all_pairs_of_voxels(ids, spacing):
    spacing = spacing[: ids.ndim]
    targets = instance_targets(ids, spacing, PLAN)
    depth, apart = by_hand(ids, spacing)
    half = min(spacing) / 2
    radii = {number: depth[ids == number].max() - half for number in np.unique(ids[ids > 0]).tolist()}
    values, outside = ids.ravel(), targets.distance.ravel()
    if len(np.unique(ids)) == 1:  # nothing but background, or one object as large as the grid
        assert (targets.distance == (FULL if ids.any() else -FULL)).all()
        return
    for voxel, value in enumerate(values):
        if value:
            expected = (depth.ravel()[voxel] - half) / radii[value] * FULL
            assert abs(outside[voxel] - expected) <= 0.51
        else:
            away = np.where(values > 0, apart[voxel], np.inf)
            nearest = np.flatnonzero(away <= away.min() + 1e-9)
            shares = {min(1, (away.min() - half) / radii[values[index]]) for index in nearest}
            assert min(abs(outside[voxel] + share * FULL) for share in shares) <= 0.51


@settings(max_examples=60, deadline=None)
@given(ids=st.one_of(small_maps, small_volumes))
def test_every_object_has_a_core_within_itself(ids):
    targets = instance_targets(ids, (1,) * ids.ndim, PLAN)
    assert set(np.unique(ids[targets.parts == CORE])) - {0} == set(np.unique(ids)) - {0}
    assert (targets.parts[ids == 0] == NO_PART).all()
    assert ((targets.distance > 0) == (ids > 0)).all()
    deepest = ndimage.maximum(targets.distance, ids, np.unique(ids[ids > 0])) if ids.any() else []
    assert (np.asarray(deepest) == FULL).all()


@settings(max_examples=40, deadline=None)
@given(ids=small_maps, order=st.permutations([1, 2, 3]), axis=st.integers(0, 1))
def test_ids_may_be_exchanged_and_maps_mirrored(ids, order, axis):
    targets = instance_targets(ids, (1, 1), PLAN)
    renamed = instance_targets(np.array([0, *order])[ids], (1, 1), PLAN)
    assert np.array_equal(renamed.parts, targets.parts)
    mirrored = instance_targets(np.flip(ids, axis), (1, 1), PLAN)
    assert np.array_equal(np.flip(mirrored.parts, axis), targets.parts)
    inside = ids > 0  # outside, of two objects equally near either may count
    assert np.array_equal(renamed.distance[inside], targets.distance[inside])
    assert np.array_equal(np.flip(mirrored.distance, axis)[inside], targets.distance[inside])


def disc(radius, shape=(64, 64), centre=None):
    centre = centre or [n // 2 for n in shape]
    grid = np.indices(shape)
    return (sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= radius**2).astype(np.int32)


def test_distances_stay_true_where_a_map_is_scaled():
    once, twice = disc(10.5, (32, 32)), np.kron(disc(10.5, (32, 32)), np.ones((2, 2), int))
    before = instance_targets(once, (1, 1), PLAN).distance.astype(float)
    after = instance_targets(twice, (1, 1), PLAN).distance.astype(float)
    same = ndimage.zoom(before, 2, order=1, mode="nearest", grid_mode=True)
    inside = ndimage.binary_erosion(twice, iterations=3)
    assert np.abs(after - same)[inside].max() < 0.08 * FULL


def test_a_disc_in_mm():
    targets = instance_targets(disc(20), (0.5, 0.5), InstancePlan(labels=("a",), diameter=20, border=1, erosion=2))
    row = targets.parts[32, 12:33].tolist()
    assert row == [BORDER] * 2 + [NO_PART] * 2 + [CORE] * 17


@pytest.mark.parametrize("erosion", [0, 0.2, 3, 100])
def test_at_least_a_voxel_and_at_most_half_the_depth(erosion):
    plan = InstancePlan(labels=("a",), diameter=20, border=1, erosion=erosion)
    core = instance_targets(disc(10), (1, 1), plan).parts == CORE
    widths = core[32].sum()
    assert widths == {0: 19, 0.2: 19, 3: 15, 100: 11}[erosion]


def test_touching_objects_have_cores_apart():
    ids = np.zeros((8, 16), np.int32)
    ids[1:7, 1:8], ids[1:7, 8:15] = 1, 2
    plan = InstancePlan(labels=("a",), diameter=7, border=1, erosion=1)
    _, number = ndimage.label(instance_targets(ids, (1, 1), plan).parts == CORE)
    assert number == 2


def test_one_voxel_is_its_own_core():
    ids = np.zeros((5, 5, 5), np.int32)
    ids[2, 2, 2] = 7
    targets = instance_targets(ids, (1, 1, 4), PLAN)
    assert targets.parts[2, 2, 2] == CORE
    assert targets.distance[2, 2, 2] == FULL


def test_nothing_is_eroded_across_thick_slices():
    ids = np.zeros((12, 12, 3), np.int32)
    ids[2:10, 2:10, 1] = 1
    thick = PLAN.model_copy(update={"coarse_axis": 2, "erosion": 2.0})
    core = instance_targets(ids, (1, 1, 5), thick).parts == CORE
    assert core[:, :, 1].sum() == 16
    assert core.sum() == 16
    flat = instance_targets(ids[:, :, 1], (1, 1), thick.model_copy(update={"coarse_axis": None})).parts == CORE
    assert np.array_equal(core[:, :, 1], flat)


def test_an_object_cut_by_the_edge_of_the_grid_goes_on():
    whole = instance_targets(disc(10, (48, 48)), (1, 1), PLAN)
    half = instance_targets(disc(10, (48, 48))[24:], (1, 1), PLAN)
    assert (half.parts[0, 20:28] == CORE).all()
    assert np.abs(half.distance.astype(int) - whole.distance[24:]).max() <= 1


def test_stretches_make_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    ids = np.zeros((70, 30, 20), np.int32)
    for number in range(1, 15):
        corner = rng.integers(0, (60, 22, 12))
        ids[tuple(slice(first, first + int(rng.integers(1, 9))) for first in corner)] = number
    whole = instance_targets(ids, (1, 1, 2), PLAN)
    monkeypatch.setattr(module, "_SLAB", 7)
    pieces = instance_targets(ids, (1, 1, 2), PLAN)
    assert np.array_equal(whole.parts, pieces.parts)
    assert np.abs(whole.distance.astype(int) - pieces.distance)[ids > 0].max() == 0
    assert np.mean(whole.distance != pieces.distance) < 0.01  # of two objects equally near either may count


def test_no_objects():
    targets = instance_targets(np.zeros((4, 4), np.int32), (1, 1), PLAN)
    assert not targets.parts.any()
    assert (targets.distance == -FULL).all()
