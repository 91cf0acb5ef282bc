import io
import json

from rich.console import Console

from voxelry.report.tables import ABSENT, score, score_rows, score_table

SCORES = {
    "mean_dice": 0.8764,
    "mean_iou": None,
    "labels": {"liver": {"dice": 0.9, "iou": 0.81836}, "disc [L4/L5]": {"dice": None, "iou": None}},
    "cases": 12,
}


def printed(scores: dict) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(score_table(scores))
    return console.file.getvalue()


def test_rows_are_labels_in_order_and_last_the_mean():
    assert score_rows(json.loads(json.dumps(SCORES))) == [
        ("liver", "0.900", "0.818"),
        ("disc [L4/L5]", ABSENT, ABSENT),
        ("mean", "0.876", ABSENT),
    ]


def test_a_score_of_zero_is_not_absent():
    assert (score(0.0), score(1), score(None)) == ("0.000", "1.000", ABSENT)


def test_the_terminal_shows_every_number_and_names_with_brackets():
    lines = printed(SCORES).splitlines()
    assert lines[0].strip() == "Overlap with the reference over 12 cases"
    assert any("liver" in line and "0.900" in line and "0.818" in line for line in lines)
    assert any("disc [L4/L5]" in line for line in lines)
    assert any("mean" in line and "0.876" in line for line in lines)
    assert "over 1 case" in printed(SCORES | {"cases": 1})


def test_the_mapping_of_real_scores_fits():
    import numpy as np

    from voxelry.measure.scores import Scores

    confusions = np.array([[[50, 1], [2, 10]]], dtype=np.int64)
    rows = score_rows(Scores(("a",), ("liver",), confusions).to_dict())
    assert rows[0] == ("liver", f"{20 / 23:.3f}", f"{10 / 13:.3f}")
