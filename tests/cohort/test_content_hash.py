"""Stamps and hashes of inputs and outputs."""

import os
import shutil
from pathlib import Path

import pytest

from voxelry.cohort.content_hash import hash_of, stamp_of


@pytest.fixture
def series(tmp_path: Path) -> Path:
    folder = tmp_path / "series"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.dcm").write_bytes(b"one")
    (folder / "inner" / "b.dcm").write_bytes(b"two")
    (folder / ".hidden").write_bytes(b"record")
    return folder


def test_a_copy_has_the_same_hash_and_another_stamp(series: Path) -> None:
    copy = series.with_name("copy")
    shutil.copytree(series, copy)
    os.utime(copy / "a.dcm", ns=(0, 0))
    assert hash_of([series]) == hash_of([copy])
    assert stamp_of([series]) != stamp_of([copy])


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer", "order"])
def test_every_change_changes_the_hash_and_the_stamp(series: Path, change: str) -> None:
    paths = [series, series / "a.dcm"]
    before = hash_of(paths), stamp_of(paths)
    if change == "content":
        (series / "inner" / "b.dcm").write_bytes(b"three")
    elif change == "name":
        (series / "inner" / "b.dcm").rename(series / "inner" / "c.dcm")
    elif change == "more":
        (series / "c.dcm").write_bytes(b"")
    elif change == "fewer":
        (series / "inner" / "b.dcm").unlink()
    else:
        paths.reverse()
    after = hash_of(paths), stamp_of(paths)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_hidden_files_do_not_count(series: Path) -> None:
    before = hash_of([series]), stamp_of([series])
    (series / ".hidden").write_bytes(b"another record")
    assert (hash_of([series]), stamp_of([series])) == before


def test_what_is_missing_has_a_stamp_but_no_hash(series: Path) -> None:
    assert stamp_of([series / "none"]) != stamp_of([series / "a.dcm"])
    with pytest.raises(FileNotFoundError):
        hash_of([series / "none"])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii.gz")
    for path in (tmp_path, tmp_path / "pipe.nii.gz"):
        with pytest.raises(OSError, match="no regular file"):
            hash_of([path])
