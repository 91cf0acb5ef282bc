"""YOLO read: back from what `write_yolo` wrote, and files as other programs lay them out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import voxelry as vx
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import CorruptFileError, GridMismatchError, LabelError, MissingFileError, UnsupportedFormatError
from voxelry.formats.detection import detect
from voxelry.formats.pictures.yolo import write_yolo
from voxelry.formats.pictures.yolo_read import read_yolo

TABLE = LabelTable(labels=(Label(value=4, name="cell", kind="thing"), Label(value=2, name="drop", kind="thing", layer=1)))
SQUARE = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n"


def image(shape=(8, 12)):
    return Volume(np.zeros((1, *shape), np.uint8), Geometry(shape, None, (0.5, 0.5)))


def saved(path, text=SQUARE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_holes_and_parts_come_back_as_they_were(tmp_path_factory, seed, count):
    """Objects of many parts that touch at corners, with holes and objects within them."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, count + 1, (2, 7, 9)).astype(np.uint32)
    ids[1][ids[1] > 0] += count
    layers = np.stack([np.where(ids[0], 4, 0), np.where(ids[1], 2, 0)]).astype(np.uint8)
    made = LabelMap(layers, Geometry((7, 9)), TABLE, instances=ids)
    back = read_yolo(write_yolo(made, tmp_path_factory.getbasetemp() / "y.yolo.txt"), TABLE, reference=image((7, 9)))
    np.testing.assert_array_equal(back.layers, layers)
    known = [id for layer in ids for id in np.unique(layer[layer > 0])]  # lines are in the order of the table, then of ids
    expected = np.zeros_like(ids)
    for line, id in enumerate(known, start=1):
        expected[ids == id] = line
    np.testing.assert_array_equal(back.instances, expected)


def test_a_line_is_an_object_and_the_grid_is_that_of_the_picture(tmp_path):
    file = saved(tmp_path / "a.yolo.txt", SQUARE + "\n1 0 0 1 0 1 0.25 0 0.25\n")
    labels = vx.read_labels(file, reference=image())
    assert labels.table.names == ("label_1", "label_2")
    assert labels.geometry.pixel_size == (0.5, 0.5)
    assert [int((labels.instances == id).sum()) for id in (1, 2)] == [24, 24]
    assert detect(file).name == "yolo"


def test_the_layout_of_a_set(tmp_path):
    file = saved(tmp_path / "labels" / "train" / "a.txt")
    with pytest.raises(MissingFileError, match="not beside it"):
        vx.read_labels(file)
    (tmp_path / "images" / "train").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 12), np.uint8)).save(tmp_path / "images" / "train" / "a.jpg")
    (tmp_path / "data.yaml").write_text("names: {0: cell}\nnc: 1\n")
    labels = vx.read_labels(file)
    assert (labels.table.names, labels.layers.shape) == (("cell",), (1, 8, 12))
    assert "images/train/a.jpg" in labels.source.remarks[0]
    (tmp_path / "labels" / "train" / "classes.txt").write_text("nucleus\n\n")
    assert vx.read_labels(file).table.names == ("nucleus",)


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_fractions_as_ultralytics_prints_them_are_recognised(tmp_path_factory, values):
    """By ``%g``, which prints small numbers as 5e-05."""
    path = saved(tmp_path_factory.getbasetemp() / "g.txt", "0 " + " ".join(f"{value:g}" for value in values) + "\n")
    assert detect(path).name == "yolo"


def test_a_picture_without_objects(tmp_path):
    for text in ("", "\n"):
        labels = read_yolo(saved(tmp_path / "a.yolo.txt", text), TABLE, reference=image())
        assert not labels.layers.any()
        assert not labels.instances.any()
    assert not vx.read_labels(saved(tmp_path / "b.txt", ""), reference=image()).layers.any()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("0 0.5 0.5 0.1 0.1\n", UnsupportedFormatError, "line 1 is a box"),
        (SQUARE + "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7\n", CorruptFileError, r"a.txt: line 2: 7 coordinates after the class"),
        (SQUARE + "0 0.1 0.2 x 0.4 0.5 0.6\n", CorruptFileError, r"a.txt: line 2: value 4, 'x', is not a number"),
        (SQUARE + "0 0.1 0.2 nan 0.4 0.5 0.6\n", CorruptFileError, r"a.txt: line 2: value 4, 'nan', is not a number"),
        (SQUARE + "-1 0.1 0.2 0.3 0.4 0.5 0.6\n", CorruptFileError, r"a.txt: line 2: class '-1' is not a whole number"),
        (SQUARE + "65535 0.1 0.2 0.3 0.4 0.5 0.6\n", CorruptFileError, r"line 2: class '65535'"),
        (SQUARE + "0 0.1 0.2\n", CorruptFileError, r"line 2: 2 coordinates after the class"),
        ("2" + SQUARE[1:], LabelError, "class 2, the table has 2 labels"),
    ],
)
def test_bad_lines(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        vx.read_labels(saved(tmp_path / "a.txt", text), TABLE, reference=image())


def test_a_first_line_of_something_else_is_named_where_the_ending_says_yolo(tmp_path):
    with pytest.raises(CorruptFileError, match=r"a.yolo.txt: line 1: class 'nucleus' is not a whole number"):
        vx.read_labels(saved(tmp_path / "a.yolo.txt", "nucleus" + SQUARE[1:]), TABLE, reference=image())
    with pytest.raises(UnsupportedFormatError, match="no image format"):
        vx.read_labels(saved(tmp_path / "a.txt", "nucleus" + SQUARE[1:]), TABLE, reference=image())


def test_a_volume_is_no_picture(tmp_path):
    grid = Geometry.from_spacing((4, 4, 2), (1, 1, 1))
    with pytest.raises(GridMismatchError):
        read_yolo(saved(tmp_path / "a.txt"), reference=Volume(np.zeros((1, 4, 4, 2)), grid))
