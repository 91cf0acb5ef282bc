import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from voxelry.core.geometry import Geometry, Reindex, flip_lps_ras
from voxelry.errors import GeometryError

SIGNED_PERMUTATIONS = [
    Reindex(order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]  # fmt: skip
ORIENTATIONS = [
    "".join(letters)
    for pairs in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*pairs)
]  # fmt: skip

shapes = st.tuples(*[st.integers(1, 6)] * 3)
spacings = st.tuples(*[st.floats(0.1, 8.0)] * 3)
signed_permutations = st.sampled_from(SIGNED_PERMUTATIONS)


@st.composite
def geometries(draw: st.DrawFn, shear: float = 0.5, turn: float = 3.2) -> Geometry:
    """Any grid: rotated, sheared, permuted, flipped, anisotropic."""
    a, b, c = (draw(st.floats(-turn, turn)) for _ in range(3))
    ca, sa, cb, sb, cc, sc = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(c), np.sin(c)
    rotation = (
        np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
        @ np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
        @ np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    )
    tilt = np.eye(3)
    tilt[0, 1], tilt[0, 2], tilt[1, 2] = (draw(st.floats(-shear, shear)) for _ in range(3))
    change = draw(signed_permutations)
    permuted = np.eye(3)[:, list(change.order)] * np.where(change.flips, -1, 1)
    affine = np.eye(4)
    affine[:3, :3] = rotation @ tilt @ permuted @ np.diag(draw(spacings))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return Geometry(draw(shapes), affine)


def world_of_every_voxel(geometry: Geometry) -> np.ndarray:
    """Brute force, `(3, *spatial)`: the affine times each index, one voxel at a time."""
    places = np.empty((3, *geometry.shape))
    for index in np.ndindex(*geometry.shape):
        places[(slice(None), *index)] = (geometry.affine @ (*index, 1))[:3]
    return places


# ---- against nibabel


@given(geometries(shear=0.1, turn=0.3))
def test_orientation_agrees_with_nibabel(geometry: Geometry):
    assert geometry.orientation == "".join(nib.aff2axcodes(geometry.affine))


@given(geometries())
def test_spacing_agrees_with_nibabel(geometry: Geometry):
    assert_allclose(geometry.spacing, nib.affines.voxel_sizes(geometry.affine))


@given(geometries(shear=0.1, turn=0.3), st.sampled_from(ORIENTATIONS))
def test_reorienting_agrees_with_nibabel(geometry: Geometry, codes: str):
    array = np.arange(np.prod(geometry.shape)).reshape(geometry.shape)
    image = nib.Nifti1Image(array.astype(np.int32), geometry.affine)
    start = nib.io_orientation(geometry.affine)
    oracle = image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes)))
    change = geometry.reindexing_to_orientation(codes)
    assert geometry.reindexed(change).orientation == codes
    assert_array_equal(change.apply(array), np.asarray(oracle.dataobj))
    assert_allclose(geometry.reindexed(change).affine, oracle.affine, atol=1e-9)


@given(geometries())
def test_each_axis_gets_a_world_axis_of_its_own_even_at_45_degrees(geometry: Geometry):
    codes = geometry.orientation
    assert sorted("LR".find(c) >= 0 or ("PA".find(c) >= 0) * 2 for c in codes) == [0, 1, 2]
    assert geometry.reindexing_to_orientation(codes).is_identity


# ---- reindexing


@given(geometries(), signed_permutations)
def test_each_voxel_keeps_its_place_when_reindexed(geometry: Geometry, change: Reindex):
    moved = geometry.reindexed(change)
    assert_allclose(world_of_every_voxel(moved), change.apply(world_of_every_voxel(geometry)), atol=1e-8)
    assert_allclose(sorted(moved.spacing), sorted(geometry.spacing))
    assert moved.voxel_volume == pytest.approx(geometry.voxel_volume)


@given(geometries(), signed_permutations)
def test_the_inverse_undoes_a_reindexing(geometry: Geometry, change: Reindex):
    array = np.random.default_rng(0).integers(0, 99, (2, *geometry.shape))
    assert_array_equal(change.inverse.apply(change.apply(array)), array)
    assert change.inverse.inverse == change
    back = geometry.reindexed(change).reindexed(change.inverse)
    assert back.shape == geometry.shape
    assert_allclose(back.affine, geometry.affine, atol=1e-9)


@given(geometries(), signed_permutations)
def test_reindexing_to_finds_a_way_that_fits(geometry: Geometry, change: Reindex):
    target = geometry.reindexed(change)
    found = geometry.reindexing_to(target)
    assert found is not None
    assert geometry.reindexed(found).same_grid(target)
    assert_allclose(found.apply(world_of_every_voxel(geometry)), world_of_every_voxel(target), atol=target.grid_tolerance)
    if min(geometry.shape) > 1:
        assert found == change


@given(geometries())
def test_reindexing_to_an_equal_grid_is_the_identity(geometry: Geometry):
    assert geometry.reindexing_to(Geometry(geometry.shape, geometry.affine)).is_identity


@given(geometries(), st.integers(0, 2))
def test_no_reindexing_reaches_a_shifted_grid(geometry: Geometry, axis: int):
    affine = geometry.affine.copy()
    affine[:3, 3] += affine[:3, axis] * 0.3 + 0.01
    target = Geometry(geometry.shape, affine)
    assert geometry.reindexing_to(target) is None or geometry.distance(target) < geometry.grid_tolerance * 2


def test_a_view_is_made_not_a_copy():
    array = np.zeros((2, 3, 4, 5), np.int16)
    view = Reindex((2, 0, 1), (True, False, True)).apply(array)
    assert view.shape == (2, 5, 3, 4)
    assert np.shares_memory(view, array)


# ---- the same grid


@given(geometries(), st.integers(0, 2), st.sampled_from([0.5, 0.9, 1.1, 3.0]))
def test_the_grid_tolerance_is_a_bound(geometry: Geometry, axis: int, factor: float):
    step = np.zeros(3)
    step[axis] = factor * geometry.grid_tolerance
    affine = geometry.affine.copy()
    affine[:3, 3] += step
    assert geometry.same_grid(Geometry(geometry.shape, affine)) == (factor < 1)


@pytest.mark.parametrize(("spacing", "tolerance"), [((1, 1, 5), 0.01), ((0.05, 1, 1), 0.001), ((3, 2, 4), 0.02)])
def test_the_grid_tolerance_is_the_larger_of_a_micrometre_and_one_percent(spacing, tolerance):
    assert Geometry.from_spacing((4, 4, 4), spacing).grid_tolerance == pytest.approx(tolerance)


@given(geometries(), geometries())
def test_distance_is_the_largest_over_all_voxels(one: Geometry, other: Geometry):
    other = Geometry(one.shape, other.affine)
    brute = np.linalg.norm(world_of_every_voxel(one) - world_of_every_voxel(other), axis=0).max()
    assert one.distance(other) == pytest.approx(brute)
    assert one.distance(other) == pytest.approx(other.distance(one))


def test_a_scale_error_too_small_to_see_in_the_affine_is_seen_at_the_far_corner():
    one, other = (Geometry.from_spacing((512, 4, 4), (size, 1, 1)) for size in (1.0, 1.001))
    assert one.distance(other) == pytest.approx(0.511)
    assert not one.same_grid(other)


def test_other_shapes_are_other_grids():
    assert not Geometry.from_spacing((3, 4, 5), (1, 1, 1)).same_grid(Geometry.from_spacing((3, 4, 6), (1, 1, 1)))


def test_pictures_compare_shapes_and_known_pixel_sizes():
    unknown, half, other = (Geometry((4, 5), None, size) for size in (None, (0.5, 0.5), (0.6, 0.5)))
    assert unknown.same_grid(half)
    assert not half.same_grid(other)
    assert half.reindexing_to(unknown).is_identity
    assert half.reindexing_to(other) is None
    assert Geometry((4, 5)).distance(Geometry.from_spacing((4, 5, 1), (1, 1, 1))) == np.inf


# ---- crop and zoom


@given(geometries(), shapes)
def test_zoom_keeps_the_outer_corners_of_the_block(geometry: Geometry, shape):
    def corners(grid: Geometry) -> np.ndarray:
        return grid.world(list(itertools.product(*((-0.5, size - 0.5) for size in grid.shape))))

    zoomed = geometry.zoomed(shape)
    assert zoomed.shape == shape
    assert_allclose(corners(zoomed), corners(geometry), atol=1e-8)
    assert_allclose(zoomed.zoomed(geometry.shape).affine, geometry.affine, atol=1e-8)


@given(geometries(), st.tuples(*[st.integers(-3, 3)] * 3), shapes)
def test_crop_keeps_places(geometry: Geometry, start, shape):
    cropped = geometry.cropped(start, shape)
    assert cropped.shape == shape
    assert_allclose(cropped.world((0, 0, 0)), geometry.world(start), atol=1e-9)
    assert_allclose(cropped.world(np.subtract((1, 2, 3), start)), geometry.world((1, 2, 3)), atol=1e-8)


def test_pictures_crop_zoom_and_reindex():
    picture = Geometry((10, 20), None, (0.5, 0.25))
    assert picture.zoomed((5, 40)).spacing == (1.0, 0.125)
    assert picture.cropped((1, 1), (3, 4)).spacing == (0.5, 0.25)
    turned = picture.reindexed(Reindex((1, 0), (True, False)))
    assert (turned.shape, turned.spacing) == ((20, 10), (0.25, 0.5))
    assert Geometry((10, 20)).zoomed((5, 5)).spacing is None


# ---- derived values


def test_voxel_volume_of_a_sheared_grid_is_the_determinant():
    affine = np.array([[2, 0, 0, 0], [0, 3, 1.5, 0], [0, 0, 4, 0], [0, 0, 0, 1.0]])
    geometry = Geometry((2, 2, 2), affine)
    assert geometry.voxel_volume == pytest.approx(24)
    assert geometry.spacing == pytest.approx((2, 3, np.hypot(1.5, 4)))
    assert not geometry.is_orthogonal


@pytest.mark.parametrize("cosine", [0.5e-4, 2e-4])
def test_orthogonal_is_a_cosine_below_one_in_ten_thousand(cosine):
    affine = np.eye(4)
    affine[1, 2] = cosine
    assert Geometry((2, 2, 2), affine).is_orthogonal == (cosine < 1e-4)


def test_a_picture_has_no_place_in_the_patient():
    picture = Geometry((4, 5))
    assert (picture.spacing, picture.voxel_volume, picture.direction, picture.orientation) == (None,) * 4
    assert picture.is_orthogonal
    assert Geometry((4, 5), None, (0.5, 0.4)).voxel_volume == pytest.approx(0.2)
    with pytest.raises(GeometryError, match="no position"):
        picture.world((0, 0))


def test_describe_names_shape_spacing_and_orientation():
    assert Geometry.from_spacing((3, 4, 5), (1, 0.5, 2)).describe() == "3 x 4 x 5 voxels, 1 x 0.5 x 2 mm, RAS"
    assert Geometry((3, 4)).describe() == "3 x 4 voxels, unknown pixel size"


def test_the_affine_is_the_grids_own_and_read_only():
    affine = np.eye(4)
    geometry = Geometry((2, 2, 2), affine)
    affine[0, 0] = 7
    assert geometry.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 7


@given(geometries())
def test_lps_and_ras_differ_in_two_signs_and_one_function_turns_both_ways(geometry: Geometry):
    lps = flip_lps_ras(geometry.affine)
    assert_array_equal(flip_lps_ras(lps), geometry.affine)
    assert_array_equal(lps, np.diag([-1, -1, 1, 1]) @ geometry.affine)
    points = geometry.world([[0, 0, 0], [1, 2, 3]])
    assert_allclose(flip_lps_ras(points), [(lps @ (0, 0, 0, 1))[:3], (lps @ (1, 2, 3, 1))[:3]], atol=1e-8)


# ---- what is refused

TRANSPOSED = np.eye(4)
TRANSPOSED[3, :3] = 5


@pytest.mark.parametrize(
    ("shape", "affine", "pixel_size", "message"),
    [
        ((3, 0, 2), np.eye(4), None, "no voxels"),
        ((3, 4), np.eye(4), None, "3 spatial axes, not 2"),
        ((3, 4, 5), None, None, "2 spatial axes, not 3"),
        ((3, 4, 5), np.eye(3), None, "4 x 4"),
        ((3, 4, 5), np.full((4, 4), np.nan), None, "finite"),
        ((3, 4, 5), np.diag([1.0, 1, 0, 1]), None, "no volume"),
        ((3, 4, 5), TRANSPOSED, None, "transposed"),
        ((3, 4, 5), np.eye(4), (1.0, 1.0), "not from a pixel size"),
        ((3, 4), None, (0.5, 0.0), "positive"),
        ((3, 4), None, (0.5, float("nan")), "positive"),
        ((3, 4), None, (0.5, 0.5, 0.5), "two positive"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(shape, affine, pixel_size, message):
    with pytest.raises(GeometryError, match=message):
        Geometry(shape, affine, pixel_size)


@pytest.mark.parametrize("codes", ["RA", "RAR", "RAX", "RXAS", "", "RASS"])
def test_an_orientation_is_three_letters_of_three_pairs(codes):
    with pytest.raises(GeometryError, match="three letters"):
        Geometry.from_spacing((2, 3, 4), (1, 1, 1)).reindexing_to_orientation(codes)


def test_a_picture_has_no_orientation_to_change():
    with pytest.raises(GeometryError, match="2D grid"):
        Geometry((4, 5)).reindexing_to_orientation("RAS")


@given(geometries(), signed_permutations, st.data())
def test_a_part_in_any_order_finds_its_place_on_the_lattice(geometry: Geometry, change: Reindex, data: st.DataObject):
    start = [data.draw(st.integers(0, size - 1)) for size in geometry.shape]
    shape = [data.draw(st.integers(1, size - first)) for size, first in zip(geometry.shape, start, strict=True)]
    part = geometry.cropped(start, shape).reindexed(change)
    turn = part.reindexing_into(geometry)
    assert turn is not None
    placed = part.reindexed(turn)
    assert placed.same_grid(geometry.cropped(geometry.offset_of(placed), placed.shape))
    world = np.sort(world_of_every_voxel(placed).reshape(3, -1), axis=1)
    np.testing.assert_allclose(world, np.sort(world_of_every_voxel(part).reshape(3, -1), axis=1), atol=1e-6)


def test_a_grid_off_the_lattice_has_no_place_on_it():
    lattice = Geometry.from_spacing((8, 8, 8), (1, 1, 1))
    assert Geometry.from_spacing((2, 2, 2), (1, 1, 1), (0.5, 0, 0)).reindexing_into(lattice) is None
    assert Geometry.from_spacing((2, 2, 2), (2, 1, 1)).reindexing_into(lattice) is None
    assert Geometry((8, 8)).reindexing_into(lattice) is None


@pytest.mark.parametrize("lengths", [(2, 2, 3), (3, 2, 3), (3, 3, 2), (4, 4, 3)])
def test_a_grid_from_spacing_has_three_axes(lengths):
    shape, spacing, origin = ((4,) * lengths[0], (1.0,) * lengths[1], (0.0,) * lengths[2])
    with pytest.raises(GeometryError, match="where a volume has three axes"):
        Geometry.from_spacing(shape, spacing, origin)
