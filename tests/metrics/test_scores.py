import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxelry.errors import UsageError
from voxelry.metrics.overlap import confusion
from voxelry.metrics.scores import Scores

MATRICES = st.integers(1, 4).flatmap(lambda n: hnp.arrays(np.int64, (n, 4, 4), elements=st.integers(0, 3)))


def scores_of(pairs, labels):
    matrices = [confusion(np.array(r), np.array(p), len(labels) + 1) for r, p in pairs]
    return Scores(tuple(f"c{i}" for i in range(len(pairs))), labels, np.array(matrices))


def named(matrices):
    return Scores(tuple(f"c{i}" for i in range(len(matrices))), ("a", "b", "c"), matrices)


def foreground_mean(matrices, metric):
    """nnU-Net's: tp, fp, fn of each case and label; mean over cases without NaN; mean over labels."""
    means = []
    for k in range(1, matrices.shape[1]):
        values = []
        for matrix in matrices:
            tp, fp, fn = matrix[k, k], matrix[:, k].sum() - matrix[k, k], matrix[k].sum() - matrix[k, k]
            if tp + fp + fn:
                values.append(2 * tp / (2 * tp + fp + fn) if metric == "dice" else tp / (tp + fp + fn))
        if values:
            means.append(sum(values) / len(values))
    return sum(means) / len(means) if means else math.nan


@given(MATRICES)
def test_means_are_nnunets_foreground_mean(matrices):
    scores = named(matrices)
    assert scores.mean_dice == pytest.approx(foreground_mean(matrices, "dice"), abs=1e-12, nan_ok=True)
    assert scores.mean_iou == pytest.approx(foreground_mean(matrices, "iou"), abs=1e-12, nan_ok=True)


@given(MATRICES)
def test_merge_of_single_cases_is_the_set(matrices):
    whole = named(matrices)
    parts = [Scores((case,), whole.labels, whole.confusions[i : i + 1]) for i, case in enumerate(whole.cases)]
    merged = Scores.merge(parts)
    assert merged.cases == whole.cases
    assert merged.to_dict() == whole.to_dict()


@given(MATRICES)
def test_the_summary_is_json(matrices):
    scores = named(matrices)
    summary = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    json.dumps(scores.rows(), allow_nan=False)
    assert summary["cases"] == len(matrices)
    assert list(summary["labels"]) == ["a", "b", "c"]
    assert summary["missing"] == sum(row["dice"] is None for row in scores.rows())


def test_a_hand_counted_set():
    scores = scores_of([([0, 1, 1, 2], [0, 1, 0, 2]), ([0, 0, 1, 0], [0, 0, 1, 1]), ([0, 0, 0, 0], [0, 2, 0, 0])], ("a", "b"))
    np.testing.assert_allclose(scores.dice, [[2 / 3, 1], [2 / 3, np.nan], [np.nan, 0]])
    np.testing.assert_allclose(scores.iou, [[1 / 2, 1], [1 / 2, np.nan], [np.nan, 0]])
    assert scores.missing == 2
    assert scores.mean_dice == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.mean_iou == pytest.approx((1 / 2 + 1 / 2) / 2)
    np.testing.assert_allclose(scores.case_mean_iou, [3 / 4, 1 / 2, 0])
    assert scores.pooled_mean_iou == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert scores.pooled_mean_iou_with_background == pytest.approx((2 / 4 + 1 / 2 + 6 / 9) / 3)
    assert scores.per_label["a"] == {
        "dice": pytest.approx(2 / 3),
        "iou": pytest.approx(1 / 2),
        "cases": 2,
        "missing": {"dice": 1, "iou": 1},
    }
    assert scores.reference_voxels.tolist() == [[2, 1], [1, 0], [0, 0]]
    assert scores.prediction_voxels.tolist() == [[1, 1], [2, 0], [0, 1]]
    assert scores.rows()[3] == {
        "case": "c1", "label": "b", "dice": None, "iou": None, "reference_voxels": 0, "prediction_voxels": 0,
    }  # fmt: skip


@given(MATRICES)
def test_regions_are_scored_as_if_their_labels_were_one(matrices):
    parts = {"all": ("a", "b", "c"), "two": ("c", "b"), "one": ("b",)}
    found = named(matrices).region_dice(parts)
    for name, labels in parts.items():
        member = np.array([False, *(label in labels for label in "abc")]).astype(int)
        joined = np.stack([np.stack([[m[member == i][:, member == j].sum() for j in (0, 1)] for i in (0, 1)]) for m in matrices])
        alone = Scores(tuple(map(str, range(len(joined)))), (name,), joined).mean_dice
        assert found[name] == (None if math.isnan(alone) else pytest.approx(alone))


def test_a_label_that_never_occurs_leaves_the_mean_alone():
    scores = scores_of([([0, 1], [0, 1])], ("a", "never"))
    assert scores.mean_dice == 1.0
    assert scores.pooled_mean_iou == 1.0
    assert scores.to_dict()["labels"]["never"] == {
        "dice": None,
        "iou": None,
        "cases": 0,
        "missing": {"dice": 1, "iou": 1},
    }


def test_only_background_gives_no_score_rather_than_a_perfect_one():
    scores = scores_of([([0, 0], [0, 0])], ("a",))
    assert math.isnan(scores.mean_dice)
    assert math.isnan(scores.pooled_mean_iou)
    assert scores.pooled_mean_iou_with_background == 1.0
    assert math.isnan(scores.case_mean_iou[0])
    assert scores.to_dict()["mean_dice"] is None


def test_merge_matches_labels_by_name():
    one = scores_of([([0, 1, 2], [0, 1, 2])], ("a", "b"))
    other = scores_of([([0, 1, 2], [0, 1, 1])], ("b", "c"))
    merged = Scores.merge([one, other])
    assert merged.labels == ("a", "b", "c")
    np.testing.assert_allclose(merged.dice, [[1, 1, np.nan], [np.nan, 2 / 3, 0]])


def test_refusals():
    with pytest.raises(UsageError, match="no scores"):
        Scores.merge([])
    with pytest.raises(UsageError, match=r"\(1, 2, 2\)"):
        Scores(("a",), ("x",), np.zeros((1, 3, 3), dtype=np.int64))
    with pytest.raises(UsageError, match="2 splits for 1 cases"):
        Scores(("a",), ("x",), np.zeros((1, 2, 2), dtype=np.int64), splits=("val", "val"))


@given(MATRICES, st.data())
def test_training_cases_enter_no_mean_where_others_were_scored(matrices, data):
    splits = tuple(data.draw(st.lists(st.sampled_from(["train", "val", "test", "unused"]), min_size=len(matrices))))[
        : len(matrices)
    ]
    measures = {"hd95": np.where(matrices[:, 1:, 1:].sum(2) > 3, np.nan, matrices[:, 1:, 0] * 1.5)}
    pooled = Scores(tuple(f"c{i}" for i in range(len(matrices))), ("a", "b", "c"), matrices, measures)
    scores = Scores(pooled.cases, pooled.labels, matrices, measures, splits=splits)
    counted = [split != "train" for split in splits] if set(splits) - {"train"} else [True] * len(splits)
    expected = Scores(
        tuple(np.array(pooled.cases)[counted].tolist()), pooled.labels, matrices[counted], {"hd95": measures["hd95"][counted]}
    )
    summary = scores.to_dict()
    assert {name: value for name, value in summary.items() if name != "splits"} == expected.to_dict()
    assert scores.region_dice({"ab": ("a", "b")}) == expected.region_dice({"ab": ("a", "b")})
    assert summary["splits"].keys() == set(splits)
    assert sum(entry["cases"] for entry in summary["splits"].values()) == len(matrices)
    for name, entry in summary["splits"].items():
        own = [split == name for split in splits]
        assert (
            entry["mean_dice"]
            == Scores(tuple(np.array(pooled.cases)[own].tolist()), pooled.labels, matrices[own]).to_dict()["mean_dice"]
        )
    assert [row["split"] for row in scores.rows()[::3]] == list(splits)  # every case has its rows
    assert Scores.merge([scores, scores]).splits == splits * 2
