import contextlib
import io
import json

import numpy as np
import pytest
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
