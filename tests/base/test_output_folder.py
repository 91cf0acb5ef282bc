import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.full_disk import fill, small_disk
from voxelry.base.output_folder import RECORD, OutputFolder, outputs_in, refuse_input
from voxelry.errors import UsageError


def write(outputs, path, text="ours", inputs=()):
    with outputs.writing([path], inputs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def outputs(tmp_path):
    return OutputFolder(tmp_path / "out", "predict")


# ---- properties

steps = st.lists(st.sampled_from(["write", "edit", "delete", "copy", "touch"]), min_size=1, max_size=8)


@given(steps)
def test_only_the_last_text_that_was_written_is_replaced(tmp_path_factory, steps):
    """A model of the file: whose text it is; a copy and another time change nothing."""
    file = tmp_path_factory.mktemp("out") / "x"
    outputs = OutputFolder(file.parent, "predict")
    number, owner = 0, None
    for number, step in enumerate(steps):
        if step == "write" and owner == "user":
            with pytest.raises(UsageError, match=r"exists|changed"):
                write(outputs, file, f"ours {number}")
        elif step == "write":
            write(outputs, file, f"ours {number}")
            owner = "ours"
        elif step == "edit":
            file.write_text(f"user {number}")
            owner = "user"
        elif step == "delete":
            file.unlink(missing_ok=True)
            owner = None
        elif owner is not None and step == "copy":
            text = file.read_text()
            file.unlink()
            file.write_text(text)
        elif owner is not None:
            os.utime(file, (number, number))


# ---- whose it is


def test_the_same_command_replaces_its_output_and_no_other(outputs, tmp_path):
    file, source = tmp_path / "out" / "x", tmp_path / "scan"
    source.write_text("scan")
    write(outputs, file, inputs=[source])
    write(outputs, file, "again", inputs=[tmp_path / "out" / ".." / "scan"])
    for other in (OutputFolder(tmp_path / "out", "convert").check, lambda path, inputs: outputs.check(path, [])):
        with pytest.raises(UsageError, match="written by voxelry predict"):
            other(file, [source])
    assert file.read_text() == "again"


def test_folders_that_are_moved_together_still_fit(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    (before / "scans").mkdir(parents=True)
    (before / "scans" / "a").write_text("scan")
    write(OutputFolder(before / "out", "predict"), before / "out" / "a", inputs=[before / "scans" / "a"])
    before.rename(after)
    OutputFolder(after / "out", "predict").check(after / "out" / "a", [after / "scans" / "a"])


@pytest.mark.parametrize("change", ["other text", "a file added", "a link added", "a folder added"])
def test_a_folder_that_the_user_added_to(outputs, tmp_path, change):
    folder = tmp_path / "out" / "meshes"
    with outputs.writing([folder]):
        folder.mkdir()
        (folder / "a.stl").write_text("ours")
    added = folder / ("a.stl" if change == "other text" else "deep/mine" if change == "a folder added" else "mine")
    added.parent.mkdir(exist_ok=True)
    if change == "a link added":
        added.symlink_to(tmp_path / "nowhere")
    else:
        added.write_text("mine")
    with pytest.raises(UsageError, match=f"{added}: was changed or added"):
        outputs.check(folder)


def test_what_is_gone_loses_nothing(outputs, tmp_path):
    folder = tmp_path / "out" / "meshes"
    with outputs.writing([folder]):
        folder.mkdir()
        (folder / "a.stl").write_text("ours")
    (tmp_path / "out" / "meshes" / "a.stl").unlink()
    outputs.check(tmp_path / "out" / "meshes")


def test_a_link_in_the_outputs_place_is_the_users(outputs, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists"):
        outputs.check(tmp_path / "out" / "x")


def test_an_empty_folder_is_nothing(outputs, tmp_path):
    (tmp_path / "out" / "meshes").mkdir(parents=True)
    outputs.check(tmp_path / "out" / "meshes")


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]\n3\n", b'{"output": "x"}\n'])
def test_a_damaged_record_is_no_permission(outputs, tmp_path, damage):
    write(outputs, tmp_path / "out" / "x")
    (tmp_path / "out" / RECORD).write_bytes(damage)
    with pytest.raises(UsageError, match="exists"):
        outputs.check(tmp_path / "out" / "x")


def test_an_error_leaves_the_record_as_it_was(outputs, tmp_path):
    file = tmp_path / "out" / "x"
    with pytest.raises(KeyboardInterrupt), outputs.writing([file]):
        raise KeyboardInterrupt
    assert list((tmp_path / "out").iterdir()) == []
    write(outputs, file)
    with pytest.raises(KeyboardInterrupt), outputs.writing([file]):
        raise KeyboardInterrupt
    outputs.check(file)
    file.write_text("mine")
    with pytest.raises(UsageError, match="changed"):
        outputs.check(file)


def test_a_process_that_is_killed_leaves_what_is_its_own(tmp_path):
    program = (
        "import os, signal; from pathlib import Path; from voxelry.base.output_folder import OutputFolder\n"
        "with OutputFolder(Path('.'), 'predict').locked(), OutputFolder(Path('.'), 'predict').writing([Path('x')]):\n"
        "    Path('x').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == -9
    outputs = OutputFolder(tmp_path, "predict")
    with outputs.locked():
        write(outputs, tmp_path / "x")


def test_a_full_disk_names_the_output(outputs, tmp_path):
    with small_disk(tmp_path / "disk", 16) as folder:
        fill(folder)
        with pytest.raises(OSError, match="x") as caught, OutputFolder(folder, "predict").writing([folder / "x"]):
            pass
    assert caught.value.filename == str(folder / "x")


def test_outputs_are_listed(outputs, tmp_path):
    assert outputs_in(tmp_path) == set()
    write(outputs, tmp_path / "out" / "x")
    (tmp_path / "out" / "mine").write_text("mine")
    assert outputs_in(tmp_path / "out") == {"x"}


# ---- inputs


@pytest.mark.parametrize("spelling", ["same", "relative", "link", "hard link", "linked folder", "dots", "folder"])
def test_an_output_that_is_an_input(tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    scan = tmp_path / "scans" / "a"
    scan.parent.mkdir()
    scan.write_text("scan")
    (tmp_path / "link").symlink_to(scan)
    (tmp_path / "hard").hardlink_to(scan)
    (tmp_path / "folder").symlink_to(scan.parent)
    other = {
        "same": scan,
        "relative": Path("scans/a"),
        "link": tmp_path / "link",
        "hard link": tmp_path / "hard",
        "linked folder": tmp_path / "folder" / "a",
        "dots": tmp_path / "scans" / ".." / "scans" / "a",
        "folder": scan.parent,
    }[spelling]
    with pytest.raises(UsageError, match="is the input"):
        refuse_input(other, [scan])
    refuse_input(tmp_path / "scans" / "b", [scan])


# ---- locks


def test_a_folder_has_one_run_at_a_time(outputs, tmp_path):
    with outputs.locked():
        with pytest.raises(UsageError, match=r"out: another run is writing"), OutputFolder(tmp_path / "out", "demo").locked():
            pass
        with OutputFolder(tmp_path / "other", "demo").locked():
            pass
    with outputs.locked():
        pass
    assert not (tmp_path / "out" / RECORD).exists()


def test_a_file_system_without_locks(outputs, monkeypatch, caplog):
    import errno
    import fcntl

    def cannot(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", cannot)
    with outputs.locked():
        pass
    assert "cannot be locked" in caplog.text


@pytest.mark.parametrize("place", ["notes.txt", "notes.txt/inner"])
def test_a_file_in_the_folders_place(tmp_path, place):
    (tmp_path / "notes.txt").write_text("mine")
    folder = OutputFolder(tmp_path / place, "train")
    for use in (folder.locked(), folder.writing([tmp_path / place / "a"])):
        with pytest.raises(UsageError, match=r"notes\.txt.*is a file, no folder"), use:
            pass
    assert (tmp_path / "notes.txt").read_text() == "mine"
