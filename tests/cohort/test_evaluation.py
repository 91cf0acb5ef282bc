import json
import logging

import nibabel
import numpy as np
import polars as pl
import pytest

from helpers.command import refused, run
from voxelry.base.files import write_yaml
from voxelry.cohort.evaluation import evaluate_cohort, evaluate_pairs, summarise, write_scores
from voxelry.errors import GridMismatchError, UsageError
from voxelry.metrics.scores import Scores

FAMILIES = ("overlap", "rates", "surface", "instances")


def ball(centre, radius=4.0, shape=(20, 18, 16)):
    return np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - centre, axis=-1) <= radius


def mask(shift, label=1):
    array = np.zeros((20, 18, 16), np.uint8)
    array[ball((7 + shift, 8, 8))] = label
    array[ball((15, 14, 3), 2)] = 2
    return array


@pytest.fixture
def folders(tmp_path):
    for side, shift in (("ref", 0), ("pred", 1)):
        (tmp_path / side).mkdir()
        for case in range(3):
            image = nibabel.Nifti1Image(mask(shift * case), np.diag([1, 1, 2.0, 1]))
            nibabel.save(image, tmp_path / side / f"c{case}.nii.gz")
    return tmp_path / "ref", tmp_path / "pred"


def test_every_family_measures_every_case_and_label(folders):
    scores = evaluate_cohort(*folders, FAMILIES, workers=2)
    assert scores.cases == ("c0", "c1", "c2")
    assert scores.labels == ("label_1", "label_2")
    assert all(values.shape == (3, 2) for values in scores.values.values())
    perfect = {name: values[0, 0] for name, values in scores.values.items()}
    for name in ("dice", "iou", "precision", "recall", "nsd", "instance_pq", "instance_sensitivity", "dsb_ap50_95"):
        assert perfect[name] == 1
    for name in ("hd", "hd95", "assd", "fpr", "volume_error", "instance_fp", "instance_count_error"):
        assert perfect[name] == 0
    assert scores.measures["hd"][1, 0] == pytest.approx(1, abs=0.01)
    assert evaluate_cohort(*folders, FAMILIES, workers=1).rows() == scores.rows()


def test_a_label_in_neither_map_is_missing_in_every_metric_and_counted(folders):
    reference, prediction = folders
    for folder in folders:
        array = mask(0)
        array[array == 2] = 0
        nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 2.0, 1])), folder / "c0.nii.gz")
    scores = evaluate_cohort(reference, prediction, FAMILIES)
    summary = summarise(scores)
    for name, values in scores.values.items():
        assert np.isnan(values[0, 1]), name
        entry = summary["metrics"][name]["label_2"]
        assert (entry["n"], entry["missing"]) == (2, 1), name
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out"])
def test_rows_are_written_and_read_back(folders, tmp_path, name):
    scores = evaluate_cohort(*folders)
    returned = write_scores(scores, tmp_path / name)
    assert returned["mean_dice"] == scores.mean_dice
    file = tmp_path / name / "scores.csv" if name == "out" else tmp_path / name
    frame = pl.read_csv(file) if file.suffix == ".csv" else pl.read_parquet(file)
    assert frame.to_dicts() == scores.rows()
    if name == "out":
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary == json.loads(json.dumps(returned))
        write_scores(scores, tmp_path / name)
        (tmp_path / name / "mine.txt").write_text("keep")
        write_scores(scores, tmp_path / name)
        assert (tmp_path / name / "mine.txt").read_text() == "keep"
    before = file.read_bytes()
    with pytest.raises(UsageError, match="from other inputs"):
        write_scores(scores, tmp_path / name, [folders[0]])
    file.write_bytes(before + b"# mine")
    with pytest.raises(UsageError, match="changed"):
        write_scores(scores, tmp_path / name)
    assert file.read_bytes() == before + b"# mine"


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.json", "out/scores.csv", "out"])
def test_what_others_wrote_is_refused_before_scoring(folders, tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    refused(run("evaluate", *folders, "--out", tmp_path / name.partition("/")[0]), name)
    assert file.read_text() == "mine"


def test_a_bad_case_is_listed_and_the_others_go_on(folders, tmp_path):
    good = evaluate_cohort(*folders)
    nibabel.save(nibabel.Nifti1Image(mask(0), np.diag([1, 1, 3.0, 1])), folders[1] / "c1.nii.gz")
    scores = evaluate_cohort(*folders)
    assert scores.cases == tuple(case for case in good.cases if case != "c1")
    assert list(scores.failed) == ["c1"]
    assert "c1.nii.gz" in scores.to_dict()["failed"]["c1"]
    write_scores(scores, tmp_path / "s.json")
    assert "c1" in (tmp_path / "s.json").read_text()


def test_the_first_error_is_raised_where_no_case_can_be_scored(folders):
    for file in folders[1].iterdir():
        nibabel.save(nibabel.Nifti1Image(mask(0), np.diag([1, 1, 3.0, 1])), file)
    with pytest.raises(GridMismatchError, match="c0"):
        evaluate_cohort(*folders)


def test_bad_requests(folders):
    with pytest.raises(UsageError, match="surface"):
        evaluate_cohort(*folders, ("surfaces",))
    with pytest.raises(UsageError):
        evaluate_pairs([], workers=0)
    with pytest.raises(UsageError):
        evaluate_pairs([])


def test_merged_scores_keep_measures_and_groups():
    def part(case, labels, **measures):
        matrix = np.zeros((1, len(labels) + 1, len(labels) + 1), np.int64)
        return Scores((case,), labels, matrix, {name: np.array([values]) for name, values in measures.items()}, (f"p{case}",))

    merged = Scores.merge([part("1", ("a", "b"), nsd=[0.5, 0.6]), part("2", ("b",), nsd=[0.7], hd=[3.0])])
    np.testing.assert_array_equal(merged.measures["nsd"], [[0.5, 0.6], [np.nan, 0.7]])
    np.testing.assert_array_equal(merged.measures["hd"], [[np.nan, np.nan], [np.nan, 3]])
    assert merged.groups == ("p1", "p2")
    assert merged.rows()[3]["group"] == "p2"
    with pytest.raises(UsageError):
        Scores(("a",), ("b",), np.zeros((1, 2, 2), np.int64), {"hd": np.zeros((2, 1))})
    with pytest.raises(UsageError):
        Scores(("a",), ("b",), np.zeros((1, 2, 2), np.int64), groups=("x", "y"))


def card(folder, splits):
    """A manifest of the cases c0, c1... of `folders`, whose reference has the labels 1 and 2."""
    rows = [
        {"id": f"c{n}", "images": [f"ref/c{n}.nii.gz"], "labels": f"ref/c{n}.nii.gz", "split": split}
        for n, split in enumerate(splits)
    ]
    labels = [{"value": 1, "name": "big"}, {"value": 2, "name": "small"}]
    write_yaml(folder / "set.yaml", {"name": "s", "modality": "MR", "labels": labels, "cases": rows})
    return folder / "set.yaml"


@pytest.mark.parametrize(
    ("splits", "counted", "words"),
    [
        (
            ("train", "val", "train"),
            [1],
            "2 of 3 scored cases are of the split 'train' and left out of the means, which are of the",
        ),
        (("train", "test", "val"), [1, 2], "1 of 3 scored cases are of the split 'train'"),
        (("train", "train", "train"), [0, 1, 2], "all 3 scored cases are of the split 'train': unless each was held out"),
        (("val", "test", "val"), [0, 1, 2], ""),
    ],
)
def test_training_cases_of_a_manifest_are_scored_apart(folders, tmp_path, caplog, splits, counted, words):
    with caplog.at_level(logging.WARNING):
        scores = evaluate_cohort(card(tmp_path, splits), folders[1], ("overlap", "surface"))
    assert scores.splits == splits
    assert scores.mean_dice == pytest.approx(scores.dice[counted].mean())
    assert words in caplog.text
    assert bool(words) == bool(caplog.text)
    summary = summarise(scores)
    assert summary["metrics"]["hd95"]["big"]["n"] == summary["cases"] == len(counted)
    write_scores(scores, tmp_path / "scores.csv")
    assert pl.read_csv(tmp_path / "scores.csv")["split"].to_list()[::2] == list(splits)


@pytest.mark.parametrize(
    ("reference", "prediction", "shared"),
    [
        ((1,), (255,), False), ((255,), (1,), False), ((1, 2, 3), (10, 20, 30), False), ((1, 2), (128, 255), False),
        ((1,), (2,), False), ((1, 2), (1, 2), True), ((1, 2), (2, 3), False), ((1, 2), (2, 1), False),
        ((1,), (1, 255), True),
    ],
)  # fmt: skip
def test_masks_that_share_no_value_are_said(tmp_path, caplog, reference, prediction, shared):
    for side, values in (("ref", reference), ("pred", prediction)):
        array = np.zeros((8, 8, 8), np.uint8)
        for number, value in enumerate(values):
            array[1:7, 1:7, 2 * number : 2 * number + 2] = value
        (tmp_path / side).mkdir()
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / side / "a.nii.gz")
    with caplog.at_level(logging.WARNING):
        scores = evaluate_cohort(tmp_path / "ref", tmp_path / "pred")
    assert ("1 of 1 cases have no voxel of a label in common, so every overlap is 0: a (label_" in caplog.text) == (not shared)
    assert (scores.mean_dice == 0) == (not shared)
    if not shared and len(reference) == len(prediction):
        assert "As one foreground they overlap with a Dice of 1.000" in caplog.text
    assert ("in predictions but in no reference, so they score 0: label_255" in caplog.text) == (prediction == (1, 255))


def test_a_case_without_a_common_label_among_others_is_named(folders, caplog):
    nibabel.save(nibabel.Nifti1Image(mask(0) * 100, np.diag([1, 1, 2.0, 1])), folders[1] / "c1.nii.gz")
    with caplog.at_level(logging.WARNING):
        evaluate_cohort(*folders)
    assert "1 of 3 cases have no voxel of a label in common" in caplog.text
    assert "c1 (label_1, label_2 in the reference, label_100, label_200 in the prediction)" in caplog.text
    assert "c0" not in caplog.text
