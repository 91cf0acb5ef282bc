"""Pages that runs leave by themselves: what is in them, that they are the same twice, that no fault of theirs costs a result."""

import json
import shutil

import numpy as np
import pytest

import voxelry as vx
from helpers.command import run
from helpers.page_cases import page_cases, voxels
from voxelry.cohort.evaluation import write_scores
from voxelry.errors import UsageError
from voxelry.reports import run_report


@pytest.fixture(scope="module")
def masks(torso, torso_model, tmp_path_factory):
    """The masks of all scans, as `predict` leaves them."""
    out = tmp_path_factory.mktemp("predicted") / "masks"
    vx.predict(torso_model, torso / "images", out, device="cpu", workers=0)
    return out


def test_training_leaves_curves_scores_settings_card_and_its_predictions(torso_model):
    page = torso_model.parent / "report.html"
    html = page.read_text(encoding="utf-8")
    for text in (
        "Learning curves",
        "Training loss",
        "Model card",
        "For research use only",
        "recipe.yaml",
        "steps: 10",
        "torso_002",
    ):
        assert text in html
    shown = page_cases(page)["torso_002"]
    numbers = {label["name"]: label["value"] for label in shown["labels"]}
    prediction, reference = voxels(shown["prediction"]), voxels(shown["reference"])
    rows = json.loads((torso_model.parent / "validation.json").read_text())["rows"]
    scored = {row["label"]: row["dice"] for row in rows if row["dice"] is not None}
    assert scored
    for label, dice in scored.items():  # what is drawn is what was scored, clean-up rules and all
        ours, truth = prediction == numbers[label], reference == numbers[label]
        assert 2 * (ours & truth).sum() / (ours.sum() + truth.sum()) == pytest.approx(dice)


def test_predicting_leaves_doubts_sizes_settings_and_the_model_card(torso, torso_model, masks):
    html = (masks / "report.html").read_text(encoding="utf-8")
    for text in ("4 scans: 4 done.", "doubt", "Volume (ml)", "overlap:", "Model card", ">Scores</h4>"):
        assert text in html
    shown = page_cases(masks / "report.html")
    assert sorted(shown) == [f"torso_{number:03d}" for number in range(4)]
    scan = vx.read(torso / "images" / "torso_003")
    np.testing.assert_array_equal(voxels(shown["torso_003"]["scan"]), scan.array[0])
    labels = vx.read_labels(masks / "torso_003.nii.gz")
    assert (voxels(shown["torso_003"]["prediction"]) > 0).sum() == (labels.array > 0).sum()


def test_the_page_of_the_same_run_is_the_same_and_counts_as_no_output(torso, torso_model, masks):
    files = [masks / "report.html", *sorted((masks / "report_cases").iterdir())]
    before = [file.read_bytes() for file in files]
    vx.predict(torso_model, torso / "images", masks, device="cpu", workers=0)
    assert [file.read_bytes() for file in files] == before
    assert "report" not in (masks / "voxelry-run.json").read_text()
    assert vx.evaluate(torso / "labels", masks).cases == tuple(f"torso_{number:03d}" for number in range(4))


def test_scoring_leaves_doubts_and_scans_of_the_run_that_made_the_masks(torso, masks, tmp_path):
    result = run("evaluate", torso / "labels", masks, "--metric", "instances", "--out", tmp_path / "scores")
    assert result.exit_code == 0
    assert "report.html" in result.stderr
    html = (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")
    for text in ("Of all cases taken together", "Worst", "doubt", "Model card", "tolerance", "Dice of liver"):
        assert text in html
    shown = page_cases(tmp_path / "scores" / "report.html")
    assert all({"scan", "prediction", "reference", "errors"} <= set(case) for case in shown.values())
    assert voxels(shown["torso_000"]["scan"]).any()  # not on black


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet", "scores.json"])
def test_scores_in_a_file_have_their_page_beside_it(torso, masks, tmp_path, name):
    (tmp_path / "labels").mkdir()
    for file in (torso / "labels").glob("torso_00[01]*"):
        shutil.copy(file, tmp_path / "labels")
    (tmp_path / "labels" / "torso_001.nii.gz").write_bytes(b"broken")
    out = tmp_path / "results" / name
    result = run("evaluate", tmp_path / "labels", masks, "--metric", "instances", "--out", out)
    assert f"Open {out.with_suffix('.html')}" in result.stderr.replace("\n", "")
    html = out.with_suffix(".html").read_text(encoding="utf-8")
    for text in ("Of all cases taken together", "tolerance", "Dice of liver", "torso_001", "which is no image format"):
        assert text in html
    shown = page_cases(out.with_suffix(".html"))
    assert {"scan", "prediction", "reference", "errors"} <= set(shown["torso_000"])
    assert voxels(shown["torso_000"]["scan"]).any()


def test_two_models_are_compared_with_both_predictions(torso, masks, tmp_path):
    for name, folder in (("a", masks), ("b", torso / "labels")):
        write_scores(vx.evaluate(torso / "manifest.yaml", folder), tmp_path / name, [torso / "manifest.yaml", folder])
    result = run("compare", tmp_path / "a", tmp_path / "b", "--metric", "dice", "--report", tmp_path / "page" / "c.html")
    assert result.exit_code == 0
    html = (tmp_path / "page" / "c.html").read_text(encoding="utf-8")
    for text in ("B - A of dice", "Largest gain", "Errors of B", "permutation"):
        assert text in html
    case = next(iter(page_cases(tmp_path / "page" / "c.html").values()))
    assert voxels(case["scan"]).any()
    assert not voxels(case["other_errors"]).any()  # B is the reference itself
    np.testing.assert_array_equal(voxels(case["other"]), voxels(case["reference"]))
    (tmp_path / "page" / "c.html").write_text("mine")
    with pytest.raises(UsageError, match="changed"):
        vx.compare(tmp_path / "a", tmp_path / "b", report=tmp_path / "page" / "c.html")
    with pytest.raises(UsageError, match="in no file"):
        vx.compare(vx.evaluate(masks, masks), tmp_path / "b", report=tmp_path / "d.html")


def test_a_fault_of_the_page_is_a_warning_and_costs_no_result(torso, torso_model, tmp_path, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("a fault")

    monkeypatch.setattr(run_report, "_html", broken)
    [outcome] = vx.predict(torso_model, torso / "images" / "torso_003", tmp_path / "masks", device="cpu")
    assert not outcome.error
    assert outcome.files["nifti"].is_file()
    assert "no page was written (a fault)" in caplog.text


def test_what_is_no_page_of_ours_stays(torso, masks, tmp_path, caplog):
    shutil.copytree(masks, tmp_path / "masks")
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "report.html").write_text("mine")
    assert run("evaluate", torso / "labels", tmp_path / "masks", "--out", tmp_path / "scores").exit_code == 0
    assert (tmp_path / "scores" / "report.html").read_text() == "mine"
    assert (tmp_path / "scores" / "summary.json").is_file()
    assert "no page was written" in caplog.text


def test_a_large_cohort_lists_its_most_doubtful_cases(monkeypatch, tmp_path, masks):
    monkeypatch.setattr(run_report, "_MOST_ROWS", 3)
    html = vx.report(masks, out=tmp_path / "page.html", cases=0).read_text(encoding="utf-8")
    assert "Of 4 cases with a result the first 3 are listed" in html
    assert html.count('<tr><td class="text">torso_') == 3
