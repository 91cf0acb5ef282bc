"""Label tables from files of every form that people have."""

import pytest

from voxelry.datasets.label_file import load_label_file
from voxelry.errors import ConfigError, MissingFileError, UsageError

CARD = "name: x\nlabels:\n  - {value: 3, name: liver}\n  - {value: 7, name: spleen}\nignore: 9\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("card.yaml", CARD),
        ("plain.yaml", "{3: liver, 7: spleen, 9: ignore}"),
        ("msd.json", '{"labels": {"0": "background", "3": "liver", "7": "spleen", "9": "ignore"}, "modality": {"0": "CT"}}'),
        ("nnunet.json", '{"labels": {"background": 0, "liver": 3, "spleen": 7, "ignore": 9}}'),
    ],
)
def test_every_form(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    table = load_label_file(tmp_path / name)
    assert (table.id2label, table.ignore) == ({0: "background", 3: "liver", 7: "spleen"}, 9)


@pytest.mark.parametrize(
    "text",
    [
        "{1: a, 2: a}",
        "{1: a, '01': b}",
        "{a: 1, b: 1}",
        "{1: ignore, 2: ignore, 3: a}",
        f"{{1: {'x' * 65}}}",
        "{liver: spleen}",
        "labels: [{value: 0, name: a}]",
        "labels: [{valu: 1, name: a}]",
        "labels: 3",
        "a: [1, 2]",
    ],
)
def test_what_is_no_table(tmp_path, text):
    (tmp_path / "labels.yaml").write_text(text)
    with pytest.raises((ConfigError, UsageError), match=r"labels\.yaml"):
        load_label_file(tmp_path / "labels.yaml")


def test_a_missing_file(tmp_path):
    with pytest.raises(MissingFileError):
        load_label_file(tmp_path / "none.yaml")
