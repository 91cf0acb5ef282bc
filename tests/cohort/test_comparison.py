import json
import logging

import numpy as np
import polars as pl
import pytest

from voxelry.cohort.comparison import compare_scores, read_scores
from voxelry.cohort.evaluation import write_scores
from voxelry.errors import CorruptFileError, MissingFileError, UsageError
from voxelry.metrics.metric_table import FAMILIES
from voxelry.metrics.scores import Scores

CASES = tuple(f"{n:03}" for n in range(10))


def scores(overlap, hd95=None, cases=CASES):
    """Label `a` has 100 voxels in both maps and shares so many; `b` is in no map."""
    matrices = np.zeros((len(cases), 3, 3), np.int64)
    for matrix, shared in zip(matrices, np.broadcast_to(overlap, len(cases)), strict=True):
        matrix[0, 1] = matrix[1, 0] = 100 - shared
        matrix[1, 1] = shared
    measures = (
        {} if hd95 is None else {"hd95": np.stack([np.broadcast_to(hd95, len(cases)), np.full(len(cases), np.nan)], axis=1)}
    )
    return Scores(cases, ("a", "b"), matrices, measures)


def row(rows, metric, label):
    return next(one for one in rows if (one.metric, one.label) == (metric, label))


def test_the_better_model_wins_where_it_is_better():
    worse, better = scores(np.arange(70, 80), np.arange(10.0)), scores(np.arange(75, 85), np.arange(10.0) + 2)
    rows = compare_scores(worse, better)
    dice, distance, absent = row(rows, "dice", "a"), row(rows, "hd95", "a"), row(rows, "dice", "b")
    assert (dice.winner, distance.winner, absent.winner) == ("B", "A", "neither")
    assert dice.difference == pytest.approx(0.05)
    assert dice.mean_a == pytest.approx(0.745)
    assert dice.p == dice.p_corrected == pytest.approx(2 / 2**10)
    assert (dice.low, dice.high) == pytest.approx((0.05, 0.05))
    assert (absent.mean_a, absent.p, absent.n, absent.missing) == (None, None, 0, 10)
    assert row(compare_scores(worse, better, ("dice",), "wilcoxon"), "dice", "a").winner == "B"


def test_a_model_does_not_beat_itself():
    same = scores(np.arange(70, 80))
    assert {one.winner for one in compare_scores(same, same)} == {"neither"}
    assert row(compare_scores(same, same), "dice", "a").p == 1


def test_cases_are_paired_by_name_whatever_their_order():
    one, other = scores(np.arange(70, 80)), scores(np.arange(70, 80)[::-1], cases=CASES[::-1])
    assert row(compare_scores(one, other), "dice", "a").difference == 0


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.json", "folder"])
def test_files_give_what_scores_give(tmp_path, name):
    one, other = scores(np.arange(70, 80)), scores(np.arange(75, 85))
    write_scores(one, tmp_path / name)
    assert compare_scores(tmp_path / name, other) == compare_scores(one, other)
    assert read_scores(tmp_path / name)["case"].to_list()[::2] == list(CASES)


def test_bad_input(tmp_path):
    one = scores(90)
    with pytest.raises(UsageError, match="nsd"):
        compare_scores(one, one, ("nsd",))
    with pytest.raises(UsageError, match="wilcoxon"):
        compare_scores(one, one, test="wilcoxn")
    with pytest.raises(UsageError, match="common"):
        compare_scores(one, scores(90, cases=tuple("abcdefghij")))
    with pytest.raises(MissingFileError):
        compare_scores(one, tmp_path / "none.csv")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    (tmp_path / "x.parquet").write_text("no")
    for name in ("x.csv", "x.parquet"):
        with pytest.raises(CorruptFileError):
            compare_scores(one, tmp_path / name)


@pytest.mark.parametrize("metric", [metric for family in FAMILIES.values() for metric in family.metrics], ids=lambda m: m.name)
@pytest.mark.parametrize("test", ["permutation", "wilcoxon"])
def test_the_side_with_the_better_values_wins_in_every_metric_of_the_table(tmp_path, metric, test):
    table = pl.DataFrame({"case": CASES, "label": ["x"] * 10})
    low, high = np.linspace(0.1, 0.2, 10), np.linspace(0.5, 0.7, 10)
    table.with_columns(pl.Series(metric.name, low)).write_csv(tmp_path / "low.csv")
    table.with_columns(pl.Series(metric.name, high)).write_csv(tmp_path / "high.csv")
    better, worse = ("high", "low") if metric.better == "higher" else ("low", "high")
    rows = compare_scores(tmp_path / f"{better}.csv", tmp_path / f"{worse}.csv", test=test)
    assert [(row.metric, row.winner) for row in rows] == [(metric.name, "A")]
    assert compare_scores(tmp_path / f"{worse}.csv", tmp_path / f"{better}.csv", test=test)[0].winner == "B"


def test_no_model_wins_in_a_column_whose_direction_nobody_knows(tmp_path):
    for name, step in (("a", 0), ("b", 1)):
        pl.DataFrame(
            {"case": CASES, "label": ["x"] * 10, "dice": [0.5] * 10, "seconds": np.arange(10) + step, "site": ["north"] * 10}
        ).write_csv(tmp_path / f"{name}.csv")
    rows = compare_scores(tmp_path / "a.csv", tmp_path / "b.csv")
    assert [(one.metric, one.winner) for one in rows] == [("dice", "neither"), ("seconds", "unknown")]
    assert rows[1].p_corrected < 0.05


@pytest.mark.parametrize("labels", [("1", "2"), ("01", "1"), ("1.0", "2"), ("-1", "1e3"), ("true", "null"), ("nan", "inf")])
@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet", "scores.json"])
def test_names_that_look_like_numbers_are_names(tmp_path, labels, name):
    one, other = (Scores(CASES, labels, side.confusions) for side in (scores(np.arange(70, 80)), scores(np.arange(75, 85))))
    for side, folder in ((one, "a"), (other, "b")):
        write_scores(side, tmp_path / f"{folder}_{name}")
    rows = compare_scores(tmp_path / f"a_{name}", tmp_path / f"b_{name}", ["dice"])
    assert [(one.label, one.winner) for one in rows] == [(labels[0], "B"), (labels[1], "neither")]


def test_labels_stored_as_numbers_meet_labels_stored_as_text(tmp_path):
    columns = {"case": list(range(10)), "label": [1] * 10, "dice": np.linspace(0.5, 0.6, 10)}
    pl.DataFrame(columns).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame(columns).write_csv(tmp_path / "b.csv")
    (tmp_path / "c.json").write_text(
        json.dumps({"rows": [dict(zip(columns, row, strict=True)) for row in pl.DataFrame(columns).rows()]})
    )
    for other in ("b.csv", "c.json"):
        assert [(row.label, row.n) for row in compare_scores(tmp_path / "a.parquet", tmp_path / other)] == [("1", 10)]


def test_a_metric_that_starts_with_missing_or_whole_numbers_is_a_number(tmp_path):
    for name, first in (("a", ""), ("b", "1")):
        lines = [f"c{n},x,{first if n < 150 else 0.5}" for n in range(200)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["case,label,hd95", *lines]))
    (row,) = compare_scores(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (row.n, row.missing, row.difference) == (50, 150, 0)


def test_what_is_not_compared_is_said(caplog):
    one = scores(90, cases=CASES)
    other = Scores((*CASES[2:], "x"), ("a", "c"), scores(80, cases=CASES[:9]).confusions)
    with caplog.at_level(logging.WARNING):
        assert {row.n for row in compare_scores(one, other, ["dice"])} == {8}
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 10 cases are in A alone and not compared: 000, 001",
        "1 of 9 cases are in B alone and not compared: x",
        "1 of 2 labels are in A alone and not compared: b",
        "1 of 2 labels are in B alone and not compared: c",
    ]


@pytest.mark.parametrize("splits", [("train",) * 4 + ("val",) * 6, ("train",) * 10, ("test",) * 10, ()])
def test_training_cases_are_left_out_where_there_are_others(tmp_path, caplog, splits):
    one, other = (Scores(side.cases, side.labels, side.confusions, splits=splits) for side in (scores(90), scores(80)))
    write_scores(one, tmp_path / "a.csv")
    with caplog.at_level(logging.WARNING):
        assert row(compare_scores(tmp_path / "a.csv", other), "dice", "a").n == (6 if len(set(splits)) == 2 else 10)
    assert ("4 cases of the split 'train' are left out" in caplog.text) == (len(set(splits)) == 2)


def test_tables_that_contradict_themselves_are_refused(tmp_path):
    one = scores(90)
    (tmp_path / "text.csv").write_text("case,label,dice\n001,a,good\n")
    with pytest.raises(CorruptFileError, match=r"text\.csv: dice is 'good', which is no number"):
        compare_scores(one, tmp_path / "text.csv")
    (tmp_path / "twice.csv").write_text("case,label,dice\n001,a,1\n001,a,0\n")
    with pytest.raises(CorruptFileError, match=r"twice\.csv: case '001' has label 'a' twice"):
        compare_scores(one, tmp_path / "twice.csv")
    (tmp_path / "lists.json").write_text('{"rows": [{"case": "a", "label": "x", "dice": [1, 2]}]}')
    with pytest.raises(CorruptFileError, match=r"lists\.json: holds no table"):
        compare_scores(one, tmp_path / "lists.json")
