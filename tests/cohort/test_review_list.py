import csv

import pytest

from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.cohort.review_list import COLUMNS, review_list, write_review_list
from voxelry.cohort.run_status import status_of


def quality(dice, doubt, review=False, flags=(), reason=""):
    return {"facts": {"quality": {"dice": dice, "doubt": doubt, "review": review, "flags": list(flags), "reason": reason}}}


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.put([LedgerCase(name, rank, (f"{name}.nii",), "r", "s") for rank, name in enumerate("abcdef")])
        outputs = {"dicom-seg": {"path": "b.seg.dcm"}, "nifti": {"path": "b.nii.gz"}}
        ledger.finish("a", "done", details=quality(0.9, 0.1))
        ledger.finish(
            "b", "done", details=quality(0.4, 0.6, True, ["cone is missing"]) | {"flags": ["cone touches"]}, outputs=outputs
        )
        ledger.finish("c", "failed", error="cannot be read", error_class="CorruptFileError")
        ledger.finish("d", "done", details=quality(None, 0.5, False, ["box: small"], "too few"))
        ledger.finish("e", "done", details={"flags": ["blank"]})
        yield ledger


def test_the_most_doubtful_comes_first_and_what_has_not_ended_is_left_out(ledger):
    cases = review_list(ledger)
    assert [case.id for case in cases] == ["c", "b", "d", "a", "e"]
    assert [case.review for case in cases] == [True, True, False, False, False]
    assert cases[0].reason == "cannot be read"
    assert cases[1].flags == ("cone is missing", "cone touches")
    assert cases[1].mask == ledger.path.parent / "b.nii.gz"
    assert cases[1].title == "b: Dice 0.40, review"
    assert (cases[2].title, cases[2].reason) == ("d: no predicted Dice", "too few")
    assert (cases[4].reason, cases[4].flags) == ("no quality control of this case", ("blank",))


def test_the_table_has_a_row_a_case(ledger, tmp_path):
    path = write_review_list(review_list(ledger), tmp_path / "review.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["case"] for row in rows] == ["c", "b", "d", "a", "e"]
    assert rows[1]["flags"] == "cone is missing | cone touches"
    assert (rows[1]["predicted_dice"], rows[2]["predicted_dice"]) == ("0.4", "")


def test_the_status_of_a_run_counts_what_is_to_review(ledger):
    assert status_of(ledger, ledger.path.parent).review == 1
