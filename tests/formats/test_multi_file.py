from functools import partial

import pytest

from voxelry.errors import ExportError
from voxelry.formats.multi_file import fresh_folder, save_each


def write(content, path):
    path.write_text(content)


def test_one_is_a_file_and_several_are_a_folder(tmp_path):
    one = save_each(tmp_path / "a.stl", ".stl", ["x.stl"], [partial(write, "1")])
    assert one.read_text() == "1"
    several = save_each(tmp_path / "a.stl.dcm", ".stl.dcm", ["x.dcm", "y.dcm"], [partial(write, "1"), partial(write, "2")])
    assert several == tmp_path / "a_stl_dcm"
    assert {file.name: file.read_text() for file in several.iterdir()} == {"x.dcm": "1", "y.dcm": "2"}


def test_all_or_none(tmp_path):
    with pytest.raises(ZeroDivisionError):
        save_each(tmp_path / "a.stl", ".stl", ["x.stl", "y.stl"], [partial(write, "1"), lambda path: 1 / 0])
    assert not list(tmp_path.iterdir())


def test_what_is_not_ours_is_never_replaced(tmp_path):
    assert fresh_folder(tmp_path / "none") == tmp_path / "none"
    (tmp_path / "a.sc").touch()
    (tmp_path / "b.sc").mkdir()
    (tmp_path / "b.sc" / "c.txt").touch()
    for name in ("a.sc", "b.sc"):
        with pytest.raises(ExportError, match="other files"):
            fresh_folder(tmp_path / name)
