"""`voxelry follow-up` on the command line."""

import pytest

from helpers.command import refused, run, run_json
from voxelry.formats.writer import write
from voxelry.phantom import coarse_acquisition, dated_phantoms


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    """Scans of a patient at two dates, with their masks."""
    folder = tmp_path_factory.mktemp("dates")
    examinations, _ = dated_phantoms(3, acquisition=coarse_acquisition("torso-ct"), fates=("grow", "vanish"))
    for each, date in zip(examinations, ("2026-01-05", "2026-04-07"), strict=True):
        write(each.phantom.volume, folder / "scans" / f"ann_{date}.nii.gz")
        write(each.phantom.labels, folder / "masks" / f"ann_{date}.nii.gz")
    return folder


def test_the_changes_of_a_patient_are_told(dates, tmp_path):
    arguments = ("follow-up", dates / "scans", "--masks", dates / "masks", "--out", tmp_path / "out", "--transform", "rigid")
    answer = run_json(*arguments)
    assert answer["failed"] == {}
    [patient] = answer["patients"]
    assert patient["patient"] == "ann"
    assert sorted(change["change"] for change in patient["changes"]) == ["gone", "kept"]
    assert {"follow_up.csv", "follow_up.parquet", "follow_up.json"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_patient_of_one_date_fails_with_its_name(dates, tmp_path):
    [first, _] = sorted((dates / "scans").iterdir())
    result = run("follow-up", first, "--masks", dates / "masks", "--out", tmp_path / "out")
    refused(result, "failed: ann: one examination only", code=1)


def test_a_pattern_needs_masks(dates, tmp_path):
    refused(run("follow-up", dates / "scans", "--pattern", "{patient}-{date}", "--out", tmp_path / "out"), "--pattern", "--masks")
