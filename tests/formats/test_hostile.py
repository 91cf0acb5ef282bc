"""Files made to break a reader: each ends in a valid result or one typed error, in bounded time and memory; no crash, no hang."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import hostile

QUICK = [("hostile_grids", name) for name in ("nifti", "mgh", "metaimage", "strangers")]
SLOW = [
    *(("hostile_grids", name) for name in ("nrrd", "pictures")),
    *(("hostile_dicom", name) for name in ("headers", "codecs", "rtstructs", "stacks", "deflated", "segs")),
]


def troubles(module, function, scratch):
    """How many inputs there are, and what went wrong; a new process goes on after each that dies."""
    lines, number, count = [], 0, 0
    paths = os.pathsep.join(filter(None, [str(Path(hostile.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    while True:
        command = [sys.executable, hostile.__file__, f"helpers.{module}", function, str(scratch), str(number)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}, check=False)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        count = max([count, *(line["inputs"] for line in said if "inputs" in line)])
        lines += [line["trouble"] for line in said if "trouble" in line]
        if done.returncode == 0:
            return count, lines
        now = scratch.with_suffix(".now")
        if not now.exists():
            return count, [f"the worker did not start: {done.stderr[-1500:]}"]
        at, name = now.read_text(encoding="utf-8").split()
        lines.append(f"{name}: the process ended with {done.returncode}: {done.stderr[-800:]}")
        number = int(at) + 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("module", "function"), QUICK)
def test_a_hostile_grid_ends_in_a_result_or_one_error(module, function, tmp_path):
    count, lines = troubles(module, function, tmp_path / "scratch")
    assert lines == []
    assert count > 15


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("module", "function"), SLOW)
def test_more_hostile_files_end_in_a_result_or_one_error(module, function, tmp_path):
    count, lines = troubles(module, function, tmp_path / "scratch")
    assert lines == []
    assert count > 10
