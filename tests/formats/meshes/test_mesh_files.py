import json
import struct
import unicodedata

import numpy as np
import pytest
import trimesh

from helpers.sources import TABLE, labels, volume
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.meshes.mesh import meshes
from voxelry.formats.meshes.mesh_files import write_glb, write_obj, write_ply, write_stl

PRESENT = [label for label in TABLE.labels if not label.name.endswith("(empty)")]
FILES = {"liver": "liver", "lone voxel": "lone_voxel", "lung left": "lung_left", "lesion": "lesion"}


@pytest.fixture
def made(tmp_path):
    return labels(volume("oblique", tmp_path).geometry)


def check(solid, made, label, space="LPS", factor=1.0):
    """A mesh as trimesh read it, against the voxels: closed, of their volume, at their place."""
    assert solid.is_watertight
    mask = made.mask(label.name)
    assert solid.volume == pytest.approx(mask.sum() * made.geometry.voxel_volume * factor**3, rel=0.01)
    (expected,) = (mesh for mesh in meshes(made, "x", space=space) if mesh.label.name == label.name)
    ends = np.array([expected.vertices.min(axis=0), expected.vertices.max(axis=0)])
    if factor == 1:
        np.testing.assert_allclose(solid.bounds, ends, atol=1e-3)
    return ends


@pytest.mark.parametrize("space", ["LPS", "RAS"])
@pytest.mark.parametrize(("write", "ending"), [(write_stl, ".stl"), (write_ply, ".ply")])
def test_a_file_for_each_label(tmp_path, made, write, ending, space):
    folder = write(made, tmp_path / f"case{ending}", space=space)
    assert folder == tmp_path / f"case_{ending[1:]}"
    assert sorted(file.name for file in folder.iterdir()) == sorted(name + ending for name in FILES.values())
    for label in PRESENT:
        file = folder / (FILES[label.name] + ending)
        check(trimesh.load(file), made, label, space)
        assert f"SPACE={space}".encode() in file.read_bytes()[:200]


def test_a_lone_label_is_the_file_itself(tmp_path):
    grid = Geometry.from_spacing((5, 5, 5), (1, 1, 1))
    array = np.zeros(grid.shape, np.uint8)
    array[1:4, 1:4, 1:4] = 1
    table = LabelTable(labels=(Label(value=1, name="a"), Label(value=2, name="b")))
    for write, ending in ((write_stl, ".stl"), (write_ply, ".ply"), (write_obj, ".obj"), (write_glb, ".glb")):
        path = write(LabelMap.of(array, grid, table), tmp_path / f"x{ending}")
        assert path == tmp_path / f"x{ending}"
        assert path.is_file()
    stored = (tmp_path / "x.stl").read_bytes()
    assert not stored.startswith(b"solid")
    assert len(stored) == 84 + 50 * struct.unpack_from("<I", stored, 80)[0]


def test_ply_is_coloured(tmp_path, made):
    folder = write_ply(made, tmp_path / "case.ply")
    for label in PRESENT:
        solid = trimesh.load(folder / f"{FILES[label.name]}.ply")
        colors = np.unique(solid.visual.vertex_colors[:, :3], axis=0)
        if label.color:
            np.testing.assert_array_equal(colors, [label.color])


@pytest.mark.parametrize("space", ["LPS", "RAS"])
def test_obj_has_an_object_for_each_label(tmp_path, made, space):
    path = write_obj(made, tmp_path / "case.obj", space=space)
    head = path.read_text().splitlines()
    assert f"# SPACE={space}" in head[:3]
    scene = trimesh.load(path, split_objects=True, group_material=False)
    assert set(scene.geometry) == {label.name for label in PRESENT}
    for label in PRESENT:
        check(scene.geometry[label.name], made, label, space)


@pytest.mark.parametrize("space", ["LPS", "RAS"])
def test_glb_has_a_named_node_for_each_label_in_metres(tmp_path, made, space):
    path = write_glb(made, tmp_path / "case.glb", space=space)
    scene = trimesh.load(path)
    nodes = {name: scene.graph[name] for name in scene.graph.nodes_geometry}
    assert set(nodes) == {label.name for label in PRESENT}
    for label in PRESENT:
        turn, geometry = nodes[label.name]
        solid = scene.geometry[geometry].copy()
        ends = check(solid, made, label, space, factor=1.0)
        solid.apply_transform(turn)
        check(solid, made, label, space, factor=1e-3)
        lps = ends * ((1, 1, 1) if space == "LPS" else (-1, -1, 1))
        left, head, front = lps[:, 0], lps[:, 2], -lps[:, 1]
        expected = np.sort(np.column_stack([left, head, front]), axis=0) / 1000
        np.testing.assert_allclose(solid.bounds, expected, atol=1e-6)


def test_glb_follows_the_container_format(tmp_path, made):
    data = write_glb(made, tmp_path / "case.glb").read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert size % 4 == 0
    content = json.loads(data[20 : 20 + size])
    rest, binary = struct.unpack_from("<I4s", data, 20 + size)
    assert binary == b"BIN\0"
    assert content["buffers"] == [{"byteLength": rest}]
    assert content["nodes"][0]["extras"]["space"] == "LPS"
    assert all(view["byteOffset"] % 4 == 0 for view in content["bufferViews"])
    liver = next(node for node in content["nodes"] if node["name"] == "liver")
    assert liver["extras"]["type"]["value"] == "10200004"


def test_names_that_clash_are_told_apart_by_value(tmp_path):
    grid = Geometry.from_spacing((4, 4, 4), (1, 1, 1))
    array = np.zeros(grid.shape, np.uint8)
    array[0, 0, 0], array[2, 2, 2], array[3, 0, 3] = 1, 2, 3
    table = LabelTable(labels=(Label(value=1, name="a b"), Label(value=2, name="a/b"), Label(value=3, name="..")))
    folder = write_stl(LabelMap.of(array, grid, table), tmp_path / "x.stl")
    assert sorted(file.name for file in folder.iterdir()) == ["3.stl", "a_b_1.stl", "a_b_2.stl"]


@pytest.mark.parametrize(
    "names",
    [
        ("a/b", "a b", "a_b_1"),
        ("PTV+", "PTV", "PTV_1"),
        ("Liver", "liver", "LIVER"),
        ("caf\u00e9", "cafe\u0301", "CAF\u00c9"),
        ("a", "a.", "_a"),
        ("\U00020000" * 63 + "a", "\U00020000" * 63 + "b", "x"),
    ],
)
@pytest.mark.parametrize("write", [write_stl, write_ply])
def test_every_label_has_a_file_of_its_own(tmp_path, write, names):
    """On file systems, too, that know no case, or code accents in one way."""
    grid = Geometry.from_spacing((8, 4, 4), (1, 1, 1))
    array = np.zeros(grid.shape, np.uint8)
    array[0, 0, 0], array[2:4, 2, 2], array[5:8, 0, 3] = 1, 2, 3
    table = LabelTable(labels=tuple(Label(value=value, name=name) for value, name in enumerate(names, 1)))
    folder = write(LabelMap.of(array, grid, table), tmp_path / f"x.{write.__name__[-3:]}")
    files = sorted(folder.iterdir())
    assert len({unicodedata.normalize("NFD", file.name).lower() for file in files}) == 3
    volumes = sorted(trimesh.load(file, file_type=file.suffix[1:]).volume for file in files)
    np.testing.assert_allclose(volumes, (1, 2, 3), rtol=0.02)


def test_objects_of_an_obj_have_names_of_their_own(tmp_path):
    grid = Geometry.from_spacing((8, 4, 4), (1, 1, 1))
    array = np.zeros(grid.shape, np.uint8)
    array[0, 0, 0], array[2:4, 2, 2], array[5:8, 0, 3] = 1, 2, 3
    table = LabelTable(labels=tuple(Label(value=v, name=name) for v, name in enumerate(("a b", "a  b", "a b 1"), 1)))
    text = write_obj(LabelMap.of(array, grid, table), tmp_path / "x.obj").read_text()
    assert len({line for line in text.splitlines() if line.startswith("o ")}) == 3


def test_an_earlier_folder_is_replaced_and_a_strange_one_is_not(tmp_path, made):
    folder = write_stl(made, tmp_path / "x.stl")
    (folder / "old.stl").touch()
    assert write_stl(made, tmp_path / "x.stl") == folder
    assert not (folder / "old.stl").exists()
    (folder / "thesis.txt").touch()
    with pytest.raises(ExportError, match="other files"):
        write_stl(made, tmp_path / "x.stl")
    assert (folder / "thesis.txt").exists()


@pytest.mark.parametrize("write", [write_stl, write_ply, write_obj, write_glb])
def test_another_ending_is_refused(tmp_path, made, write):
    with pytest.raises(ExportError, match="ends in"):
        write(made, tmp_path / "x.vtk")
    assert not (tmp_path / "x.vtk").exists()
