"""COCO read: against pycocotools, against the masks of a real set, and back from what `write_coco` wrote."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO
from skimage.draw import polygon as filled_polygon

import voxelry as vx
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import CorruptFileError, GridMismatchError, LabelError, SelectionError, UnsupportedFormatError
from voxelry.formats.detection import detect
from voxelry.formats.pictures.coco import write_coco
from voxelry.formats.pictures.coco_read import open_coco, read_coco

# pycocotools has not followed numpy 2 in how arrays are copied
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

CELL, LUNG = Label(value=2, name="cell", kind="thing"), Label(value=7, name="lung")
TABLE = LabelTable(labels=(LUNG, CELL, Label(value=4, name="heart", layer=1, type=Code(value="80891009", meaning="Heart"))))
SHAPE = (20, 30)


def content(annotations, categories=((1, "cell"),), shape=SHAPE, names=("a.png",)):
    pictures = [{"id": n, "file_name": name, "height": shape[0], "width": shape[1]} for n, name in enumerate(names)]
    shown = [{"id": number, "name": name} for number, name in categories]
    rows = [{"id": n, "image_id": 0, "category_id": 1} | item for n, item in enumerate(annotations, start=1)]
    return {"images": pictures, "annotations": rows, "categories": shown}


def saved(path, value):
    path.write_text(json.dumps(value))
    return path


def cells():
    """Touching, nested, in two parts, of one pixel, at the corners, without an id; lungs and heart that overlap."""
    layers, ids = np.zeros((2, *SHAPE), np.uint8), np.zeros((2, *SHAPE), np.uint32)
    layers[0, 12:, :] = 7
    for id, box in (
        (70000, np.s_[0:4, 0:4]), (5, np.s_[0:4, 4:9]), (9, np.s_[5:11, 2:10]), (8, np.s_[7:9, 4:6]), (3, np.s_[0, 29]),
        (3, np.s_[11, 29]), (4, np.s_[6, 20]), (6, np.s_[7, 21]), (6, np.s_[8, 22]), (0, np.s_[2:5, 14:17]),
    ):  # fmt: skip
        layers[0][box], ids[0][box] = 2, id
    layers[1, 5:18, 8:22] = 4
    return LabelMap(layers, Geometry(SHAPE), TABLE, instances=ids)


def equal(one, other):
    np.testing.assert_array_equal(one.layers, other.layers)
    np.testing.assert_array_equal(one.instances, other.instances)
    return one.table == other.table


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.booleans())
def test_run_lengths_that_pycocotools_writes(tmp_path_factory, mask, as_text):
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = np.diff(np.flatnonzero(np.diff(mask.ravel("F"), prepend=False, append=not mask.ravel("F")[-1])), prepend=0).tolist()
    counts = packed["counts"].decode() if as_text else runs
    value = content([{"segmentation": {"size": list(mask.shape), "counts": counts}}], shape=mask.shape)
    labels = read_coco(saved(tmp_path_factory.getbasetemp() / "r.json", value))
    np.testing.assert_array_equal(labels.instances[0], mask)


POINTS = st.tuples(st.integers(0, 30), st.integers(0, 20))


@given(st.lists(st.lists(POINTS, min_size=3, max_size=3), min_size=1, max_size=3))
@settings(max_examples=60)
def test_polygons_as_pycocotools_fills_them(tmp_path_factory, rings):
    """Parts are united; pycocotools rounds to fifths of a pixel, so pixels may differ along outlines only."""
    flat = [np.array(ring, float).ravel().tolist() for ring in rings]
    labels = read_coco(saved(tmp_path_factory.getbasetemp() / "p.json", content([{"segmentation": flat}])))
    theirs = coco.decode(coco.merge(coco.frPyObjects(flat, *SHAPE))).astype(bool)
    near = np.zeros(SHAPE, bool)
    centres = np.stack(np.meshgrid(np.arange(30) + 0.5, np.arange(20) + 0.5), -1)
    for ring in rings:
        for a, b in zip(np.array(ring, float), np.roll(np.array(ring, float), -1, axis=0), strict=True):
            run = b - a
            along = ((centres - a) @ run / max(run @ run, 1e-9)).clip(0, 1)
            near |= np.linalg.norm(centres - a - along[..., None] * run, axis=-1) <= 1
    assert not ((labels.instances[0] > 0) ^ theirs)[~near].any()


@pytest.mark.realdata
def test_the_polygons_of_v7_darwin_agree_with_its_masks(realdata):
    folder = realdata / "cxr_lung" / "native_dev"
    file = open_coco(folder / "coco_covid.json")
    assert len(file.pictures) == 5
    for picture in file.pictures:
        labels = vx.read_labels(folder / "coco_covid.json", reference=folder / "images" / picture.name)
        raw = np.asarray(Image.open(folder / "masks_v7_raw" / picture.name.replace(".jpg", ".png")))
        np.testing.assert_array_equal(labels.mask("Lung"), raw == 255)
        assert [int(id) for id in np.unique(labels.instances)][1:] == [item["id"] for item in picture.annotations]
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(folder / "coco_covid.json"))
    mask = annotations.annToMask(annotations.loadAnns([3369])[0]).astype(bool)
    own = read_coco(folder / "coco_covid.json", reference="covid_1676192.png").instances[0] == 3369
    assert 2 * (mask & own).sum() / (mask.sum() + own.sum()) > 0.998


def test_vertices_are_pixels_where_every_box_says_so(tmp_path):
    ring = np.array([(3, 4), (12, 4), (9, 11), (3, 9)])
    annotation = {"segmentation": [ring.ravel().tolist()], "bbox": [3, 4, 10, 8]}
    labels = read_coco(saved(tmp_path / "a.json", content([annotation])))
    expected = np.zeros(SHAPE, bool)
    expected[filled_polygon(ring[:, 1], ring[:, 0], SHAPE)] = True
    np.testing.assert_array_equal(labels.instances[0] > 0, expected)
    other = read_coco(saved(tmp_path / "b.json", content([annotation, annotation | {"bbox": [3, 4, 9, 7], "id": 7}])))
    assert 0 < (other.instances > 0).sum() < expected.sum()


@pytest.mark.parametrize("shape", ["rle", "polygon"])
def test_back_from_a_file_of_ours(tmp_path, shape):
    made = cells()
    back = vx.read_labels(write_coco(made, tmp_path / "x.coco.json", shape=shape))
    assert equal(back, made)
    assert back.source.kind == "coco"
    assert back.source.remarks == ("1 region of a thing marked `iscrowd`: voxels of its label without an object",)
    vx.write(back, tmp_path / "y.json")
    assert (tmp_path / "x.coco.json").read_text().replace('"x"', '"y"') == (tmp_path / "y.json").read_text() or shape == "polygon"


@given(st.integers(0, 2**32 - 1), st.sampled_from(["rle", "polygon"]))
@settings(max_examples=30, deadline=None)
def test_any_partition_comes_back(tmp_path_factory, seed, shape):
    rng = np.random.default_rng(seed)
    ids = rng.choice(rng.integers(1, 2**32, 6, dtype=np.uint32), (7, 9)).astype(np.uint32)
    ids[rng.random(ids.shape) < 0.4] = 0
    classes = np.where(ids > 0, 2 * (ids % 2 == 0) + 7 * (ids % 2 == 1), 0).astype(np.uint8)
    table = LabelTable(labels=(CELL, LUNG.model_copy(update={"kind": "thing"})))
    made = LabelMap(classes[None], Geometry(ids.shape), table, instances=ids[None])
    assert equal(read_coco(write_coco(made, tmp_path_factory.getbasetemp() / "q.json", shape=shape)), made)


def test_no_objects_and_maps_without(tmp_path):
    made = cells()
    empty = LabelMap(made.layers * 0, made.geometry, TABLE, instances=made.instances * 0)
    assert equal(read_coco(write_coco(empty, tmp_path / "x.json")), empty)
    plain = LabelTable(labels=(LUNG,))
    stuff = LabelMap((made.layers[:1] == 7).astype(np.uint8) * 7, made.geometry, plain)
    assert read_coco(write_coco(stuff, tmp_path / "y.json")).instances is None


def test_overlapping_objects_keep_the_smaller_and_say_so(tmp_path):
    square = {"segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]}
    inner = {"segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]]}
    labels = read_coco(saved(tmp_path / "a.json", content([inner, square, square | {"category_id": 2}], [(1, "cell"), (2, "b")])))
    assert [int((labels.instances == id).sum()) for id in (1, 2, 3)] == [9, 91, 100]
    assert labels.table.layers == 2
    assert labels.source.remarks == ("9 voxels lie in several objects of one label: the smaller has them",)
    twice = read_coco(saved(tmp_path / "b.json", content([square, square])))
    assert "no voxel is left of 1 object (1)" in twice.source.remarks


def test_categories_and_tables(tmp_path):
    square = {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    far = {"segmentation": [[2, 2, 9, 2, 9, 9, 2, 9]], "category_id": 0}
    path = saved(tmp_path / "a.json", content([square, far], [(1, "Cell"), (0, "Ignore")]))
    assert [(label.value, label.name, label.kind) for label in read_coco(path).table.labels] == [
        (1, "Cell", "thing"), (2, "Ignore", "thing"),
    ]  # fmt: skip
    table = LabelTable(labels=(CELL,), ignore=9)
    labels = read_coco(path, table)
    assert (labels.table, np.bincount(labels.array.ravel())[[2, 9]].tolist()) == (table, [16, 45])
    assert np.unique(labels.instances[labels.layers == 9]).tolist() == [0]
    assert "Ignore" in read_coco(path, LabelTable(labels=(CELL,))).source.remarks[0]
    with pytest.raises(LabelError, match="no category"):
        read_coco(path, LabelTable(labels=(LUNG,)))
    stuff = read_coco(path, LabelTable(labels=(CELL.model_copy(update={"kind": "stuff"}),)))
    assert stuff.instances is None


def test_one_of_several_pictures(tmp_path):
    path = saved(tmp_path / "set.json", content([{"segmentation": [[0, 0, 4, 0, 4, 4]]}], names=("x/a.png", "b.jpg")))
    image = Volume(np.zeros((1, *SHAPE)), Geometry(SHAPE, None, (0.2, 0.3)), source=Source("picture", ("c/b.png",)))
    assert vx.read_labels(path, reference="y/a.dcm").instances.max() == 1
    labels = vx.read_labels(path, reference=image)
    assert (labels.instances.max(), labels.geometry.pixel_size) == (0, (0.2, 0.3))
    with pytest.raises(SelectionError, match=r"2 pictures \(x/a\.png, b\.jpg\)"):
        vx.read_labels(path)
    with pytest.raises(SelectionError, match="c"):
        vx.read_labels(path, reference="c.png")
    other = Volume(np.zeros((1, 4, 5)), Geometry((4, 5)), source=Source("picture", ("b.png",)))
    with pytest.raises(GridMismatchError, match="30 x 20"):
        vx.read_labels(path, reference=other)


def test_numbers_as_text_and_paths_of_windows(tmp_path):
    plain = content([{"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}], names=("x/a.png", "x/b.png"))
    expected = vx.read_labels(saved(tmp_path / "a.json", plain), reference="a.png")
    plain["images"][0]["file_name"] = "C:\\scans\\a.png"
    for row in plain["annotations"]:
        row["category_id"], row["image_id"] = str(row["category_id"]), str(row["image_id"])
    labels = vx.read_labels(saved(tmp_path / "b.json", plain), reference="y/a.dcm")
    assert equal(labels, expected)
    assert labels.instances.max() == 1


def test_crowds_of_a_thing_are_said_to_be_no_objects(tmp_path):
    square = {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    labels = read_coco(saved(tmp_path / "a.json", content([square | {"id": 1}, square | {"id": 2, "iscrowd": 1}])))
    assert labels.source.remarks == ("1 region of a thing marked `iscrowd`: voxels of its label without an object",)


def test_ids_that_are_none_are_numbered(tmp_path):
    square = {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    labels = read_coco(saved(tmp_path / "a.json", content([square | {"id": "x"}, square | {"id": 0}, square | {"id": 2**32}])))
    assert "numbered from 1" in labels.source.remarks[0]
    assert labels.instances.max() == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1, 2, 3]]}, "annotation 1"),
        ({"segmentation": [[]]}, "without vertices"),
        ({"segmentation": None}, "neither polygons"),
        ({"segmentation": [[1, 2, float("inf"), 4, 5, 6]]}, "infinite"),
        ({"segmentation": {"size": [4, 4], "counts": [16]}}, "4 x 4"),
        ({"segmentation": {"size": [20, 30], "counts": [16]}}, "run lengths of 16"),
        ({"segmentation": {"size": [20, 30], "counts": [700, -100]}}, "run lengths"),
        ({"segmentation": {"size": [20, 30], "counts": "P"}}, "damaged"),
        ({"segmentation": {"size": [20, 30], "counts": "\u00e4"}}, "run lengths|damaged"),
        ({"category_id": 9}, "category 9"),
        ({"image_id": 9}, "picture 9"),
    ],
)
def test_damaged(tmp_path, change, message):
    value = json.dumps(content([change]))
    (tmp_path / "a.json").write_text(value.replace("Infinity", "1e999"))
    with pytest.raises(CorruptFileError, match=message):
        vx.read_labels(tmp_path / "a.json")


def test_two_categories_of_one_id(tmp_path):
    value = content([])
    value["categories"].append(value["categories"][0] | {"name": "another"})
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(CorruptFileError, match="two categories have one id"):
        vx.read_labels(tmp_path / "a.json")


def test_other_json(tmp_path):
    for text in ('{"images": 3}', '{"images": [', '{"categories": [], "annotations": [], "images": []}'):
        (tmp_path / "a.json").write_text(text)
        assert detect(tmp_path / "a.json").name == "coco"
        with pytest.raises((CorruptFileError, SelectionError)):
            vx.read_labels(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"name": "a dataset"}')
    with pytest.raises(UnsupportedFormatError):
        detect(tmp_path / "a.json")
