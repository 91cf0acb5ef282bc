import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools.coco import COCO

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import UsageError
from voxelry.formats.pictures.coco import write_coco

# pycocotools has not followed numpy 2 in how arrays are copied
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

TABLE = LabelTable(
    labels=(
        Label(value=7, name="lung"),
        Label(value=2, name="nodule", kind="thing"),
        Label(value=4, name="heart", layer=1),
        Label(value=5, name="absent"),
    )
)


@pytest.fixture
def made():
    layers = np.zeros((2, 20, 30), np.uint8)
    layers[0, 3:15, 4:12], layers[0, 6:9, 6:8] = 7, 0
    layers[0, 3:15, 20:26] = 7
    layers[0, 17, 2], layers[0, 17:19, 9:12] = 2, 2
    layers[1, 5:18, 8:22] = 4
    return LabelMap(layers, Geometry((20, 30), None, (0.2, 0.2)), TABLE)


def opened(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def masks(found):
    """Masks by category name, as pycocotools decodes them."""
    names = {one["id"]: one["name"] for one in found.loadCats(found.getCatIds())}
    return [(names[one["category_id"]], found.annToMask(one).astype(bool), one) for one in found.loadAnns(found.getAnnIds())]


def test_pycocotools_decodes_the_same_masks(tmp_path, made):
    found = masks(opened(write_coco(made, tmp_path / "x.coco.json")))
    assert [name for name, _, _ in found] == ["lung", "nodule", "nodule", "heart"]
    for name in ("lung", "nodule", "heart"):
        union = np.any([mask for other, mask, _ in found if other == name], axis=0)
        np.testing.assert_array_equal(union, made.mask(name))
    for _, mask, annotation in found:
        assert annotation["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        x, y, width, height = annotation["bbox"]
        assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_polygons_keep_area_and_holes(tmp_path, made):
    content = json.loads(write_coco(made, tmp_path / "x.json", shape="polygon").read_text())
    lung = content["annotations"][0]
    assert len(lung["segmentation"]) == 2
    area = 0.0
    for flat in lung["segmentation"]:
        x, y = np.array(flat).reshape(-1, 2).T
        area += abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2
        assert 0 <= x.min() <= x.max() <= 30
        assert 0 <= y.min() <= y.max() <= 20
    assert area == lung["area"] == made.mask("lung").sum()
    found = {name: mask for name, mask, _ in masks(opened(tmp_path / "x.json"))}
    overlap = (found["lung"] & made.mask("lung")).sum() * 2 / (found["lung"].sum() + made.mask("lung").sum())
    assert overlap > 0.9


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_polygons_lie_on_the_edges_of_pixels(tmp_path_factory, mask):
    """Filled by pixel centres, which lie half a pixel from the corner of the picture, they give the mask back."""
    labels = LabelMap.of(mask.astype(np.uint8), Geometry(mask.shape), LabelTable(labels=(Label(value=1, name="a"),)))
    content = json.loads(write_coco(labels, tmp_path_factory.getbasetemp() / "p.json", shape="polygon").read_text())
    filled = np.zeros(mask.shape, bool)
    for annotation in content["annotations"]:
        left, top, width, height = annotation["bbox"]
        rings = [np.array(flat).reshape(-1, 2) for flat in annotation["segmentation"]]
        corners = np.concatenate(rings)
        assert (*corners.min(axis=0), *corners.max(axis=0)) == (left, top, left + width, top + height)
        for row, column in np.ndindex(mask.shape):
            filled[row, column] ^= sum(inside(ring, column + 0.5, row + 0.5) for ring in rings) % 2
    np.testing.assert_array_equal(filled, mask)


def inside(ring, x, y):
    """Whether a point lies within a polygon: an odd number of its sides crosses the ray to the right."""
    crossings = 0
    for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        crossings += (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax)
    return crossings % 2


def test_pycocotools_fills_a_rectangle_exactly(tmp_path):
    array = np.zeros((20, 30), np.uint8)
    array[4:9, 12:25] = 1
    labels = LabelMap.of(array, Geometry(array.shape), LabelTable.numbered([1]))
    [(_, mask, _)] = masks(opened(write_coco(labels, tmp_path / "x.json", shape="polygon")))
    np.testing.assert_array_equal(mask, array == 1)


def test_categories_of_layers_that_share_a_value_have_ids_of_their_own(tmp_path):
    layers = np.zeros((2, 20, 30), np.uint8)
    layers[0, 3:9, 4:12], layers[1, 5:18, 8:22], layers[0, 15:, 25:] = 1, 1, 3
    table = LabelTable(labels=(Label(value=1, name="lung"), Label(value=1, name="heart", layer=1), Label(value=3, name="rib")))
    labels = LabelMap(layers, Geometry((20, 30)), table)
    content = json.loads(write_coco(labels, tmp_path / "x.json").read_text())
    assert [(row["id"], row["name"]) for row in content["categories"]] == [(1, "lung"), (2, "heart"), (3, "rib")]
    for name, mask, _ in masks(opened(tmp_path / "x.json")):
        np.testing.assert_array_equal(mask, labels.mask(name))


def test_instances_are_annotations(tmp_path, made):
    ids = np.zeros(made.layers.shape, np.uint32)
    ids[0, 17, 2], ids[0, 17:19, 9:12] = 8, 8
    told = LabelMap(made.layers, made.geometry, TABLE, instances=ids)
    found = masks(opened(write_coco(told, tmp_path / "x.json")))
    assert [name for name, _, _ in found].count("nodule") == 1


def test_the_picture_is_named(tmp_path, made):
    image = Volume(np.zeros((1, 20, 30)), made.geometry, source=Source("picture", ("some/where/chest 1.png",)))
    content = json.loads(write_coco(made, tmp_path / "x.coco.json", source=image).read_text())
    assert content["images"] == [{"id": 1, "file_name": "chest 1.png", "height": 20, "width": 30}]
    assert [one["id"] for one in content["categories"]] == [7, 2, 4, 5]


def test_nothing_labelled_and_unknown_shapes(tmp_path, made):
    empty = LabelMap(np.zeros_like(made.layers), made.geometry, TABLE)
    assert json.loads(write_coco(empty, tmp_path / "x.json").read_text())["annotations"] == []
    with pytest.raises(UsageError, match="'box'"):
        write_coco(made, tmp_path / "y.json", shape="box")


def test_scores_are_those_of_objects_or_of_their_label(made, tmp_path):
    content = json.loads(write_coco(made, tmp_path / "x.json").read_text())
    assert not any("score" in row for row in content["annotations"])
    ids = np.where(made.layers == 2, 7, 0).astype(np.uint32)
    ids[0, 17, 2] = 9
    labels = replace(made, instances=ids)
    rows = json.loads(
        write_coco(labels, tmp_path / "y.json", scores={7: 0.25, "nodule": 0.5, "lung": 1, "heart": None}).read_text()
    )
    names = {row["id"]: row["name"] for row in rows["categories"]}
    seen = [(names[row["category_id"]], row["id"], row.get("score")) for row in rows["annotations"]]
    assert [each[2] for each in seen if each[0] == "lung"] == [1]
    assert sorted(each[1:] for each in seen if each[0] == "nodule") == [(7, 0.25), (9, 0.5)]
    assert [each[2] for each in seen if each[0] == "heart"] == [None]
