import nrrd
import numpy as np
import pytest
import slicerio

from helpers.sources import SOURCES, TABLE, TILTED, flat_labels, labels, volume
from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.grids.seg_nrrd_write import write_seg_nrrd
from voxelry.formats.reader import read_labels

PLAIN = {label.name: label.name.encode("ascii", "ignore").decode() for label in TABLE.labels}
"""pynrrd, and with it slicerio, drops letters beyond ASCII."""


@pytest.mark.parametrize("kind", [*SOURCES, TILTED])
@pytest.mark.parametrize("layers", [1, 2])
def test_slicerio_reads_the_same(tmp_path, kind, layers):
    geometry = volume(kind, tmp_path).geometry
    made = labels(geometry) if layers == 2 else flat_labels(geometry)
    found = slicerio.read_segmentation(str(write_seg_nrrd(made, tmp_path / "x.seg.nrrd")))
    affine = np.array(found["ijkToLPS"])
    np.testing.assert_allclose(affine, flip_lps_ras(geometry.affine), rtol=1e-12, atol=1e-12)
    assert [segment["name"] for segment in found["segments"]] == [PLAIN[label.name] for label in made.table.labels]
    for segment, label in zip(found["segments"], made.table.labels, strict=True):
        voxels = found["voxels"] if layers == 1 else found["voxels"][segment["layer"]]
        mask = made.mask(label.name)
        np.testing.assert_array_equal(voxels == segment["labelValue"], mask)
        np.testing.assert_allclose(segment["color"], np.array(label.rgb) / 255, atol=1e-5)
        kind_of = segment["terminology"]
        if label.type:
            assert kind_of["type"] == [label.type.scheme, label.type.value, label.type.meaning]
        if label.modifier:
            assert kind_of["typeModifier"] == [label.modifier.scheme, label.modifier.value, label.modifier.meaning]
        assert kind_of["category"][:2] == [label.category.scheme, label.category.value]
        if mask.any():
            ends = np.argwhere(mask)
            assert segment["extent"] == np.column_stack([ends.min(axis=0), ends.max(axis=0)]).ravel().tolist()
        else:
            assert segment["extent"] == [0, -1] * 2 + ([0, -1] if len(segment["extent"]) == 6 else [])


@pytest.mark.parametrize("kind", [*SOURCES, TILTED])
def test_our_reader_reads_the_same(tmp_path, kind):
    made = labels(volume(kind, tmp_path).geometry)
    found = read_labels(write_seg_nrrd(made, tmp_path / "x.seg.nrrd"))
    assert found.geometry.same_grid(made.geometry)
    assert found.table.names == TABLE.names
    for label in TABLE.labels:
        np.testing.assert_array_equal(found.mask(label.name), made.mask(label.name))
        stored = found.table[label.name]
        assert stored.type == label.type or label.type is None
        assert stored.modifier == label.modifier
        assert stored.rgb == label.rgb


def test_layers_are_the_first_axis(tmp_path):
    made = labels(volume("axial", tmp_path).geometry)
    array, header = nrrd.read(str(write_seg_nrrd(made, tmp_path / "x.seg.nrrd")))
    np.testing.assert_array_equal(array, made.layers)
    assert header["kinds"] == ["list", "domain", "domain", "domain"]


def test_names_cannot_break_the_header(tmp_path):
    table = LabelTable(labels=(Label(value=1, name="a\nSegment0_Name:=b|c~d\\n", color=(1, 2, 3)),))
    grid = Geometry.from_spacing((2, 2, 2), (1, 1, 1))
    path = write_seg_nrrd(LabelMap.of(np.ones((2, 2, 2), np.uint8), grid, table), tmp_path / "x.seg.nrrd")
    (segment,) = slicerio.read_segmentation(str(path))["segments"]
    assert segment["name"] == "a Segment0_Name:=b c d n"


def test_refusals(tmp_path):
    made = flat_labels(volume("single", tmp_path).geometry)
    with pytest.raises(ExportError, match=r"\.seg\.nrrd"):
        write_seg_nrrd(made, tmp_path / "x.nrrd")
    with pytest.raises(ExportError, match="picture"):
        write_seg_nrrd(LabelMap.of(np.zeros((3, 4), np.uint8), Geometry((3, 4)), TABLE), tmp_path / "x.seg.nrrd")


def test_lesions_are_segments_of_their_own(tmp_path):
    array, ids = np.zeros((1, 5, 4, 3), np.uint8), np.zeros((1, 5, 4, 3), np.uint32)
    array[0, :2], ids[0, :2], array[0, 3], ids[0, 3] = 1, 8, 1, 2
    table = LabelTable(labels=(Label(value=1, name="lesion", kind="thing"),))
    made = LabelMap(array, Geometry.from_spacing((5, 4, 3), (1, 1, 2)), table, instances=ids)
    found = slicerio.read_segmentation(str(write_seg_nrrd(made, tmp_path / "x.seg.nrrd")))
    voxels = {segment["name"]: found["voxels"] == segment["labelValue"] for segment in found["segments"]}
    assert list(voxels) == ["lesion 2", "lesion 8"]
    np.testing.assert_array_equal(voxels["lesion 8"], ids[0] == 8)


def test_voxels_of_the_ignore_value_are_in_no_segment(tmp_path):
    array = np.zeros((5, 4, 3), np.uint8)
    array[1], array[3] = 1, 255
    table = LabelTable(labels=(Label(value=1, name="one"),), ignore=255)
    made = LabelMap.of(array, Geometry.from_spacing((5, 4, 3), (1, 1, 2)), table)
    path = write_seg_nrrd(made, tmp_path / "x.seg.nrrd")
    assert np.unique(nrrd.read(str(path))[0]).tolist() == [0, 1]
    found = read_labels(path).on_grid(made.geometry)
    np.testing.assert_array_equal(found.array == 1, array == 1)
