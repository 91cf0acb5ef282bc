import errno
import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.full_disk import largest_file
from voxelry.base import files
from voxelry.base.files import (
    atomic_folder,
    atomic_path,
    atomic_paths,
    free_name,
    read_json,
    read_text,
    read_yaml,
    write_json,
    write_text,
    write_yaml,
)
from voxelry.errors import ConfigError, MissingFileError, UsageError


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---- one file


def test_a_file_appears_whole_and_alone(tmp_path):
    with atomic_path(tmp_path / "deep" / "x.nii.gz") as temporary:
        assert temporary.name.endswith("x.nii.gz")
        assert temporary.parent == tmp_path / "deep"
        temporary.write_text("half")
        assert not (tmp_path / "deep" / "x.nii.gz").exists()
        temporary.write_text("whole")
    assert names(tmp_path) == ["deep", "deep/x.nii.gz"]
    assert (tmp_path / "deep" / "x.nii.gz").read_text() == "whole"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "x").write_text("old")
    with pytest.raises(error), atomic_path(tmp_path / "x") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    write_text(tmp_path / "x", "")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


# ---- one folder


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path):
    for content in ("a", "b"):
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / content).write_text(content)
    assert names(tmp_path) == ["model", "model/b"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "old").write_text("old")
    with pytest.raises(error), atomic_folder(tmp_path / "model") as temporary:  # noqa: PT012
        (temporary / "new").write_text("half")
        raise error
    assert names(tmp_path) == ["model", "model/old"]


def test_a_new_folder_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").mkdir()
    with atomic_folder(tmp_path / "x"):
        pass
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_folder_that_came_meanwhile_may_stay(tmp_path):
    for keeps, left in ((True, "theirs"), (False, "ours")):
        target = tmp_path / left / "entry"
        asked = []
        with atomic_folder(target, keep=lambda there, k=keeps, a=asked: (a.append(there), k)[1]) as temporary:
            (temporary / "ours").write_text("")
            target.mkdir()
            (target / "theirs").write_text("")
        assert names(tmp_path / left) == ["entry", f"entry/{left}"]
        assert asked == [target]


def test_a_folder_that_comes_at_the_last_moment_is_asked_about_too(tmp_path, monkeypatch):
    target, original = tmp_path / "entry", files._replace_folder

    def beaten(temporary, there):
        if not there.exists():
            there.mkdir()
            (there / "theirs").write_text("")
            raise OSError("Directory not empty")
        original(temporary, there)

    monkeypatch.setattr(files, "_replace_folder", beaten)
    monkeypatch.setattr(files, "_PAUSE", 0)
    with atomic_folder(target, keep=lambda there: (there / "theirs").exists()) as temporary:
        (temporary / "ours").write_text("")
    assert names(tmp_path) == ["entry", "entry/theirs"]


def test_what_never_can_be_put_there_is_an_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("read-only")

    monkeypatch.setattr(files, "_replace_folder", full)
    monkeypatch.setattr(files, "_PAUSE", 0)
    with pytest.raises(OSError, match="read-only"), atomic_folder(tmp_path / "x", keep=lambda _: True):
        pass
    assert names(tmp_path) == []


# ---- a full disk


def test_an_error_names_the_file_inside_a_folder_that_is_not_there_yet(tmp_path):
    with largest_file(5), pytest.raises(OSError) as caught, atomic_folder(tmp_path / "model") as temporary:
        write_text(temporary / "inner" / "card", "too long")
    assert caught.value.filename == str(tmp_path / "model" / "inner" / "card")
    assert names(tmp_path) == []


# ---- YAML and JSON

words = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=8)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(words, plain, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("files")
    write_json(folder / "x.json", value)
    write_yaml(folder / "x.yaml", value)
    assert read_json(folder / "x.json") == value
    assert read_yaml(folder / "x.yaml") == value
    assert list(read_yaml(folder / "x.yaml")) == list(value)


def test_nan_is_not_json_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"dice": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize("read", [read_text, read_yaml, read_json])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(MissingFileError, match=r"nothing\.yaml: no such file. Check the path"):
        read(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "not valid YAML.*line 1"),
        ("a: 1\n\tb: 2", "not valid YAML.*line 2"),
        ("day: 2026-02-30", "not valid YAML.*day"),
        ("a: 1\nb: {c: x/{id}.nii}", "in line 2, column [0-9]+; write text with braces in quotes, as 'images/{id}.nii.gz'"),
        ("a:\n\t- b", "in line 2, column 1; indent by spaces, not by tabs"),
        ("a: 1\nb: 2\na: 3", "key 'a' occurs twice.*line 3"),
        ("a: {b: 1, b: 2}", "key 'b' occurs twice"),
        ("- a", "holds a list at the top. A YAML mapping"),
        ("", "is empty. A YAML mapping"),
        ("# a: 1", "is empty"),
        ("hello", "holds a text at the top"),
        ("1.5", "holds a number at the top"),
        ("2026-02-03", "holds a single value at the top"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML"),
        ("? [1, 2]\n: 3", "not valid YAML"),
    ],
)
def test_bad_yaml_names_the_file_and_the_place(tmp_path, text, message):
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"card\.yaml: .*{message}"):
        read_yaml(tmp_path / "card.yaml")


def test_a_key_may_stand_in_two_mappings_and_be_merged_in(tmp_path):
    (tmp_path / "x.yaml").write_text("base: &base {a: 1, b: 2}\none: {<<: *base, a: 3}\ntwo: [{a: 1}, {a: 2}]")
    assert read_yaml(tmp_path / "x.yaml")["one"] == {"a": 3, "b": 2}


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON.*line 1"), ("[1]", "holds a list"), ("", "not valid JSON")])
def test_bad_json_names_the_file_and_the_place(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"x\.json: .*{message}"):
        read_json(tmp_path / "x.json")


def test_text_that_is_not_utf8_says_where(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"name: k\xe9")
    with pytest.raises(ConfigError, match=r"not UTF-8 text .*at byte 7"):
        read_yaml(tmp_path / "x.yaml")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(tmp_path / "x") == "{}"
    assert read_json(tmp_path / "x") == {}


# ---- names


@pytest.mark.parametrize("name", ["case_7", "PAT-1.2", "hippocampus 001", "脾臓"])
def test_a_plain_name_stands_for_a_file(name):
    assert free_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "../x", "a\nb", "a\x00", "c:", "a*", 'a"'])
def test_a_name_that_would_leave_its_folder_is_refused(name):
    with pytest.raises(UsageError, match="cannot be a file name"):
        free_name(name)


# ---- the disk and the process


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    """`fsync` of the file, then `rename`, then `fsync` of its folder."""
    events = []
    where = lambda handle: str(Path(f"/proc/self/fd/{handle}").readlink()).removeprefix(str(tmp_path))  # noqa: E731
    sync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append(("sync", where(handle))), sync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append(("rename", Path(new).name)), rename(old, new))[1])
    write_text(tmp_path / "x", "whole")
    assert [kind for kind, _ in events] == ["sync", "rename", "sync"]
    assert events[0][1].startswith("/.tmp-")
    assert events[1:] == [("rename", "x"), ("sync", "")]
    events.clear()
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "a").write_text("a")
        (temporary / "b").write_text("b")
    order = [name.partition("/")[2].partition("/")[2] if kind == "sync" else kind for kind, name in events]
    assert order[-2:] == ["rename", ""]
    assert sorted(order[:-2]) == ["", "b", "deep", "deep/a"]
    assert order.index("deep/a") < order.index("deep") < order.index("rename")


def test_a_disk_that_fails_at_the_last_moment_leaves_the_old_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "x").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*x") as caught:
        write_text(tmp_path / "x", "new")
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "old"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_fsync_serves_too(tmp_path, monkeypatch, code):
    def unknown(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", unknown)
    write_text(tmp_path / "x", "whole")
    assert (tmp_path / "x").read_text() == "whole"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o000])
def test_permissions_follow_the_umask_which_is_never_touched(tmp_path, monkeypatch, mask):
    before = os.umask(mask)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", None)
            write_text(tmp_path / "x", "")
            with atomic_folder(tmp_path / "y") as temporary:
                (temporary / "z").write_text("")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("x", "y", "y/z")]
    assert modes == [0o666 & ~mask, 0o777 & ~mask, 0o666 & ~mask]


@pytest.mark.parametrize(
    "name", ["x" * 255, "x" * 240 + ".seg.nrrd", "ä" * 120 + ".nii.gz", "脾" * 80 + ".nii.gz", "é" + "x" * 245 + ".nii"]
)
def test_a_name_of_any_legal_length_is_written_and_replaced(tmp_path, name):
    for content in ("old", "new"):
        with atomic_path(tmp_path / name) as temporary:
            assert temporary.name.endswith(name[-7:])
            temporary.write_text(content)
        assert (tmp_path / name).read_text() == content
        with atomic_folder(tmp_path / "in" / name) as temporary:
            (temporary / content).write_text("")
    assert names(tmp_path / "in" / name) == ["new"]
    assert names(tmp_path) == sorted([name, "in", f"in/{name}", f"in/{name}/new"])


def pipe(path):
    os.mkfifo(path)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


STRANGE = {
    "pipe": (pipe, "a pipe, socket or device"),
    "socket": (a_socket, "a pipe, socket or device"),
    "folder": (Path.mkdir, "a folder, where a file is needed"),
    "loop": (lambda path: path.symlink_to(path), "a link to .*, which leads to no file"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "a link to nowhere, which leads to no file"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_file_is_called_by_its_kind_and_never_opened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make, message = STRANGE[kind]
    make(Path("x.yaml"))
    for read in (read_text, read_yaml, read_json):
        with pytest.raises(MissingFileError, match=rf"^x\.yaml: {message}"):
            read("x.yaml")


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_no_file_is_put_in_the_place_of_what_is_none(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    STRANGE[kind][0](Path("x"))
    before = Path("x").stat()
    with pytest.raises(UsageError, match="x: is there already, and is no regular file"):
        write_text("x", "text")
    assert Path("x").stat().st_ino == before.st_ino
    assert names(tmp_path) == ["x"]


def test_a_text_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "x.yaml").open("wb") as file:
        file.truncate(files.LARGEST_TEXT + 1)
    with pytest.raises(ConfigError, match="more than 67108864 bytes"):
        read_yaml(tmp_path / "x.yaml")


def test_two_files_that_belong_together_are_replaced_or_neither(tmp_path):
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    with atomic_paths(one, other) as (first, second):
        first.write_text("1")
        second.write_text("2")
        assert not one.exists()
    with pytest.raises(ValueError, match="null"), atomic_paths(one, other) as (first, _):
        first.with_name("null\0").write_text("3")
    assert (one.read_text(), other.read_text()) == ("1", "2")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.txt", "other.txt"]
