"""Cards whose references tell objects apart: from the card's file to the ids of a case, and what does not fit together."""

import json

import numpy as np
import pytest
from PIL import Image

from voxelry.base.files import write_yaml
from voxelry.datasets.check import check_manifest
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import LabelError, ManifestError

CELL = {"value": 1, "name": "cell", "kind": "thing"}
VESSEL = {"value": 2, "name": "vessel"}


def picture(path, array, kind=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(array, kind)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two cases: a cell of two parts and one of one, and a vessel; the second case empty."""
    for id, mask, ids in (
        ("a", [[1, 0, 1, 1], [2, 0, 0, 1]], [[7, 0, 7, 8], [0, 0, 0, 8]]),
        ("b", np.zeros((2, 4)), np.zeros((2, 4))),
    ):
        picture(tmp_path / f"images/{id}.png", np.arange(8).reshape(2, 4) + len(id))
        picture(tmp_path / f"masks/{id}.png", mask)
        picture(tmp_path / f"ids/{id}.png", ids, np.uint16)
        picture(tmp_path / f"classes/{id}_cell.png", np.equal(mask, 1) * 255)
        picture(tmp_path / f"classes/{id}_vessel.png", np.equal(mask, 2) * 255)
        (tmp_path / f"objects/{id}").mkdir(parents=True)
    picture(tmp_path / "objects/a/cell_1.png", [[255, 0, 255, 0], [0, 0, 0, 0]])
    picture(tmp_path / "objects/a/cell_2.png", [[0, 0, 255, 255], [0, 0, 0, 255]])
    picture(tmp_path / "objects/a/vessel_1.png", [[0, 0, 0, 0], [255, 0, 0, 0]])
    return tmp_path


def saved(path, value):
    write_yaml(path, value)
    return load_manifest(path)


def manifest(folder, labels="masks/{id}.png", table=(CELL, VESSEL), cases=None, **more):
    given = {"images": ["images/{id}.png"], "labels": labels, **({} if cases is None else cases)}
    value = {"name": "set", "modality": "SM", "dimensions": 2, "labels": list(table), "cases": given, **more}
    return saved(folder / "set.yaml", value)


IDS = {"instances": "ids/{id}.png"}
PER_LABEL = {"per_label": "classes/{id}_{label}.png"}
EACH = {"per_object": "objects/{id}/{label}_*.png"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [[1, 0, 2, 2], [0, 0, 0, 2]]),
        ({"instances": "components"}, [[1, 0, 2, 2], [0, 0, 0, 2]]),
        ({"instances": "labels"}, [[1, 0, 1, 1], [0, 0, 0, 1]]),
        ({"cases": IDS}, [[7, 0, 7, 8], [0, 0, 0, 8]]),
        ({"cases": IDS, "instances": "id_map"}, [[7, 0, 7, 8], [0, 0, 0, 8]]),
        ({"cases": IDS, "instances": {"form": "id_map", "parts": "split"}}, [[7, 0, 1, 8], [0, 0, 0, 8]]),
        ({"labels": "ids/{id}.png", "table": [CELL], "instances": "mask_ids"}, [[7, 0, 7, 8], [0, 0, 0, 8]]),
        ({"labels": PER_LABEL, "cases": IDS}, [[7, 0, 7, 8], [0, 0, 0, 8]]),
        ({"labels": PER_LABEL, "cases": IDS, "instances": "id_map"}, [[7, 0, 7, 8], [0, 0, 0, 8]]),
        ({"labels": EACH}, [[1, 0, 1, 2], [0, 0, 0, 2]]),
        ({"labels": EACH, "instances": {"form": "files", "parts": "split"}}, [[1, 0, 3, 2], [0, 0, 0, 2]]),
    ],
)
def test_a_case_has_the_ids_that_the_card_means(folder, change, expected):
    read = manifest(folder, **change)
    first, second = (load_case(case, read)[1] for case in read.cases)
    np.testing.assert_array_equal(first.instances[0], expected)
    np.testing.assert_array_equal(first.array == 1, first.instances[0] > 0)
    assert not second.instances.any()


def test_without_things_there_are_no_ids(folder):
    read = manifest(folder, table=[CELL | {"kind": "stuff"}, VESSEL])
    assert load_case(read.cases[0], read)[1].instances is None


def test_rows_and_tables_name_id_maps(folder):
    rows = [{"id": "a", "images": ["images/a.png"], "labels": "masks/a.png", "instances": "ids/a.png"}]
    value = {"name": "set", "modality": "SM", "dimensions": 2, "labels": [CELL, VESSEL], "cases": rows}
    assert saved(folder / "s.yaml", value).cases[0].instances == folder / "ids/a.png"
    (folder / "rows.csv").write_text("id,image,labels,instances\na,images/a.png,masks/a.png,ids/a.png\n")
    read = saved(folder / "s.yaml", value | {"cases": "rows.csv"})
    assert [file.name for file in read.cases[0].label_files] == ["a.png", "a.png"]
    table = {"table": "rows.csv", "id": "{id}", "images": ["{image}"], "labels": "{labels}", "instances": "{instances}"}
    assert saved(folder / "s.yaml", value | {"cases": table}).cases == read.cases


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instances": "id_map"}, r"2 of 2 labelled cases are without a file of ids \(`instances`\): a, b"),
        (
            {"cases": IDS, "instances": "components"},
            "have a file of ids .* says `instances: components`.*Write `instances: id_map`",
        ),
        ({"cases": IDS, "table": [VESSEL]}, "no label is of kind thing"),
        ({"labels": EACH, "instances": "components"}, "have a file an object"),
        ({"labels": EACH | {"per_label": "{label}.png"}}, "either per_label or per_object"),
        ({"instances": "files"}, "2 of 2 labelled cases are without a file an object"),
        ({"table": [VESSEL], "instances": "labels"}, "no label is of kind thing"),
        ({"instances": "mask_ids"}, "which of 2 labels"),
        ({"instances": "ids"}, "instances"),
        ({"labels": None, "cases": IDS}, "without a mask of classes"),
        ({"labels": EACH, "cases": IDS}, "`per_object` has a file for each object already"),
        ({"labels": {"per_object": "objects/{id}/*.png"}}, r"does not say which of 2 labels .*\{label\}"),
        ({"labels": {"per_object": "nowhere/{id}/{label}*.png"}}, "no folder"),
        ({"labels": {"per_object": "objects/{id}.png"}}, r"has no \* in it"),
        ({"cases": {"instances": "ids/{id}.tif"}}, "2 files of 2 cases are missing"),
    ],
)
def test_what_does_not_fit_together(folder, change, message):
    with pytest.raises(ManifestError, match=message):
        manifest(folder, **change)


def test_id_maps_beside_the_images_are_no_images(folder):
    for id in "ab":
        (folder / f"ids/{id}.png").rename(folder / f"images/{id}_ids.png")
        (folder / f"masks/{id}.png").rename(folder / f"images/{id}_seg.png")
    cases = {"images": ["images/{id}.png"], "labels": "images/{id}_seg.png", "instances": "images/{id}_ids.png"}
    read = manifest(folder, cases=cases)
    assert [case.id for case in read.cases] == ["a", "b"]
    assert read.remarks == ()


def test_check_says_what_was_understood(folder):
    found = check_manifest(manifest(folder, cases=IDS))
    cell = found.objects["cell"]
    assert (cell.total, cell.per_case, cell.touching, cell.in_parts) == (2, (0, 1.0, 2), 2, 1)
    assert found.instances == "ids in a file beside the mask"
    assert "since the card has no key" in check_manifest(manifest(folder)).instances
    assert check_manifest(manifest(folder, table=[CELL | {"kind": "stuff"}, VESSEL])).objects == {}


def test_check_says_where_ids_and_mask_disagree(folder):
    picture(folder / "ids/a.png", [[7, 9, 7, 0], [0, 0, 0, 0]], np.uint16)
    (error,) = (problem for problem in check_manifest(manifest(folder, cases=IDS)) if problem.kind == "error")
    assert error.case == "a"
    assert "ids/a.png: id 9: on background of the mask alone" in error.message
    picture(folder / "ids/a.png", np.zeros((2, 4)), np.uint16)
    messages = [problem.message for problem in check_manifest(manifest(folder, cases=IDS, split={"val": 0}))]
    assert any("voxels of things without an id (cell: 4)" in message for message in messages)
    assert any("thing 'cell' (1) has voxels but no object in any training case" in message for message in messages)


def test_overlapping_object_files_are_said(folder):
    message = next(problem.message for problem in check_manifest(manifest(folder, labels=EACH)) if problem.case == "a")
    assert message.endswith("objects/a: 1 voxel lies in several objects of one label: the smaller has them")
    picture(folder / "objects/a/cell_3.png", np.zeros((2, 4)))
    picture(folder / "objects/a/vessel_2.png", [[255, 0, 0, 0], [0, 0, 0, 0]])
    messages = [problem.message for problem in check_manifest(manifest(folder, labels=EACH))]
    assert any("1 object without a voxel: cell_3.png" in message for message in messages)
    assert any("1 voxel lies in several labels of one layer" in message for message in messages)
    read = manifest(folder, labels=EACH)
    np.testing.assert_array_equal(load_case(read.cases[0], read)[1].array, [[1, 0, 1, 1], [2, 0, 0, 1]])


def test_polygons_of_one_file_for_all_pictures(folder):
    """Two cells, of which the second has a hole, and a vessel; the second picture has no annotation."""
    square = [1, 0, 4, 0, 4, 2, 1, 2]
    content = {
        "images": [{"id": n, "file_name": f"{id}.png", "height": 2, "width": 4} for n, id in enumerate("ab")],
        "annotations": [
            {"id": 70_000, "image_id": 0, "category_id": 5, "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]},
            {"id": 9, "image_id": 0, "category_id": 5, "segmentation": [square]},
            {"id": 4, "image_id": 0, "category_id": 0, "segmentation": {"size": [2, 4], "counts": [1, 1, 6]}},
        ],
        "categories": [{"id": 5, "name": "Cell"}, {"id": 0, "name": "vessel"}],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    for form in ({}, {"instances": "polygons"}):
        read = manifest(folder, labels="coco.json", **form)
        first, second = (load_case(case, read)[1] for case in read.cases)
        np.testing.assert_array_equal(first.instances[0], [[70_000, 9, 9, 9], [0, 9, 9, 9]])
        np.testing.assert_array_equal(first.array, [[1, 1, 1, 1], [2, 1, 1, 1]])
        assert not second.layers.any()
        assert not second.instances.any()
        assert check_manifest(read).objects["cell"].total == 2
        assert check_manifest(read).instances == "the objects that the files list"
    with pytest.raises(LabelError, match=r"masks/a\.png: lists no objects"):
        load_case(manifest(folder, instances="polygons").cases[0], manifest(folder, instances="polygons"))


@pytest.mark.realdata
@pytest.mark.parametrize("labels", ["cxr_lung/native_dev/coco_covid.json", "cxr_lung/native_dev/darwin_json/{id}.json"])
def test_lungs_of_coco_and_darwin_are_two_objects_a_picture(labels, realdata, tmp_path):
    lung = {"value": 1, "name": "lung", "kind": "thing"}
    ids = sorted(file.stem for file in (realdata / "cxr_lung/native_dev/darwin_json").glob("*.json"))
    rows = [{"id": id, "images": [f"cxr_lung/native_dev/images/{id}.jpg"], "labels": labels.replace("{id}", id)} for id in ids]
    value = {
        "name": "set",
        "modality": "DX",
        "dimensions": 2,
        "ignore": 2,
        "labels": [lung],
        "cases": rows,
        "instances": "polygons",
    }
    write_yaml(tmp_path / "set.yaml", value)
    problems = check_manifest(load_manifest(tmp_path / "set.yaml", realdata))
    assert problems == []
    statistics = problems.objects["lung"]
    assert (statistics.total, statistics.per_case, statistics.touching, statistics.in_parts) == (10, (2, 2.0, 2), 0, 0)
