"""Segmentations of 3D Slicer, written by slicerio and by hand."""

from __future__ import annotations

import nrrd
import numpy as np
import pytest
import slicerio

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.labels import Label, LabelTable
from voxelry.errors import CorruptFileError, GridMismatchError, LabelError
from voxelry.formats.grids.seg_nrrd_read import is_segmentation
from voxelry.formats.reader import read, read_labels

AFFINE = np.array([[0.8, 0, 0.1, -12], [0, 0.9, 0, 3], [0, 0, 2.5, 40], [0, 0, 0, 1.0]])
KIDNEY = "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney"
LEFT = "~SCT^7771000^Left~Anatomic codes - DICOM master list~^^~^^|"


def write(path, voxels, segments, **more):
    """Layers first, as Slicer has them; `segments` are dicts of keys of a segment."""
    header = {f"Segment{index}_{key}": value for index, one in enumerate(segments) for key, value in one.items()} | more
    vectors = AFFINE[:3, :3].T
    many = voxels.ndim == 4
    header["space"] = "left-posterior-superior"
    header["space directions"] = np.vstack([np.full(3, np.nan), vectors]) if many else vectors
    header["kinds"] = ["list"] * many + ["domain"] * 3
    header["space origin"] = AFFINE[:3, 3]
    nrrd.write(str(path), voxels, header)
    return path


def segment(name, value, layer=0, **more):
    return {"ID": name, "Name": name, "LabelValue": str(value), "Layer": str(layer)} | more


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)


def test_a_file_of_slicerio(tmp_path, voxels):
    path = tmp_path / "a.seg.nrrd"
    segments = [
        {"id": "S1", "labelValue": 1, "name": "left kidney", "color": [0.2, 0.4, 1.0],
         "terminology": {"contextName": "x", "category": ["SCT", "123037004", "Anatomical Structure"],
                         "type": ["SCT", "64033007", "Kidney"], "typeModifier": ["SCT", "7771000", "Left"]}},
        {"id": "S2", "labelValue": 2, "name": "spleen"},
    ]  # fmt: skip
    slicerio.write_segmentation(str(path), {"voxels": voxels, "ijkToLPS": AFFINE, "encoding": "gzip", "segments": segments})
    found = read_labels(path)
    np.testing.assert_array_equal(found.array, voxels)
    np.testing.assert_allclose(found.geometry.affine, flip_lps_ras(AFFINE))
    kidney, spleen = found.table.labels
    assert (kidney.name, kidney.value, kidney.color) == ("left kidney", 1, (51, 102, 255))
    assert (kidney.category.value, kidney.type.value, kidney.modifier.value) == ("123037004", "64033007", "7771000")
    assert (spleen.name, spleen.value, spleen.type) == ("spleen", 2, None)
    assert found.source.kind == "seg-nrrd"


def test_codes_of_slicers_own_tags(tmp_path, voxels):
    one = segment("a", 1, Tags=f"Segmentation.Status:inprogress|TerminologyEntry:{KIDNEY}{LEFT}")
    found = read_labels(write(tmp_path / "a", voxels, [one, segment("b", 2, Tags="TerminologyEntry:~~broken|", Color="red")]))
    first, second = found.table.labels
    assert (first.type.meaning, first.modifier.meaning) == ("Kidney", "Left")
    assert (second.type, second.color) == (None, None)
    table = LabelTable(labels=(Label(value=9, name="Niere", type=first.type, modifier=first.modifier), Label(value=3, name="B")))
    mapped = read_labels(tmp_path / "a", table)
    np.testing.assert_array_equal(mapped.array, np.array([0, 9, 3])[voxels])
    with pytest.raises(LabelError, match="segment 'b' is not in the table"):
        read_labels(tmp_path / "a", LabelTable(labels=(Label(value=1, name="a"),)))


def test_layers(tmp_path, voxels):
    stacked = np.stack([voxels, voxels[::-1] * 3])
    segments = [segment("a", 1), segment("b", 2), segment("c", 3, 1), segment("d", 6, 1)]
    found = read_labels(write(tmp_path / "a", stacked, segments))
    assert [(label.name, label.value, label.layer) for label in found.table.labels] == [
        ("a", 1, 0),
        ("b", 2, 0),
        ("c", 3, 1),
        ("d", 6, 1),
    ]
    for name, layer, value in (("a", 0, 1), ("b", 0, 2), ("c", 1, 3), ("d", 1, 6)):
        np.testing.assert_array_equal(found.mask(name), stacked[layer] == value)


def test_values_that_layers_share_are_numbered(tmp_path, voxels):
    stacked = np.stack([voxels > 0, voxels == 1]).astype(np.uint8)
    expected = [("a", 1, 0), ("b", 2, 1)]
    old = [{"ID": "Segment_1", "Name": "a"}, {"ID": "Segment_2", "Name": "b"}]
    for segments in ([segment("a", 1, 0), segment("b", 1, 1)], old):
        found = read_labels(write(tmp_path / "a", stacked, segments))
        assert [(label.name, label.value, label.layer) for label in found.table.labels] == expected
        np.testing.assert_array_equal(found.mask("b"), stacked[1] == 1)
        assert "layers share label values: segments are numbered from 1" in found.source.remarks


def test_an_empty_segment_and_equal_names(tmp_path, voxels):
    found = read_labels(write(tmp_path / "a", voxels, [segment("x", 1), segment("x", 2), segment("none", 7)]))
    assert found.table.names == ("x 0", "x 1", "none")
    assert not found.mask("none").any()


def test_a_cropped_grid_is_laid_onto_the_image(tmp_path, voxels):
    found = read_labels(write(tmp_path / "a", voxels, [segment("a", 1), segment("b", 2)]))
    whole = Geometry((4, 5, 6), flip_lps_ras(AFFINE)).cropped((-2, -1, -3), (9, 9, 12))
    laid = found.on_grid(whole)
    np.testing.assert_array_equal(laid.array[2:6, 1:6, 3:9], voxels)
    assert np.count_nonzero(laid.array) == np.count_nonzero(voxels)
    with pytest.raises(GridMismatchError, match="beyond the grid"):
        found.on_grid(whole.cropped((0, 0, 5), (9, 9, 4)))


def test_contradictions(tmp_path, voxels):
    with pytest.raises(LabelError, match="value 2 on layer 0 belongs to no segment"):
        read_labels(write(tmp_path / "a", voxels, [segment("a", 1)]))
    for one in (segment("a", 1, 3), segment("a", "x"), segment("a", 0)):
        with pytest.raises(CorruptFileError, match="segment 0"):
            read_labels(write(tmp_path / "a", voxels, [one]))
    with pytest.raises(CorruptFileError, match="segment 1 is value 1 on layer 0"):
        read_labels(write(tmp_path / "a", voxels, [segment("a", 1), segment("b", 1)]))


def test_a_plain_nrrd_has_no_segments(tmp_path, voxels):
    path = write(tmp_path / "a", voxels, [])
    assert not is_segmentation(path)
    assert read_labels(path).table.names == ("label_1", "label_2")
    assert read(path).shape == (1, 4, 5, 6)
