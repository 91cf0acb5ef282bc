"""Cases of a run: scans on disk, in archives, at URLs and gone."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

import voxelry as vx
from voxelry.cohort.remote_files import place_of
from voxelry.phantom import small_phantom
from voxelry.reports.run_cases import RunCases
from voxelry.reports.run_record import RunCase, RunRecord


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A scan, its mask, and an archive of the scan."""
    home = tmp_path_factory.mktemp("cases")
    phantom = small_phantom()
    vx.write(phantom.volume, home / "scan.nii.gz")
    vx.write(phantom.labels, home / "mask.nii.gz")
    with zipfile.ZipFile(home / "scans.zip", "w") as archive:
        archive.write(home / "scan.nii.gz", "day 1/scan.nii.gz")
    return home


def read(folder: Path, *images: Path):
    case = RunCase("a", images, mask=folder / "mask.nii.gz")
    return RunCases(RunRecord("predict", folder, ())).read(case)


@pytest.mark.parametrize("name", ["scan.nii.gz", "scans.zip/day 1/scan.nii.gz"])
def test_a_scan_on_disk_and_one_in_an_archive_are_shown(folder, name):
    images = read(folder, folder / name)
    np.testing.assert_allclose(images.volume.array, small_phantom().volume.array, atol=1)
    assert images.note == ""
    assert sorted(path.name for path in folder.iterdir()) == ["mask.nii.gz", "scan.nii.gz", "scans.zip"]  # unpacked elsewhere


@pytest.mark.parametrize(
    ("images", "note"),
    [
        ((place_of("https://host.example/a.nii.gz"),), "at a URL"),
        ((Path("/nowhere/a.nii.gz"),), "not where it was"),
        ((), "not known"),
    ],
)
def test_labels_without_a_scan_are_on_black_and_the_page_says_why(folder, images, note):
    shown = read(folder, *images)
    assert not shown.volume.array.any()
    assert shown.prediction is not None
    assert note in shown.note
    assert "voxelry report RUN --data FOLDER" in shown.note
