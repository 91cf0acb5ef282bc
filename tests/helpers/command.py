"""Running the command line in tests, and files for it to stumble over."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
from typer.testing import CliRunner

from voxelry.base.output_folder import RECORD
from voxelry.cli import main as cli
from voxelry.cohort.ledger import LEDGER
from voxelry.cohort.measurement_table import TABLE_NAMES
from voxelry.cohort.run_export import MANIFEST
from voxelry.reports.run_report import PAGE, data_folder

HERE = ("--workers", "0")
"""Segment in this process: a worker process takes seconds to start, and tests/cohort test what workers do."""


def run(*arguments):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output, result.output
    return result


def run_json(*arguments, code=0):
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1])


def refused(result, *words, code=2):
    """The run ended with one message that has the words in it."""
    assert result.exit_code == code, result.output
    messages = [line for line in result.stderr.splitlines() if line.startswith(("error:", "failed:"))]
    assert len(messages) == 1, result.stderr
    for word in words:
        assert str(word) in messages[0], messages[0]
    assert result.stdout == "" or code == 1


def tree(folder):
    """Everything below a folder but records of outputs, ledgers, run manifests and pages of runs."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not {path.name, path.parent.name} & {RECORD, LEDGER, MANIFEST, *TABLE_NAMES, PAGE, data_folder(Path(PAGE)).name}
    )


def save(path, array=None, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(
        nib.Nifti1Image(np.ones((24, 20, 12), np.int16) if array is None else array, np.eye(4) if affine is None else affine),
        path,
    )
    return path


def text_file(path):
    path.write_text("These are words and no voxels. " * 20)
    return path


def truncated(path):
    save(path, np.random.default_rng(0).normal(size=(24, 20, 12)).astype(np.float32))
    path.write_bytes(path.read_bytes()[:5000])
    return path


def at_home(folder, tmp_path, monkeypatch):
    """A copy of a folder, which becomes the working folder."""
    home = tmp_path / "home"
    shutil.copytree(folder, home)
    monkeypatch.chdir(home)
    return home
