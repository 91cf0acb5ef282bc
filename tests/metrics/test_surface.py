import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage
from scipy.spatial.distance import cdist

import voxelry.metrics.nearest_distances as nearest
import voxelry.metrics.surface_points as points
from helpers.peak_memory import peak_megabytes
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import GeometryError, GridMismatchError, LabelError, UsageError
from voxelry.metrics.boundary import border_voxels
from voxelry.metrics.empty_policy import EmptyPolicy
from voxelry.metrics.nearest_distances import nearest_distances
from voxelry.metrics.surface import SurfaceDistances, spacing_for_surfaces, surface_distances, surface_metrics
from voxelry.metrics.surface_elements import element_sizes, neighbour_codes

SPACING = (0.7, 1.3, 3.1)
STORED_ELEMENTS = (3.433656943, 3.178049716, 0.935846861, 1.038881555, 0.710772655)
STORED_VOXELS = (3.433656943, 3.178049716, 1.394732016, 1.337230452)
MASKS = hnp.arrays(np.uint8, st.tuples(*[st.integers(2, 6)] * 3), elements=st.integers(0, 2))


@pytest.fixture(params=["plain", "compiled"])
def way(request, monkeypatch):
    """Every case by the path of small arrays and by that of large ones."""
    if request.param == "compiled":
        monkeypatch.setattr(points, "LARGE_VOXELS", 0)
        monkeypatch.setattr(nearest, "_MANY_POINTS", 1)
    return request.param


def pair(shape=(14, 16, 12), seed=0):
    """Two label maps of smooth, similar regions 0..3."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    edges = np.quantile(noise, [0.4, 0.6, 0.8])
    return [np.digitize(field, edges).astype(np.uint8) for field in (noise, ndimage.shift(noise, 1.5, mode="wrap"))]


def two_boxes():
    reference, prediction = np.zeros((8, 9, 7), bool), np.zeros((8, 9, 7), bool)
    reference[1:6, 2:7, 1:5] = True
    prediction[2:7, 2:8, 0:4] = True
    prediction[2, 2, 0] = False
    return reference, prediction


def brute(reference, prediction, spacing, definition):
    """Distances and weights, by comparing every point with every other."""
    found = []
    for mask in (reference, prediction):
        if definition == "elements":
            codes = neighbour_codes(mask)
            at = np.argwhere((codes > 0) & (codes < 255))
            found.append((at * spacing, element_sizes(spacing)[codes[tuple(at.T)]]))
        else:
            at = np.argwhere(border_voxels(mask))
            found.append((at * spacing, np.ones(len(at))))
    table = cdist(found[0][0], found[1][0])
    return table.min(axis=1), found[0][1], table.min(axis=0), found[1][1]


def sorted_pairs(distances, weights):
    return np.array(sorted(zip(distances.round(9), weights.round(9), strict=True)))


@pytest.mark.parametrize("definition", ["elements", "voxels"])
@pytest.mark.parametrize("seed", range(2))
def test_agrees_with_brute_force(way, definition, seed):
    reference, prediction = pair(seed=seed)
    found = surface_distances(reference, prediction, SPACING, definition=definition)
    assert sorted(found) == [1, 2, 3]
    for label, got in found.items():
        there, areas, back, other_areas = brute(reference == label, prediction == label, SPACING, definition)
        np.testing.assert_allclose(sorted_pairs(got.to_prediction, got.reference_weights), sorted_pairs(there, areas), atol=1e-8)
        np.testing.assert_allclose(
            sorted_pairs(got.to_reference, got.prediction_weights), sorted_pairs(back, other_areas), atol=1e-8
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("shape", [(14, 16, 12), (20, 24)])
def test_agrees_with_surface_distance(way, shape, monkeypatch):
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    peer = pytest.importorskip("surface_distance")
    spacing = SPACING[: len(shape)]
    reference, prediction = pair(shape)
    for label, got in surface_distances(reference, prediction, spacing).items():
        expected = peer.compute_surface_distances(reference == label, prediction == label, spacing)
        np.testing.assert_allclose(got.to_prediction, expected["distances_gt_to_pred"], atol=1e-6)
        assert got.hausdorff(95) == pytest.approx(peer.compute_robust_hausdorff(expected, 95), abs=1e-6)
        assert got.nsd(1.0) == pytest.approx(peer.compute_surface_dice_at_tolerance(expected, 1.0), abs=1e-6)
        means = got.msd_to_prediction(), got.msd_to_reference()
        assert means == pytest.approx(peer.compute_average_surface_distance(expected), abs=1e-6)


def test_stored_results_of_surface_distance_and_medpy(way):
    # compute_surface_distances(*two_boxes(), (0.7, 1.3, 3.1)) of surface-distance 0.1 with its robust Hausdorff at 100 and 95,
    # average distances and surface Dice at 1 mm; hd, hd95, asd, assd of medpy.metric.binary 0.5.2, voxelspacing the same.
    elements = surface_distances(*two_boxes(), SPACING)[1]
    assert elements.hausdorff() == pytest.approx(STORED_ELEMENTS[0], abs=1e-6)
    assert elements.hausdorff(95) == pytest.approx(STORED_ELEMENTS[1], abs=1e-6)
    assert (elements.msd_to_prediction(), elements.msd_to_reference()) == pytest.approx(STORED_ELEMENTS[2:4], abs=1e-6)
    assert elements.nsd(1.0) == pytest.approx(STORED_ELEMENTS[4], abs=1e-6)
    voxels = surface_distances(*two_boxes(), SPACING, definition="voxels")[1]
    got = voxels.hausdorff(), voxels.hausdorff(95, pooled=True), voxels.msd_to_reference(), voxels.assd()
    assert got == pytest.approx(STORED_VOXELS, abs=1e-6)


@pytest.mark.filterwarnings("ignore:monai.metrics:FutureWarning")
def test_agrees_with_monai_on_border_voxels(way):
    reference, prediction = pair()
    for label, got in surface_distances(reference, prediction, SPACING, definition="voxels").items():
        truth, guess = (torch.from_numpy(map_ == label)[None, None].float() for map_ in (reference, prediction))
        for percentile in (95, 100):
            peer = compute_hausdorff_distance(guess, truth, include_background=True, percentile=percentile, spacing=SPACING)
            assert got.hausdorff(percentile) == pytest.approx(peer.item(), rel=1e-5)
        peer = compute_average_surface_distance(guess, truth, include_background=True, symmetric=True, spacing=SPACING)
        assert got.assd() == pytest.approx(peer.item(), rel=1e-5)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("definition", ["elements", "voxels"])
def test_a_shifted_cube_is_as_far_as_its_shift_on_that_axis(way, axis, definition):
    reference = np.zeros((20, 20, 20), np.uint8)
    reference[5:11, 5:11, 5:11] = 1
    prediction = np.roll(reference, 2, axis)
    got = surface_distances(reference, prediction, SPACING, definition=definition)[1]
    assert got.hausdorff() == pytest.approx(2 * SPACING[axis], abs=1e-12)


def test_two_spheres_are_as_far_as_their_radii(way):
    grid = np.stack(np.meshgrid(*[np.arange(-24, 25)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    outer, inner = (radius <= 20), (radius <= 8)
    got = surface_distances(outer, inner, (1, 1, 1))[1]
    for value in (got.assd(), got.hausdorff(95), got.msd_to_reference()):
        assert value == pytest.approx(12, abs=1)  # to a voxel
    assert got.reference_weights.sum() == pytest.approx(4 * np.pi * 20**2, rel=0.1)
    assert got.nsd(10.0) == 0
    assert got.nsd(14.0) == 1


def test_one_voxel_has_the_surface_of_an_octahedron_around_it(way):
    mask = np.zeros((3, 3, 3), np.uint8)
    mask[1, 1, 1] = 1
    moved = np.roll(mask, 1, axis=2)
    got = surface_distances(mask, moved, (1, 1, 1))[1]
    assert got.reference_weights.sum() == pytest.approx(8 * np.sqrt(3) / 8)
    assert got.hausdorff() == 1
    voxels = surface_distances(mask, moved, SPACING, definition="voxels")[1]
    assert voxels.to_prediction.tolist() == [SPACING[2]]


def test_a_mask_that_fills_the_image_has_its_surface_at_the_edge(way):
    full = np.ones((4, 5, 6), np.uint8)
    got = surface_distances(full, full, (1, 1, 1))[1]
    assert got.reference_weights.sum() > 2 * (3 * 4 + 4 * 5 + 3 * 5)
    assert got.assd() == 0
    assert got.nsd(0.0) == 1


def test_empty_masks_follow_the_policy(way):
    empty, full = np.zeros((4, 5, 6), np.uint8), np.ones((4, 5, 6), np.uint8)
    for reference, prediction in ((empty, full), (full, empty)):
        got = surface_distances(reference, prediction, (1, 1, 1), labels=[1])[1]
        assert np.isnan([got.hausdorff(95), got.assd(), got.masd(), got.msd_to_prediction()]).all()
        assert got.nsd(1.0) == 0
        assert got.hausdorff(policy=EmptyPolicy(None, None, None)) == np.inf
        assert got.assd(EmptyPolicy(only_reference=99.0, only_prediction=99.0)) == 99
    neither = surface_metrics(empty, empty, (1, 1, 1), labels=[1])[1]
    assert np.isnan(list(neither.values())).all()
    assert surface_distances(empty, empty, (1, 1, 1)) == {}


@settings(max_examples=30, deadline=None)
@given(MASKS, st.integers(0, 10**6))
def test_swapping_the_maps_swaps_the_sides(reference, seed):
    prediction = np.random.default_rng(seed).integers(0, 3, reference.shape).astype(np.uint8)
    forth, back = (surface_metrics(*maps, SPACING, labels=[1, 2]) for maps in ((reference, prediction), (prediction, reference)))
    for label in (1, 2):
        for metric in ("hd", "hd95", "assd", "masd", "nsd"):
            np.testing.assert_allclose(forth[label][metric], back[label][metric], atol=1e-12)
        np.testing.assert_allclose(forth[label]["msd_to_prediction"], back[label]["msd_to_reference"], atol=1e-12)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_axes_and_spacing_permuted_together_change_nothing(order, monkeypatch):
    monkeypatch.setattr(points, "LARGE_VOXELS", 0)
    reference, prediction = pair()
    expected = surface_metrics(reference, prediction, SPACING)
    moved = [np.transpose(map_, order) for map_ in (reference, prediction)]
    got = surface_metrics(*moved, [SPACING[axis] for axis in order])
    wrong = surface_metrics(*moved, SPACING)
    for label in expected:
        assert got[label] == pytest.approx(expected[label], abs=1e-9)
    assert order == (0, 1, 2) or wrong[1]["assd"] != pytest.approx(expected[1]["assd"])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64, np.uint32])
def test_types_and_label_values_do_not_matter(way, dtype):
    reference, prediction = pair()
    expected = surface_metrics(reference, prediction, SPACING)
    values = np.array([0, 3, 255, 7]) if dtype == np.uint8 else np.array([0, 300, 256 * 100, 1])
    got = surface_metrics(*(values.astype(dtype)[map_] for map_ in (reference, prediction)), SPACING)
    for label, value in enumerate(values.tolist()):
        if label:
            assert got[value] == expected[label]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([1, 2, 4])), min_size=1, max_size=40), st.integers(0, 100))
def test_a_percentile_at_a_tie_is_the_smallest_distance_that_covers_it(points, percent):
    points = sorted(points)
    distances, weights = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    sides = SurfaceDistances(distances, weights, np.zeros(1), np.ones(1))
    total = sum(weight for _, weight in points)
    covered = itertools.accumulate(weight for _, weight in points)
    # in whole numbers, exact at ties
    expected = next(distance for (distance, _), sum_ in zip(points, covered, strict=True) if sum_ * 100 >= percent * total)
    if total & (total - 1) == 0 or total == 20:  # shares that floats hold, or that agree with percent / 100 in every digit
        assert sides.hausdorff(percent) == expected


def test_hd95_of_twenty_equal_elements_is_the_nineteenth():
    sides = SurfaceDistances(np.arange(20.0), np.ones(20), np.zeros(1), np.ones(1))
    assert sides.hausdorff(95) == 18
    assert SurfaceDistances(np.zeros(1), np.ones(1), np.arange(20.0), np.ones(20)).hausdorff(95) == 18
    assert sides.hausdorff(95.01) == 19
    assert sides.hausdorff(100) == 19
    assert SurfaceDistances(np.arange(21.0), np.ones(21), np.zeros(1), np.ones(1), "voxels").hausdorff(95) == 19


@pytest.mark.parametrize("spacing", [(2.0, 0.5), (0.5, 2.0), (1.0, 1.0), (0.3, 7.0)])
def test_the_outline_of_a_rectangle_is_as_long_as_its_pixels_are(spacing):
    mask = np.zeros((9, 16), np.uint8)
    mask[2:6, 3:13] = 1  # 4 rows, 10 columns
    weights = surface_distances(mask, mask, spacing, [1])[1].reference_weights
    row, column = spacing
    corners = 4 * 0.5 * np.hypot(row, column)
    assert weights.sum() == pytest.approx(2 * 9 * column + 2 * 3 * row + corners)
    turned = surface_distances(mask.T, mask.T, spacing[::-1], [1])[1].reference_weights
    np.testing.assert_allclose(np.sort(turned), np.sort(weights))


def test_tolerances_by_label():
    reference, prediction = pair()
    got = surface_metrics(reference, prediction, SPACING, tolerances={1: 0.0, 2: 1.0, 3: 100.0}, percentile=90)
    assert 0 < got[1]["nsd"] < got[2]["nsd"] < got[3]["nsd"] == 1
    assert "hd90" in got[1]
    with pytest.raises(UsageError, match="2, 3"):
        surface_metrics(reference, prediction, SPACING, tolerances={1: 0.0})


@pytest.mark.parametrize("gap", [0, 3, 15, 40])
def test_nearest_distances_near_and_far(gap, monkeypatch):
    monkeypatch.setattr(nearest, "_MANY_POINTS", 100)
    rng = np.random.default_rng(gap)
    some, others = rng.integers(0, 12, (400, 3)).astype(np.int32), rng.integers(0, 12, (300, 3)).astype(np.int32)
    others[:, 1] += gap + 12
    got = nearest_distances(some, others, SPACING)
    np.testing.assert_allclose(got, cdist(some * SPACING, others * SPACING).min(axis=1), atol=1e-12)


def test_the_transform_is_exact_and_says_infinite_of_nothing():
    rng = np.random.default_rng(3)
    some, others = rng.integers(0, 30, (500, 3)).astype(np.int32), rng.integers(0, 30, (5, 3)).astype(np.int32)
    got = nearest._by_transform(some, others, (30, 30, 30), SPACING)
    np.testing.assert_allclose(got, cdist(some * SPACING, others * SPACING).min(axis=1), atol=1e-12)
    assert np.isinf(nearest_distances(some, others[:0], SPACING)).all()


def test_grids_without_a_right_angle_or_size_are_refused():
    table, array = LabelTable.numbered([1]), np.zeros((4, 4, 4), np.uint8)
    straight = Geometry.from_spacing((4, 4, 4), SPACING)
    assert spacing_for_surfaces(LabelMap.of(array, straight, table)) == pytest.approx(SPACING)
    tilted = straight.affine.copy()
    tilted[1, 2] = 0.8
    with pytest.raises(GeometryError, match="sheared"):
        spacing_for_surfaces(LabelMap.of(array, Geometry((4, 4, 4), tilted), table))
    with pytest.raises(GeometryError, match="pixel size"):
        spacing_for_surfaces(LabelMap.of(array[0], Geometry((4, 4)), table))
    assert spacing_for_surfaces(LabelMap.of(array[0], Geometry((4, 4), pixel_size=(0.2, 0.3)), table)) == (0.2, 0.3)


def test_refusals():
    mask = np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(GridMismatchError):
        surface_distances(mask, mask[1:], SPACING)
    with pytest.raises(GeometryError, match="positive"):
        surface_distances(mask, mask, (1, 1))
    with pytest.raises(GeometryError, match="positive"):
        surface_distances(mask, mask, (1, 1, 0))
    with pytest.raises(LabelError, match="float"):
        surface_distances(mask.astype(float), mask, SPACING)
    with pytest.raises(LabelError, match="background"):
        surface_distances(mask, mask, SPACING, labels=[0])
    with pytest.raises(UsageError, match="definition"):
        surface_distances(mask, mask, SPACING, definition="edges")
    got = surface_distances(mask + 1, mask + 1, SPACING)[1]
    with pytest.raises(UsageError, match="101"):
        got.hausdorff(101)
    with pytest.raises(UsageError, match="tolerance"):
        got.nsd(-1)


def test_memory_grows_with_the_points_of_the_surfaces():
    shape = (130, 140, 150)
    for share in (0.0005, 0.02):
        reference = (np.random.default_rng(0).random(shape) < share).astype(np.uint8)
        prediction = np.roll(reference, 3, axis=0)
        distances = surface_distances(reference, prediction, (1.0, 1.0, 1.0))[1]
        count = len(distances.to_prediction) + len(distances.to_reference)
        used = peak_megabytes(lambda a=reference, b=prediction: surface_distances(a, b, (1.0, 1.0, 1.0)))
        assert used < (64 * count + 5 * reference.size) / 1e6
        assert used > 20 * count / 1e6
