import io
import json

import pytest
from rich.console import Console

from voxelry.errors import UsageError
from voxelry.reports.tables import (
    ABSENT,
    comparison_table,
    measures_table,
    paper_table,
    score,
    score_rows,
    score_table,
    splits_table,
    text_table,
)

SCORES = {
    "mean_dice": 0.8764,
    "mean_iou": None,
    "labels": {"liver": {"dice": 0.9, "iou": 0.81836}, "disc [L4/L5]": {"dice": None, "iou": None}},
    "cases": 12,
}


def printed(scores: dict, table=score_table) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(table(scores))
    return console.file.getvalue()


def test_rows_are_labels_in_order_and_last_the_mean():
    assert score_rows(json.loads(json.dumps(SCORES))) == [
        ("liver", "0.900", "0.818"),
        ("disc [L4/L5]", ABSENT, ABSENT),
        ("mean", "0.876", ABSENT),
    ]


def test_a_score_of_zero_is_not_absent():
    assert (score(0.0), score(1), score(None), score(float("nan"))) == ("0.000", "1.000", ABSENT, ABSENT)


def test_the_terminal_shows_every_number_and_names_with_brackets():
    lines = printed(SCORES).splitlines()
    assert lines[0].strip() == "Overlap with the reference over 12 cases"
    assert any("liver" in line and "0.900" in line and "0.818" in line for line in lines)
    assert any("disc [L4/L5]" in line for line in lines)
    assert any("mean" in line and "0.876" in line for line in lines)
    assert "over 1 case" in printed(SCORES | {"cases": 1})


def test_the_mapping_of_real_scores_fits():
    import numpy as np

    from voxelry.metrics.scores import Scores

    confusions = np.array([[[50, 1], [2, 10]]], dtype=np.int64)
    rows = score_rows(Scores(("a",), ("liver",), confusions).to_dict())
    assert rows[0] == ("liver", f"{20 / 23:.3f}", f"{10 / 13:.3f}")


SUMMARY = {
    "metrics": {
        "dice": {"left_lung": {"mean": 0.9, "low": 0.85, "high": 0.95, "n": 9, "missing": 1}},
        "hd95": {"left_lung": {"mean": None, "low": None, "high": None, "n": 0, "missing": 10}},
    }
}


def test_a_paper_takes_markdown_and_latex():
    assert paper_table(SUMMARY).splitlines() == [
        "| label | dice | hd95 (mm) |",
        "| --- | ---: | ---: |",
        f"| left_lung | 0.900 (0.850, 0.950) (9 of 10) | {ABSENT} (0 of 10) |",
    ]
    assert paper_table(SUMMARY, "latex", ["dice"]).splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"label & dice \\",
        r"\midrule",
        r"left\_lung & 0.900 (0.850, 0.950) (9 of 10) \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    with pytest.raises(UsageError, match="html"):
        paper_table(SUMMARY, "html")
    with pytest.raises(UsageError, match="dice"):
        paper_table(SUMMARY, metrics=["dise"])


def test_special_characters_stay_text():
    assert text_table(["a"], [["x|y"]], "markdown").splitlines()[-1] == "| x\\|y |"
    assert text_table(["a"], [["50 % {~^}\\"]], "latex").splitlines()[4] == (
        r"50 \% \{\textasciitilde{}\textasciicircum{}\}\textbackslash{} \\"
    )


def test_differences_as_a_table():
    row = {
        "metric": "dice", "label": "lung", "mean_a": 0.8, "mean_b": 0.9, "difference": 0.1, "low": 0.05, "high": 0.15,
        "p": 0.0001, "p_corrected": 0.0002, "n": 12, "missing": 0, "winner": "B",
    }  # fmt: skip
    assert comparison_table([row]).splitlines()[-1] == "| dice | lung | 0.800 | 0.900 | 0.100 (0.050, 0.150) | < 0.001 | 12 | B |"
    assert "$<$ 0.001" in comparison_table([row], "latex")
    distance = comparison_table([row | {"metric": "hd95_px", "missing": 3}]).splitlines()[-1]
    assert distance.startswith("| hd95_px (px) | lung |")
    assert "| 12 of 15 |" in distance
    unknown = row | {"p_corrected": None, "mean_a": None}
    assert comparison_table([unknown]).count(ABSENT) == 2


def test_other_metrics_have_a_table_of_their_own():
    plain = {
        "cases": 5,
        "labels": {
            "a": {"dice": 1.0, "iou": 1.0, "hd95": 1.25, "nsd": 1.0, "cases": 5, "missing": {"hd95": 2}},
            "b": {"dice": 0.5, "iou": 0.4, "hd95": None, "nsd": 0.5, "cases": 4, "missing": {"dice": 1, "hd95": 5}},
        },
    }
    table = measures_table(plain)
    assert [column.header for column in table.columns] == ["metric", "a", "b"]
    assert [list(column.cells) for column in table.columns] == [
        ["hd95 (mm)", "nsd"],
        ["1.250 (3 of 5)", "1.000"],
        [f"{ABSENT} (0 of 5)", "0.500"],
    ]
    assert "cases that have a score" in table.caption
    for label in plain["labels"].values():
        label["missing"] = {}
    assert measures_table(plain).caption is None
    assert measures_table({"cases": 2, "labels": {"a": {"dice": 1.0, "iou": 1.0, "cases": 2, "missing": {}}}}) is None


def test_splits_are_shown_apart_and_training_cases_are_said_to_be_in_no_mean():
    means = {"mean_dice": 0.5, "mean_iou": None}
    scores = SCORES | {
        "cases": 3,
        "splits": {"train": {"cases": 7, **means}, "val": {"cases": 1, **means}, "test": {"cases": 2, **means}},
    }
    assert "over 3 cases (1 val, 2 test)" in printed(scores)
    lines = printed(scores, splits_table).splitlines()
    assert any(
        "train (not in the means above)" in line and " 7 " in line and "0.500" in line and ABSENT in line for line in lines
    )
    assert sum("not in the means" in line for line in lines) == 1
    alone = SCORES | {"splits": {"train": {"cases": 12, **means}}}
    assert "over 12 cases (12 train)" in printed(alone)
    assert splits_table(alone) is None
    assert splits_table(SCORES) is None
