"""A mask with its objects, by each form."""

from functools import partial

import numpy as np
import pytest
from PIL import Image

from voxelry.core.instance_form import InstanceForm
from voxelry.core.labels import Label, LabelTable
from voxelry.errors import LabelError, MissingFileError, UsageError
from voxelry.formats.reader import read_labels
from voxelry.formats.reference_objects import labels_with_objects

TABLE = LabelTable(labels=(Label(value=1, name="cell", kind="thing"), Label(value=2, name="vessel")))


@pytest.fixture
def mask(tmp_path):
    Image.fromarray(np.array([[1, 1, 0, 1], [2, 2, 0, 0]], np.uint8)).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.fixture
def ids(tmp_path):
    Image.fromarray(np.array([[4, 5, 0, 5], [0, 0, 0, 0]], np.uint16)).save(tmp_path / "ids.png")
    return tmp_path / "ids.png"


def read(mask, form, table=TABLE, id_map=None):
    form = None if form is None else InstanceForm.model_validate(form)
    told = labels_with_objects(mask, table, form, partial(read_labels, mask, table), id_map)
    assert form in (None, told.form)
    return told.labels, list(told.remarks)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (None, [[1, 1, 0, 2], [0, 0, 0, 0]]),
        ("components", [[1, 1, 0, 2], [0, 0, 0, 0]]),
        ("labels", [[1, 1, 0, 1], [0, 0, 0, 0]]),
        ({"form": "labels", "parts": "split"}, [[1, 1, 0, 2], [0, 0, 0, 0]]),
    ],
)
def test_the_mask_alone(mask, form, expected):
    labels, _ = read(mask, form)
    np.testing.assert_array_equal(labels.instances[0], expected)
    np.testing.assert_array_equal(labels.array, [[1, 1, 0, 1], [2, 2, 0, 0]])


@pytest.mark.parametrize("form", [None, "id_map"])
def test_an_id_map_beside_the_mask(mask, ids, form):
    labels, remarks = read(mask, form, id_map=ids)
    np.testing.assert_array_equal(labels.instances[0], [[4, 5, 0, 5], [0, 0, 0, 0]])
    assert remarks == []
    split, remarks = read(mask, {"form": "id_map", "parts": "split"}, id_map=ids)
    np.testing.assert_array_equal(split.instances[0], [[4, 5, 0, 1], [0, 0, 0, 0]])
    assert "became 2" in remarks[0]


def test_without_a_table_every_label_is_a_thing(mask, ids):
    labels, _ = read(mask, "components", None)
    np.testing.assert_array_equal(labels.instances[0], [[1, 1, 0, 2], [3, 3, 0, 0]])
    labels, _ = read(ids, "mask_ids", None)
    assert labels.table.names == ("object",)
    np.testing.assert_array_equal(labels.instances[0], [[4, 5, 0, 5], [0, 0, 0, 0]])


def test_forms_and_files_that_do_not_fit(mask, ids):
    with pytest.raises(UsageError, match="`instances: id_map` without a file of ids"):
        read(mask, "id_map")
    with pytest.raises(UsageError, match="`instances: components` with a file of ids"):
        read(mask, "components", id_map=ids)
    with pytest.raises(UsageError, match="a file for each object"):
        read(mask, "files")
    with pytest.raises(LabelError, match=r"mask.png: lists no objects.*components"):
        read(mask, "polygons")


def test_read_labels_takes_a_form_or_an_id_map(mask, ids):
    np.testing.assert_array_equal(read_labels(mask, TABLE, instances="components").instances[0], [[1, 1, 0, 2], [0, 0, 0, 0]])
    np.testing.assert_array_equal(read_labels(mask, TABLE, instances=ids).instances[0], [[4, 5, 0, 5], [0, 0, 0, 0]])
    np.testing.assert_array_equal(read_labels(ids, instances="mask_ids").instances[0], [[4, 5, 0, 5], [0, 0, 0, 0]])
    form = InstanceForm(form="labels", parts="split")
    split = read_labels(mask, TABLE, instances=form)
    np.testing.assert_array_equal(split.instances[0], [[1, 1, 0, 2], [0, 0, 0, 0]])
    assert any("became 2" in remark for remark in split.source.remarks)
    assert read_labels(mask, TABLE).instances is None
    with pytest.raises(MissingFileError, match="nowhere"):
        read_labels(mask, TABLE, instances="nowhere.png")
