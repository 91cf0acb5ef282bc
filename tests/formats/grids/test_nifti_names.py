"""The label table that a NIfTI file carries: restored where it is ours, passed over where it is anything else."""

import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxelry.core.labels import Code, Label, LabelTable
from voxelry.errors import LabelError
from voxelry.formats.reader import read_labels

TABLE = LabelTable(
    labels=(
        Label(value=1, name="left kidney", type=Code(value="64033007", meaning="Kidney"), color=(1, 2, 3), mirror="Niere rechts"),
        Label(value=3, name="Niere rechts", kind="thing", mirror="left kidney"),
    ),
    ignore=255,
)
ARRAY = np.array([[[0, 1], [3, 255]]], dtype=np.uint8)
NUMBERED = ("label_1", "label_3", "label_255")


def ours(table=TABLE):
    return json.dumps({"label_table": table.model_dump(mode="json", exclude_defaults=True)}).encode()


def saved(path, *comments, code=6, kind=nib.Nifti1Image, order="<"):
    header = kind.header_class(endianness=order)
    for comment in comments:
        header.extensions.append(nib.nifti1.Nifti1Extension(code, comment))
    nib.save(kind(ARRAY, np.eye(4), header), path)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_the_table_comes_back_whole(tmp_path, kind, order, ending):
    labels = read_labels(saved(tmp_path / f"x{ending}", b"made by somebody", ours(), kind=kind, order=order))
    assert labels.table == TABLE
    assert not any("table" in remark for remark in labels.source.remarks)


def test_a_table_given_by_the_caller_wins(tmp_path):
    path = saved(tmp_path / "x.nii.gz", ours())
    mine = LabelTable(labels=(Label(value=1, name="a"), Label(value=3, name="b"), Label(value=255, name="c")))
    assert read_labels(path, mine).table == mine
    with pytest.raises(LabelError, match="255"):
        read_labels(path, LabelTable.numbered([1, 3]))


def test_a_file_without_a_table_is_numbered(tmp_path):
    for comments in ((), (b"plain words",), (b'{"id2label": {}}',), (b"[1, 2]",), (b"\xff\xfe",)):
        labels = read_labels(saved(tmp_path / "x.nii.gz", *comments))
        assert labels.table.names == NUMBERED
        assert not any("table" in remark for remark in labels.source.remarks)
    assert read_labels(saved(tmp_path / "x.nii.gz", ours(), code=4)).table.names == NUMBERED


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "None"),
        ([], "label_table"),
        ({"labels": [{"value": 1, "name": "a"}]}, "3, 255 are not in the table"),
        ({"labels": [{"value": 0, "name": "a"}]}, "labels.0.value"),
        ({"labels": [{"value": 1, "name": "a"}, {"value": 1, "name": "b"}]}, "occurs twice"),
        ({"labels": [{"value": 1, "name": "a", "colour": 1}]}, "unknown key"),
        ({"labels": [{"value": 1, "name": "x" * 1000}]}, "labels.0.name"),
        ({"labels": [{"value": v, "name": str(v), "layer": v % 2} for v in (1, 2, 3, 255)]}, "2 layers"),
        ({"labels": "a"}, "labels"),
    ],
)
def test_a_table_that_cannot_be_used_is_passed_over_with_a_remark(tmp_path, content, reason):
    labels = read_labels(saved(tmp_path / "x.nii.gz", json.dumps({"label_table": content}).encode()))
    assert labels.table.names == NUMBERED
    (remark,) = [remark for remark in labels.source.remarks if "table" in remark]
    assert reason in remark


def test_json_nested_without_end_is_passed_over(tmp_path):
    for text in (b'{"label_table":' * 50_000, b"[" * 100_000, b'{"label_table": ' + b"9" * 10_000 + b"}"):
        assert read_labels(saved(tmp_path / "x.nii.gz", text)).table.names == NUMBERED


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.binary(max_size=64), st.integers(348, 420))
def test_damage_to_the_extension_never_stops_the_reading(tmp_path, noise, at):
    path = saved(tmp_path / "x.nii", ours())
    content = bytearray(path.read_bytes())
    content[at : at + len(noise)] = noise
    path.write_bytes(content)
    np.testing.assert_array_equal(read_labels(path).array, ARRAY)
