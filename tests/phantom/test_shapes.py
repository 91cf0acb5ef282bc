import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from voxelry.core.geometry import Geometry
from voxelry.errors import GeometryError
from voxelry.phantom.canvas import Canvas
from voxelry.phantom.shapes import (
    Grain,
    Warp,
    Waves,
    capsule,
    coverage,
    ellipsoid,
    half_space,
    points,
    rotation,
    smooth_intersection,
    smooth_union,
    superellipse,
)

GRID = Geometry.from_spacing((40, 40, 40), (1.0, 1.0, 1.0), (-19.5, -19.5, -19.5))
POINTS = np.random.default_rng(0).uniform(-40, 40, (3, 2000)).astype(np.float32)


def test_points_are_the_voxel_centres_of_the_geometry():
    affine = np.array([[0, -2, 0.3, 5], [1.5, 0, 0, -7], [0, 0.2, 3, 9], [0, 0, 0, 1]], dtype=float)
    grid = Geometry((4, 5, 6), affine)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    np.testing.assert_allclose(np.moveaxis(points(grid), 0, -1), grid.world(index), atol=1e-4)


def test_points_of_a_picture_are_refused():
    with pytest.raises(GeometryError, match="picture"):
        points(Geometry((3, 3)))


def test_rotation_is_scipys():
    np.testing.assert_allclose(rotation((10, -20, 30)), Rotation.from_euler("xyz", (10, -20, 30), degrees=True).as_matrix())


def test_a_sphere_has_its_exact_distance():
    expected = np.linalg.norm(POINTS - np.array([[1], [2], [3]]), axis=0) - 12
    np.testing.assert_allclose(ellipsoid(POINTS, (1, 2, 3), (12, 12, 12)), expected, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(2, 30)] * 3), st.tuples(*[st.floats(-90, 90)] * 3))
def test_an_ellipsoid_is_negative_just_where_its_inequality_holds(radii, degrees):
    own = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix().T @ POINTS
    level = ((own / np.reshape(radii, (3, 1))) ** 2).sum(axis=0)
    clear = np.abs(level - 1) > 1e-3
    np.testing.assert_array_equal((ellipsoid(POINTS, (0, 0, 0), radii, degrees) < 0)[clear], (level < 1)[clear])


def test_the_centre_of_an_ellipsoid_is_inside():
    assert ellipsoid(np.zeros((3, 1), np.float32), (0, 0, 0), (3, 4, 5))[0] == -3


def test_a_capsule_is_the_brute_force_distance_to_its_segment():
    start, end = np.array([-10.0, 3, 5]), np.array([12.0, -8, 20])
    along = start[:, None] + (end - start)[:, None] * np.linspace(0, 1, 2001)
    nearest = np.sqrt(((POINTS[:, :200, None] - along[:, None]) ** 2).sum(axis=0)).min(axis=1)
    np.testing.assert_allclose(capsule(POINTS[:, :200], start, end, 4), nearest - 4, atol=1e-2)


def test_a_superellipse_of_power_two_is_an_ellipse():
    inside = (POINTS[0] / 30) ** 2 + (POINTS[1] / 20) ** 2 < 1
    np.testing.assert_array_equal(superellipse(POINTS[0], POINTS[1], 30, 20, 2.0) < 0, inside)


def test_blending_only_fills_creases_and_only_rounds_edges():
    a, b = ellipsoid(POINTS, (-8, 0, 0), (12, 12, 12)), ellipsoid(POINTS, (8, 0, 0), (12, 12, 12))
    union, common = smooth_union(a, b, 5), smooth_intersection(a, b, 5)
    assert (union <= np.minimum(a, b) + 1e-5).all()
    assert (common >= np.maximum(a, b) - 1e-5).all()
    far = np.abs(a - b) > 5
    np.testing.assert_allclose(union[far], np.minimum(a, b)[far], atol=1e-5)


def test_a_half_space_is_outside_where_its_normal_looks():
    np.testing.assert_allclose(half_space(POINTS, (0, 5, 0), (0, 2, 0)), POINTS[1] - 5, atol=1e-5)


def test_partial_volume_sums_to_the_volume():
    share = coverage(ellipsoid(points(GRID), (0.3, -0.2, 0.1), (14, 11, 9)), 1.0)
    assert share.sum() == pytest.approx(4 / 3 * np.pi * 14 * 11 * 9, rel=0.01)


def test_waves_have_their_amplitude_and_wavelength():
    rng = np.random.default_rng(3)
    fields = [Waves.draw(rng, (10.0, 20.0), 4.0) for _ in range(20)]
    assert np.mean([field(POINTS).std() for field in fields]) == pytest.approx(4.0, rel=0.1)
    lengths = 2 * np.pi / np.linalg.norm(fields[0].vectors, axis=1)
    assert ((lengths >= 10) & (lengths <= 20)).all()


def test_a_warp_moves_points_by_its_fields():
    warp = Warp.draw(np.random.default_rng(1), (50.0, 90.0), 2.0)
    np.testing.assert_allclose(warp(POINTS)[1] - POINTS[1], warp.fields[1](POINTS), atol=1e-4)


def test_grain_is_a_function_of_place_alone():
    grain = Grain.draw(np.random.default_rng(1), 5.0)
    np.testing.assert_allclose(grain(POINTS)[::7], grain(POINTS[:, ::7]), atol=1e-5)
    np.testing.assert_allclose(grain(POINTS), grain(POINTS + 5.0 * len(grain.lattice)), atol=2e-3)


def test_paint_covers_what_lay_below_and_its_label():
    canvas = Canvas(GRID, (0.0, 10.0))
    canvas.paint(ellipsoid(canvas.points, (0, 0, 0), (15, 15, 15)), 5.0, np.full(GRID.shape, 7.0), label=2)
    canvas.paint(ellipsoid(canvas.points, (0, 0, 0), (8, 8, 8)), 1.0, 2.0)
    assert canvas.image[:, 20, 20, 20].tolist() == [1.0, 2.0]
    assert canvas.image[:, 20, 20, 32].tolist() == [5.0, 7.0]
    assert canvas.image[:, 0, 0, 0].tolist() == [0.0, 10.0]
    assert canvas.labels[20, 20, 20] == 0
    assert canvas.labels[20, 20, 32] == 2
