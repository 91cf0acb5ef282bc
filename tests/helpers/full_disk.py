"""A disk that is full: a limit on the size of every file of this process, and a file system of a few kilobytes."""

import os
import resource
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def largest_file(size: int):
    """No file may grow beyond `size` bytes meanwhile (the interpreter ignores the signal, so that writing fails)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder: Path, kilobytes: int):
    """A file system in memory at `folder`; only root may mount one."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, spare: int = 0) -> None:
    """Fill the file system of a folder up to `spare` bytes."""
    with (folder / "filler").open("wb", buffering=0) as file:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize
        file.write(bytes(max(0, free - spare)))


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
