"""Darwin read: against the masks and the COCO file of a real set, against OpenCV's rule of holes, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.draw import polygon as filled_polygon
from skimage.draw import polygon_perimeter

import voxelry as vx
from voxelry.core.labels import Label, LabelTable
from voxelry.errors import CorruptFileError, GridMismatchError, UnsupportedFormatError
from voxelry.formats.detection import detect
from voxelry.formats.pictures.darwin_read import read_darwin

SHAPE = (20, 30)
SQUARE = [(3, 4), (12, 4), (12, 11), (3, 11)]
HOLE = [(5, 6), (9, 6), (9, 9), (5, 9)]


def points(ring):
    return [{"x": x, "y": y} for x, y in ring]


def first(*annotations, shape=SHAPE):
    picture = {"width": shape[1], "height": shape[0], "filename": "0001.jpg", "original_filename": "a.png", "workview_url": ""}
    return {"image": picture, "dataset": "d", "annotated": True, "annotations": list(annotations)}


def second(*annotations, shape=SHAPE, slots=1):
    slot = {"type": "image", "slot_name": "0", "width": shape[1], "height": shape[0], "source_files": [{"file_name": "a.png"}]}
    item = {"name": "a.png", "path": "/", "slots": [slot] * slots}
    return {
        "version": "2.0",
        "schema_ref": "https://darwin-public",
        "dataset": {},
        "item": item,
        "annotations": list(annotations),
    }


def saved(folder, value):
    file = folder / "a.json"
    file.write_text(json.dumps(value))
    return file


def square(ring=SQUARE):
    """Oracle: scikit-image, the pixels within and those of the outline."""
    rows, columns = np.array([y for _, y in ring]), np.array([x for x, _ in ring])
    mask = np.zeros(SHAPE, bool)
    mask[filled_polygon(rows, columns, SHAPE)] = True
    mask[polygon_perimeter(rows, columns, SHAPE)] = True
    return mask


@pytest.mark.realdata
def test_polygons_of_both_files_and_masks_agree(realdata):
    """Every pixel of the five pictures: the masks that the set's authors drew, their COCO file, and their Darwin files."""
    folder = realdata / "cxr_lung" / "native_dev"
    files = sorted((folder / "darwin_json").glob("*.json"))
    assert len(files) == 5
    for file in files:
        assert detect(file).name == "darwin"
        labels = vx.read_labels(file, reference=folder / f"images/{file.stem}.jpg")
        raw = np.asarray(Image.open(folder / f"masks_v7_raw/{file.stem}.png"))
        np.testing.assert_array_equal(labels.mask("Lung"), raw == 255)
        coco = vx.read_labels(folder / "coco_covid.json", reference=folder / f"images/{file.stem}.jpg")
        ids = np.unique(coco.instances)[1:]
        assert len(ids) == 2
        masks = [labels.instances[0] == id for id in (1, 2)]
        for id in ids:
            assert any(np.array_equal(coco.instances[0] == id, mask) for mask in masks)
        assert labels.source.remarks == ()


@pytest.mark.parametrize(
    "content",
    [
        first({"name": "cell", "polygon": {"path": points(SQUARE)}}),
        first({"name": "cell", "complex_polygon": {"path": [points(SQUARE)]}}),
        second({"id": "u-1", "name": "cell", "polygon": {"paths": [points(SQUARE)]}, "bounding_box": {"x": 3, "y": 4}}),
        second({"id": "u-1", "name": "cell", "polygon": {"path": points(SQUARE)}, "slot_names": ["0"]}),
    ],
)  # fmt: skip
def test_a_polygon_of_every_version(tmp_path, content):
    labels = read_darwin(saved(tmp_path, content))
    np.testing.assert_array_equal(labels.instances[0] > 0, square())
    assert labels.table.names == ("cell",)
    assert labels.table["cell"].kind == "thing"
    assert labels.source.kind == "darwin"


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 19)), min_size=3, max_size=3, unique=True))
def test_a_triangle_is_that_of_scikit_image(tmp_path_factory, ring):
    """Where an edge passes exactly through the middle between pixels the two may take another pixel of its outline."""
    content = first({"name": "cell", "polygon": {"path": points(ring)}})
    mask = read_darwin(saved(tmp_path_factory.getbasetemp(), content)).instances[0] > 0
    rows, columns = np.array([y for _, y in ring]), np.array([x for x, _ in ring])
    inner = np.zeros(SHAPE, bool)
    inner[filled_polygon(rows, columns, SHAPE)] = True
    assert mask[rows, columns].all()
    assert not (inner & ~mask).any()
    assert not (mask & ~square(ring)).any()


@pytest.mark.parametrize("order", [1, -1])
def test_a_path_within_another_is_a_hole(tmp_path, order):
    paths = [points(SQUARE), points(HOLE)][::order]
    islands = [points([(20, 2), (24, 2), (24, 6), (20, 6)])]
    for content in (
        first({"name": "cell", "complex_polygon": {"path": [*paths, *islands]}}),
        first({"name": "cell", "polygon": {"path": paths[0], "additional_paths": [paths[1], *islands]}}),
        second({"name": "cell", "polygon": {"paths": [*paths, *islands]}}),
    ):
        labels = read_darwin(saved(tmp_path, content))
        expected = square()
        expected[7:9, 6:9] = False
        expected[2:7, 20:25] = True
        np.testing.assert_array_equal(labels.instances[0] == 1, expected)


def test_masks_of_a_raster_layer(tmp_path):
    ids = np.zeros(SHAPE, int)
    ids[2:5, 3:9], ids[2:5, 9:12], ids[19, 29] = 1, 2, 1
    ends = np.append(np.flatnonzero(np.diff(ids.ravel())), ids.size - 1)
    runs = [int(n) for pair in zip(ids.ravel()[ends], np.diff(ends, prepend=-1), strict=True) for n in pair]
    layer = {"dense_rle": runs, "mask_annotation_ids_mapping": {"u-1": 1, "u-2": 2}, "total_pixels": ids.size}
    content = second(
        {"id": "u-1", "name": "cell", "mask": {}},
        {"id": "u-2", "name": "vessel", "mask": {}},
        {"id": "u-0", "name": "__raster_layer__", "raster_layer": layer},
    )
    labels = read_darwin(saved(tmp_path, content))
    np.testing.assert_array_equal(labels.instances[0], ids)
    np.testing.assert_array_equal(labels.mask("vessel"), ids == 2)
    assert not any("left out" in remark for remark in labels.source.remarks)


@pytest.mark.parametrize(("radii", "angle"), [((8.3, 4.6), 0.0), ((8.3, 4.6), 0.6), ((3.0, 3.0), 1.0), ((2.2, 7.1), -2.0)])
def test_an_ellipse_has_the_pixels_within_it(tmp_path, radii, angle):
    """Oracle: the ellipse's equation; pixels that the outline runs through belong to it."""
    ellipse = {"center": {"x": 14.4, "y": 9.7}, "radius": {"x": radii[0], "y": radii[1]}, "angle": angle}
    labels = read_darwin(saved(tmp_path, first({"name": "lesion", "ellipse": ellipse})))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - np.array([9.7, 14.4])[:, None, None]

    def inside(margin):
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        return (along / (radii[0] + margin)) ** 2 + (across / (radii[1] + margin)) ** 2 <= 1

    assert labels.mask("lesion")[inside(0)].all()
    assert not labels.mask("lesion")[~inside(0.75)].any()
    assert labels.source.remarks == ()


def test_annotations_of_an_instance_id_are_an_object(tmp_path):
    far = [(x + 14, y + 6) for x, y in SQUARE]
    rows = [
        {"name": "cell", "polygon": {"path": points(SQUARE)}, "instance_id": {"value": 4}},
        {"name": "nerve", "polygon": {"path": points([(25, 0), (28, 0), (28, 3)])}, "instance_id": {"value": 4}},
        {"name": "cell", "polygon": {"path": points(far)}, "instance_id": {"value": 4}},
        {"name": "cell", "polygon": {"path": points([(1, 15), (4, 15), (4, 18)])}, "instance_id": None},
    ]
    labels = read_darwin(saved(tmp_path, first(*rows)))
    np.testing.assert_array_equal(labels.instances[0] == 1, square() | square(far))
    assert np.unique(labels.instances).tolist() == [0, 1, 2, 3]


def test_what_has_no_area_is_left_out_and_said(tmp_path):
    content = first(
        {"name": "cell", "polygon": {"path": points(SQUARE)}},
        {"name": "View/PA", "tag": {}},
        {"name": "a", "bounding_box": {"x": 1, "y": 1, "w": 2, "h": 2}},
        {"name": "b", "line": {"path": points(SQUARE)}},
    )
    labels = read_darwin(saved(tmp_path, content))
    assert labels.source.remarks == ("annotations without an area are left out: 1 bounding_box, 1 line",)
    assert not read_darwin(saved(tmp_path, first())).layers.any()


def test_the_table_says_what_classes_mean(tmp_path):
    content = first({"name": "Cell", "polygon": {"path": points(SQUARE)}}, {"name": "other", "polygon": {"path": points(HOLE)}})
    table = LabelTable(labels=(Label(value=4, name="cell", kind="thing"),))
    labels = read_darwin(saved(tmp_path, content), table)
    np.testing.assert_array_equal(labels.array == 4, square())
    assert "other" in labels.source.remarks[0]
    negative = read_darwin(saved(tmp_path, content), LabelTable(labels=(Label(value=1, name="lung"),)))
    assert not negative.layers.any()  # Darwin lists only what was drawn
    assert negative.source.remarks == ("categories not in the table are left out: Cell, other",)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (second(slots=2), UnsupportedFormatError, r"a\.json: an item of 2 slots"),
        (second({"name": "cell", "frames": {}}), UnsupportedFormatError, "of a video"),
        (first({"name": "cell", "polygon": {"path": []}}), CorruptFileError, "'cell' has a path without points"),
        (first({"name": "cell", "polygon": {"path": [{"x": 1}]}}), CorruptFileError, "not Darwin annotations"),
        (first({"polygon": {"path": points(SQUARE)}}), CorruptFileError, "KeyError: 'name'"),
        ({"image": {"width": 3}, "annotated": True}, CorruptFileError, "not Darwin annotations"),
        (first(shape=(100_000, 100_000)), UnsupportedFormatError, "pixels"),
        (
            second({"id": "u", "name": "x", "raster_layer": {"dense_rle": [0, 5], "mask_annotation_ids_mapping": {}}}),
            CorruptFileError,
            "a raster layer of 5 pixels for a picture of 30 x 20",
        ),
    ],
)
def test_what_cannot_be_read(tmp_path, content, error, message):
    with pytest.raises(error, match=message):
        read_darwin(saved(tmp_path, content))


def test_another_picture_is_refused(tmp_path):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "b.png")
    file = saved(tmp_path, first({"name": "cell", "polygon": {"path": points(SQUARE)}}))
    with pytest.raises(GridMismatchError, match="30 x 20"):
        vx.read_labels(file, reference=vx.read(tmp_path / "b.png"))
