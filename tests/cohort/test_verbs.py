"""`voxelry evaluate` and `voxelry compare` from files to tables."""

import json

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

import voxelry as vx
from voxelry.cli.main import app


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture
def folders(tmp_path):
    """A reference and two models, the second of which is a voxel off in every case."""
    for side, shift in (("ref", 0), ("one", 0), ("two", 1)):
        (tmp_path / side).mkdir()
        for case in range(6):
            array = np.zeros((12, 10, 8), np.uint8)
            array[2 + shift : 8 + shift, 2:8, 2:6] = 1
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 2.0, 1])), tmp_path / side / f"c{case}.nii.gz")
    return tmp_path


def test_two_models_from_masks_to_a_verdict(folders):
    for side in ("one", "two"):
        run("evaluate", folders / "ref", folders / side, "--metric", "surface", "--out", folders / f"{side}-scores")
    verdict = json.loads(run("compare", folders / "one-scores", folders / "two-scores", "--json").splitlines()[-1])
    rows = {row["metric"]: row for row in verdict["differences"]}
    assert {rows[name]["winner"] for name in ("dice", "iou", "hd95", "assd")} == {"A"}
    assert rows["dice"]["difference"] == pytest.approx(-1 / 6)
    assert rows["dice"]["p"] == pytest.approx(2 / 2**6)
    assert "| dice | label_1 | 1.000 | 0.833 |" in run(
        "compare", folders / "one-scores", folders / "two-scores", "--metric", "dice"
    )
    rows = vx.compare(vx.evaluate(folders / "ref", folders / "one"), folders / "two-scores", metrics=["dice"], test="wilcoxon")
    assert [row.winner for row in rows] == ["A"]


def test_tables_for_a_paper(folders):
    plain = run("evaluate", folders / "ref", folders / "two", "--table", "markdown")
    assert plain.splitlines()[-1].startswith("| label_1 | 0.833 (0.833, 0.833) |")
    assert r"\toprule" in run("evaluate", folders / "ref", folders / "two", "--metric", "instances", "--table", "latex")
    wrong = CliRunner().invoke(app, ["evaluate", str(folders / "ref"), str(folders / "two"), "--table", "html"])
    assert wrong.exit_code == 2
    assert "html" in wrong.stderr


def test_label_maps_take_every_family(folders):
    one, other = (vx.read_labels(folders / side / "c0.nii.gz") for side in ("ref", "two"))
    scores = vx.evaluate(one, other, metrics=("rates", "surface", "instances"))
    assert scores.measures["recall"][0, 0] == pytest.approx(5 / 6)
    assert scores.measures["instance_tp"][0, 0] == 1
    assert scores.measures["hd"][0, 0] == pytest.approx(1)
    with pytest.raises(vx.VoxelryError, match="surface"):
        vx.evaluate(one, other, metrics=("surfac",))
