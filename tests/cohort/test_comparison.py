import numpy as np
import pytest

from voxelry.cohort.comparison import compare_scores, read_scores
from voxelry.cohort.evaluation import write_scores
from voxelry.errors import CorruptFileError, MissingFileError, UsageError
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
