"""Shapes: published values of IBSI's phantom, meshes of scikit-image, closed forms."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes, mesh_surface_area, regionprops

from helpers import ibsi_phantom
from voxelry.metrics.object_shape import ObjectShape, shape_of


def test_the_published_values_of_the_digital_phantom():
    shape = shape_of(ibsi_phantom.mask(), np.diag(ibsi_phantom.SPACING))
    for name, (value, tolerance) in ibsi_phantom.SHAPE.items():
        assert getattr(shape, name) == pytest.approx(value, abs=tolerance), name


@given(st.integers(0, 10**6), st.sampled_from([0.03, 0.3, 0.6, 0.95]))
def test_any_mask_on_a_sheared_grid_as_the_mesh_of_scikit_image_has_it(seed, share):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 9, 3)) < share
    mask.flat[rng.integers(mask.size)] = True
    linear = np.diag([1.5, -0.8, 2.5]) + rng.uniform(-0.3, 0.3, (3, 3))
    corners, triangles, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5 - 2**-12)
    corners = (corners - np.array(mask.shape) / 2) @ linear.T
    a, b, c = corners[triangles.T]
    area = mesh_surface_area(corners, triangles)
    volume = abs(np.einsum("ij,ij->", a, np.cross(b, c))) / 6
    shape = shape_of(mask, linear)
    assert shape.surface_mm2 == pytest.approx(area, rel=2e-3)
    assert shape.sphericity == pytest.approx((36 * math.pi * volume**2) ** (1 / 3) / area, rel=4e-3)
    assert shape.largest_diameter_mm == pytest.approx(pdist(corners).max(), rel=2e-3)
    if mask.sum() > 1:
        places = np.argwhere(mask) @ linear.T
        expected = 4 * np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(places.T))[::-1], 0))
        assert (shape.major_mm, shape.minor_mm, shape.least_mm) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 0.7, 1.5)])
def test_a_ball_in_closed_form(spacing):
    radius = 14.0
    grid = [(np.arange(2 * math.ceil(radius / step) + 3) - math.ceil(radius / step) - 1) * step for step in spacing]
    mask = sum(axis**2 for axis in np.meshgrid(*grid, indexing="ij")) <= radius**2
    shape = shape_of(mask, np.diag(np.array(spacing, float)))
    assert shape.largest_diameter_mm == pytest.approx(2 * radius, abs=max(spacing))
    assert shape.major_mm == pytest.approx(4 * radius / math.sqrt(5), rel=0.01)
    assert shape.elongation == pytest.approx(1, abs=0.02)
    assert 0.88 < shape.sphericity < 1  # steps of voxels make the surface larger


def test_a_single_voxel_and_a_line_have_no_width():
    voxel = shape_of(np.ones((1, 1, 1), bool), np.diag([2.0, 1, 1]))
    assert (voxel.largest_diameter_mm, voxel.major_mm, voxel.elongation) == (2, 0, None)
    line = shape_of(np.ones((1, 5, 1), bool), np.eye(3))
    assert (line.largest_diameter_mm, line.minor_mm, line.elongation, line.flatness) == (5, 0, 0, 0)


def test_long_flat_objects_of_many_voxels():
    slab = np.ones((40, 30, 1), bool)
    assert shape_of(slab, np.eye(3)).largest_diameter_mm == pytest.approx(math.hypot(40, 29), abs=0.5)
    assert shape_of(slab[:, :, 0], np.eye(2)).largest_diameter_mm == pytest.approx(math.hypot(40, 29), abs=0.5)


@pytest.mark.parametrize("spacing", [(1, 1), (0.5, 2)])
def test_the_object_of_a_picture(spacing):
    rows, columns = np.indices((41, 41)) - 20
    mask = (rows * spacing[0] / 8) ** 2 + (columns * spacing[1] / 5) ** 2 <= 1
    shape = shape_of(mask, np.diag(np.array(spacing, float)))
    [known] = regionprops(mask.astype(np.uint8), spacing=spacing)
    assert shape.perimeter_mm > 2 * math.pi * 6
    area = mask.sum() * spacing[0] * spacing[1]
    assert shape.circularity == pytest.approx(2 * math.sqrt(math.pi * area) / shape.perimeter_mm)
    assert shape.major_mm == pytest.approx(known.axis_major_length, rel=0.02)
    assert shape.minor_mm == pytest.approx(known.axis_minor_length, rel=0.05)
    assert shape.surface_mm2 is shape.sphericity is shape.least_mm is shape.flatness is None


def test_the_order_of_memory_does_not_matter():
    def numbers(array, affine):
        return [math.nan if value is None else value for value in asdict(shape_of(array, affine)).values()]

    mask = ibsi_phantom.mask()
    usual = pytest.approx(numbers(mask, np.eye(3)), rel=1e-12, nan_ok=True)  # sums in another order are rounded otherwise
    assert numbers(np.asfortranarray(mask), np.eye(3)) == usual
    assert numbers(mask[::-1], np.diag([-1.0, 1, 1])) == usual
    assert isinstance(shape_of(mask, np.eye(3)), ObjectShape)
