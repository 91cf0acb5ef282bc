import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers.sources import SOURCES, TILTED, flat_labels, labels, volume
from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError, LabelError, UsageError
from voxelry.formats.meshes.mesh import meshes

ONE = LabelTable(labels=(Label(value=1, name="one"),))


def surface(mask, geometry=None, space="RAS"):
    grid = geometry or Geometry.from_spacing(mask.shape, (1, 1, 1))
    (found,) = meshes(LabelMap.of(mask.astype(np.uint8), grid, ONE), "x", space=space)
    return found, trimesh.Trimesh(found.vertices, found.faces, process=False)


@pytest.mark.parametrize("kind", [*SOURCES, TILTED])
def test_surfaces_are_closed_and_hold_the_volume_of_the_voxels(tmp_path, kind):
    geometry = volume(kind, tmp_path).geometry
    made = labels(geometry)
    found = meshes(made, "x")
    assert [mesh.label.name for mesh in found] == [label.name for label in made.table.labels if made.mask(label.name).any()]
    for mesh in found:
        solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        assert solid.is_watertight
        assert solid.is_winding_consistent
        mask = made.mask(mesh.label.name)
        assert solid.volume == pytest.approx(mask.sum() * geometry.voxel_volume, rel=0.01)
        assert mesh.volume == pytest.approx(solid.volume)
        centre = flip_lps_ras(geometry.world(np.argwhere(mask))).mean(axis=0)
        assert np.abs(solid.center_mass - centre).max() < max(geometry.spacing) * 0.5


@settings(max_examples=60)
@given(arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)).filter(np.any))
def test_whatever_the_mask_the_surface_is_closed(mask):
    found, solid = surface(mask)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert found.volume == pytest.approx(mask.sum(), rel=0.01)


def test_every_part_and_every_cavity_has_the_volume_of_its_own_voxels():
    """A lesion beside an organ neither shrinks nor grows with it, down to one voxel."""
    x, y, z = np.ogrid[:60, :60, :40]
    mask, sizes = np.zeros((60, 60, 40), bool), []
    for centre, radius in (((20, 20, 20), 12), ((45, 45, 20), 4), ((50, 15, 20), 2), ((10, 50, 10), 1.1), ((40, 30, 35), 0.5)):
        ball = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 <= radius**2
        mask |= ball
        sizes.append((int(ball.sum()), centre))
    mask[20, 20, 18:20] = False
    sizes.append((-2, (20, 20, 18.5)))
    _, solid = surface(mask)
    parts = solid.split(only_watertight=False, repair=False)
    assert len(parts) == len(sizes)
    for size, centre in sizes:
        (part,) = [
            p for p in parts if np.sign(p.volume) == np.sign(size) and np.abs(p.vertices.mean(axis=0) - centre).max() < 0.5
        ]
        assert part.volume == pytest.approx(size, rel=0.01)


def test_a_ball_is_round():
    """Within a third of a voxel of the sphere, and with its surface, which the steps of its voxels exceed by half."""
    radius = 20.0
    x, y, z = np.ogrid[-24:25, -24:25, -24:25]
    found, solid = surface(x**2 + y**2 + z**2 < radius**2)
    distance = np.linalg.norm(found.vertices - 24, axis=1)
    assert np.abs(distance - radius).max() < 0.5
    assert solid.area == pytest.approx(4 * np.pi * radius**2, rel=0.03)


@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 1, 1), (1, 9, 9)])
def test_thin_structures_stay(shape):
    found, solid = surface(np.ones(shape, bool))
    assert solid.is_watertight
    assert found.volume == pytest.approx(np.prod(shape), rel=0.01)


def test_a_hollow_body_has_a_surface_inside():
    mask = np.ones((9, 9, 9), bool)
    mask[3:6, 3:6, 3:6] = False
    found, solid = surface(mask)
    assert solid.body_count == 2
    assert found.volume == pytest.approx(9**3 - 27, rel=0.01)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (-1, -1, -1)])
def test_normals_point_outward_on_mirrored_grids_too(flips):
    mask = np.zeros((6, 7, 8), bool)
    mask[1:5, 2:5, 3:7] = True
    geometry = Geometry(mask.shape, np.diag([*np.array([0.7, 0.9, 2.5]) * flips, 1]))
    for space in ("LPS", "RAS"):
        _, solid = surface(mask, geometry, space)
        assert solid.volume > 0


def test_lps_and_ras_are_one_place(tmp_path):
    geometry = volume("oblique", tmp_path).geometry
    for one, other in zip(*(meshes(flat_labels(geometry), "x", space=space) for space in ("LPS", "RAS")), strict=True):
        np.testing.assert_allclose(one.vertices, other.vertices * (-1, -1, 1))
        assert (one.space, other.space) == ("LPS", "RAS")


def test_refusals():
    grid = Geometry.from_spacing((3, 3, 3), (1, 1, 1))
    with pytest.raises(ExportError, match="no label has a voxel"):
        meshes(LabelMap.of(np.zeros(grid.shape, np.uint8), grid, ONE), "x")
    with pytest.raises(ExportError, match="picture"):
        meshes(LabelMap.of(np.ones((3, 3), np.uint8), Geometry((3, 3)), ONE), "x")
    with pytest.raises(UsageError, match=r"'lps'.*LPS, RAS"):
        meshes(LabelMap.of(np.ones(grid.shape, np.uint8), grid, ONE), "x", space="lps")
    with pytest.raises(LabelError):
        meshes(LabelMap.of(np.full(grid.shape, 4, np.uint8), grid, ONE), "x")
