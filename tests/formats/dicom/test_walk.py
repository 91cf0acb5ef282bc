"""Walking trees: every file once, links without loops, nothing that blocks, and what is closed is said."""

from __future__ import annotations

import os

import pytest

from voxelry.formats.dicom import walk as module
from voxelry.formats.dicom.walk import walk


def names(folder):
    return [str(path.relative_to(folder)) for path, _ in walk(folder).files]


def test_every_visible_file_sorted_with_its_size(tmp_path):
    for name in ("b/2", "b/1", "a", "b/c/3", ".hidden", ".git/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 7)
    assert names(tmp_path) == ["a", "b/1", "b/2", "b/c/3"]
    assert {size for _, size in walk(tmp_path).files} == {7}


def test_a_loop_of_links_ends_and_a_linked_folder_is_listed_once(tmp_path):
    inner = tmp_path / "scans" / "one"
    inner.mkdir(parents=True)
    (inner / "x").write_bytes(b"1")
    (inner / "up").symlink_to(tmp_path / "scans", target_is_directory=True)
    (tmp_path / "scans" / "two").symlink_to(inner, target_is_directory=True)
    assert names(tmp_path) == ["scans/one/x"]


def test_a_folder_outside_is_followed(tmp_path):
    outside = tmp_path / "store"
    outside.mkdir()
    (outside / "x").write_bytes(b"1")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(outside, target_is_directory=True)
    (tree / "file").symlink_to(outside / "x")
    assert names(tree) == ["file"] or names(tree) == ["link/x"]


def test_a_link_to_nowhere_and_a_closed_folder_are_problems(tmp_path, monkeypatch):
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    closed = tmp_path / "closed"
    closed.mkdir()
    (tmp_path / "x").write_bytes(b"1")
    real = os.scandir

    def scandir(path):
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(module.os, "scandir", scandir)
    found = walk(tmp_path)
    assert [path.name for path, _ in found.files] == ["x"]
    assert {path.name for path, _ in found.problems} == {"gone", "closed"}
    assert all(str(path) in str(error) and error.remedy for path, error in found.problems)


@pytest.mark.timeout(10)
def test_pipes_are_passed_over(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == []
