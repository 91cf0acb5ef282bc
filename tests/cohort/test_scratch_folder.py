"""Scratch folders vanish with their process."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from voxelry.cohort.scratch_folder import scratch_folder

CHILD = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from voxelry.cohort.scratch_folder import scratch_folder
with scratch_folder() as folder:
    (folder / "scan").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_removed_whatever_ends_the_block(place: Path) -> None:
    def work() -> None:
        with scratch_folder() as folder:
            (folder / "a").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert [*place.iterdir()] == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_a_living_one_keeps_its_own(place: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        left = Path(child.stdout.readline().strip())
        old = time.time() - 3600
        os.utime(left.parent, (old, old))
        with scratch_folder():
            assert (left / "scan").exists()
        child.kill()
        child.wait()
        os.utime(left.parent, (old, old))
    with scratch_folder() as mine:
        assert [*place.iterdir()] == [mine.parent]
    assert [*place.iterdir()] == []
