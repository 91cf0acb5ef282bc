import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.datasets.cases import Case, CaseRows, FoundFiles, TableFiles, parse_cases, read_table
from voxelry.errors import ManifestError, MissingFileError

HERE = Path("set.yaml")
cells = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\ufeff"), max_size=5)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ([], CaseRows),
        ([{"id": "a", "images": ["a.nii"]}], CaseRows),
        ({"images": ["{id}.nii"]}, FoundFiles),
        ({"table": "t.csv", "id": "{a}", "images": ["{a}.nii"]}, TableFiles),
    ],
)
def test_the_form_is_told_by_its_keys(value, form):
    assert isinstance(parse_cases(value, HERE), form)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "key 'cases' is 7"),
        ([{"id": "a", "image": ["a.nii"]}], r"unknown key 'cases\.0\.image'.*Did you mean 'images'"),
        ([{"id": "a", "images": []}], "images"),
        ([{"id": "a", "images": ["a"], "split": "training"}], "split' is 'training'"),
        ({"images": ["a.nii"]}, r"'a\.nii' has no \{id\}"),
        ({"images": ["{id}.nii"], "group_pattern": "("}, "no regular expression"),
        ({"images": ["{id}.nii"], "labels": {"per_label": "{id}.nii"}}, r"no \{label\}"),
        ({"images": ["{id}.nii"], "split_names": {"dev": "x"}}, "split_names"),
        ({"table": "t.csv", "images": ["x"]}, "key 'id' is missing"),
    ],
)
def test_wrong_forms_name_key_and_value(value, message):
    with pytest.raises(ManifestError, match=message) as raised:
        parse_cases(value, HERE)
    assert "set.yaml" in str(raised.value)


def test_rows_of_a_csv_beside_the_manifest(tmp_path):
    (tmp_path / "rows.csv").write_text(
        "id,image_1,image_2,labels,group,split\na,a1.nii,a2.nii,a.nii,p,train\nb,b1.nii,b2.nii,,,\n"
    )
    listed = parse_cases("rows.csv", tmp_path / "set.yaml")
    assert isinstance(listed, CaseRows)
    first, second = listed.cases
    assert (first.images, first.labels, first.group, first.split) == (("a1.nii", "a2.nii"), "a.nii", "p", "train")
    assert (second.labels, second.group, second.split) == (None, None, None)


@given(
    rows=st.lists(st.tuples(cells, cells, cells).filter(lambda row: any(row)), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t"),
)
def test_a_table_reads_back_what_python_wrote(rows, delimiter, tmp_path_factory):
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows([("one", "two", "three"), *rows])
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_text(stream.getvalue(), encoding="utf-8-sig", newline="")
    assert [tuple(row.values()) for row in read_table(path)] == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "column occurs twice"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells, the header 2"),
    ],
)
def test_a_table_that_cannot_be_used(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_table(tmp_path / "t.csv")


def test_a_missing_table(tmp_path):
    with pytest.raises(MissingFileError, match=r"rows\.csv"):
        parse_cases("rows.csv", tmp_path / "set.yaml")


def test_label_files_of_both_kinds():
    mask, masks = Path("m.nii"), (("liver", Path("l.nii")), ("spleen", Path("s.nii")))
    assert Case("a", (Path("i"),), labels=mask).label_files == (mask,)
    assert Case("a", (Path("i"),), masks=masks).label_files == (Path("l.nii"), Path("s.nii"))
    assert Case("a", (Path("i"),)).has_labels is False
