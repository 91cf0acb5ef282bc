import pytest

import voxelry
from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.errors import MissingFileError, UsageError


def run_of(folder, state="failed"):
    folder.mkdir()
    with Ledger(folder) as ledger:
        ledger.put([LedgerCase("a", 0, ("a.nii",), "r", "s")])
        if state != "ready":
            ledger.finish("a", state, error="cannot be read")
    return folder


def test_cases_are_listed_and_drawn_in_the_runs_folder(tmp_path):
    folder = run_of(tmp_path / "masks")
    assert [(case.id, case.doubt) for case in voxelry.qc(folder)] == [("a", 1.0)]
    assert {file.name for file in (folder / "qc").iterdir()} == {"review.csv", "sheet_001.png"}
    voxelry.qc(folder, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "review.csv").is_file()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="no ledger"):
        voxelry.qc(tmp_path)


def test_a_run_that_has_only_begun_has_nothing_to_review(tmp_path):
    with pytest.raises(UsageError, match="no case has ended yet"):
        voxelry.qc(run_of(tmp_path / "masks", "ready"))
