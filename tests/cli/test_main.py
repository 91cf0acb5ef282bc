"""The command line: names, exit codes, streams and JSON; what users get wrong is in test_cli_mistakes.py."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

import voxelry
from helpers.command import HERE, refused, run, run_json, save, text_file, tree
from voxelry.base.files import read_yaml
from voxelry.cli import main as cli
from voxelry.core.plan import Plan
from voxelry.planning.plan_file import load_plan, save_plan

COMMANDS = {
    "check": ["MANIFEST", "--root", "--report", "--json"],
    "convert": [
        "MASK",
        "OUT",
        "--reference",
        "--format",
        "--labels",
        "--series",
        "--repair",
        "--threshold",
        "--set",
        "--json",
    ],
    "compress": ["MODEL", "--out", "--recipe", "--set", "--time-budget", "--resume", "--root", "--json"],
    "demo": ["--out", "--manifest", "--root", "--time-budget", "--json"],
    "compare": ["A", "B", "--metric", "--test", "--report", "--table", "--json"],
    "evaluate": ["REFERENCE", "PREDICTION", "--metric", "--tolerance", "--out", "--regions", "--table", "--root", "--json"],
    "inspect": ["PATH", "--names", "--json"],
    "report": ["RUN", "OTHER", "--data", "--root", "--masks", "--out", "--cases", "--embed", "--json"],
    "plan": ["MANIFEST", "--out", "--vram", "--configuration", "--network", "--preset", "--root", "--device", "--json"],
    "predict": [
        "MODEL",
        "INPUTS",
        "--out",
        "--format",
        "--task",
        "--series",
        "--repair",
        "--with",
        "--average",
        "--memory",
        "--device-memory",
        "--overlap",
        "--flips",
        "--roi",
        "--confidence",
        "--backend",
        "--network",
        "--workers",
        "--time-limit",
        "--cluster",
        "--device",
        "--json",
    ],
    "qc": ["FOLDER", "--out", "--json"],
    "status": ["FOLDER", "--export", "--json"],
    "train": [
        "CONFIG",
        "--out",
        "--set",
        "--epochs",
        "--time-budget",
        "--folds",
        "--fold",
        "--plan",
        "--from",
        "--resume",
        "--dry-run",
        "--root",
        "--json",
    ],
    "version": ["--json"],
}
"""Command -> its arguments and options, which stay as they are. A new command needs no line here until it is published."""
FUNCTIONS = {"export": "export_model", "import": "import_model"}
"""Command -> its function, where that has another name: `import` is a word of Python's, and both are about models."""
SCORE_KEYS = {"mean_dice", "mean_iou", "labels", "cases", "out"}
PROGRAM = Path(sys.executable).with_name("voxelry")


def test_commands_and_options_are_frozen():
    commands = typer.main.get_command(cli.app).commands
    found = {
        name: [
            p.name.upper() if p.param_type_name == "argument" else p.opts[-1]
            for p in command.params
            if p.name != "help" and not getattr(p, "hidden", False)
        ]
        for name, command in commands.items()
    }
    assert {name: found[name] for name in COMMANDS} == COMMANDS
    assert {FUNCTIONS.get(name, name.replace("-", "_")) for name in found} <= set(voxelry.__all__)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_explains_itself(verb):
    result = run(verb, "--help")
    assert result.exit_code == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
    assert all(option in text for option in COMMANDS[verb] if option.startswith("--"))


def test_help_loads_nothing_heavy():
    code = """
import sys
from voxelry.cli.main import main
sys.argv = ["voxelry", "--help"]
try:
    main()
except SystemExit:
    pass
heavy = {"torch", "monai", "pydicom", "nibabel", "numpy", "pydantic"} & set(sys.modules)
sys.exit(" ".join(heavy) if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout


def test_the_version():
    assert run("version").stdout.strip() == voxelry.__version__
    assert run_json("version") == {"version": voxelry.__version__}


def test_wrong_usage_has_exit_code_2():
    for arguments in ([], ["trane"], ["train"], ["train", "x", "--no-such"], ["predict", "m", "--out", "o"]):
        assert run(*arguments).exit_code == 2


# What goes right: the last line of standard output


def test_inspect(torso):
    row = run_json("inspect", torso / "images" / "torso_000")["found"][0]
    assert row["path"] == str(torso / "images" / "torso_000")
    assert (row["format"], row["modality"], row["readable"], row["shape"]) == ("dicom", "CT", True, [1, 24, 20, 12])
    assert "CT" in run("inspect", torso / "images").stdout


def test_check(torso):
    found = run_json("check", torso / "manifest.yaml")
    assert found | {"objects": {}} == {
        "cases": 4, "usable": 4, "errors": 0, "problems": [], "objects": {},
        "instances": "connected parts",
    }  # fmt: skip
    assert found["objects"]["liver_lesion"]["total"] >= 4
    lines = run("check", torso / "manifest.yaml").output.splitlines()
    *progress, first, second = lines
    assert [line.partition(":")[0] for line in progress] in ([], ["checking"])
    assert first == "Every case can be used: 4 cases (2 train, 1 val, 1 test)"
    assert second.startswith("liver_lesion: ")
    assert second.endswith("; told apart by connected parts")


def test_check_counts_what_cannot_be_used(torso, tmp_path):
    (tmp_path / "bad.nii.gz").write_text("no scan")
    card = yaml.safe_load((torso / "manifest.yaml").read_text()) | {"cases": [{"id": "bad", "images": ["bad.nii.gz"]}]}
    (tmp_path / "set.yaml").write_text(yaml.safe_dump(card))
    result = run("check", tmp_path / "set.yaml")
    assert result.exit_code == 1
    assert "0 of 1 cases can be read (1 in no split)\n1 errors, 1 notes\n" in result.output
    (tmp_path / "set.yaml").write_text(yaml.safe_dump(card | {"cases": []}))
    result = run("check", tmp_path / "set.yaml")
    assert result.exit_code == 1
    assert result.output.startswith("error: the card lists no cases. Add `cases`")
    assert "Every case" not in result.output


def test_plan(torso):
    content = run_json("plan", torso / "manifest.yaml")
    assert content["fingerprint"]["cases"] == 2
    assert content["plan"]["dimensions"] == 3
    assert "patch_size" in run("plan", torso / "manifest.yaml").stdout


def test_plan_for_a_gpu_as_a_file_to_edit(torso, tmp_path):
    file = tmp_path / "plan.yaml"
    content = run_json("plan", torso / "manifest.yaml", "--vram", "8GB", "--configuration", "2d", "--out", file)
    assert content["plan"]["configuration"] == "2d"
    assert load_plan(file) == Plan(**content["plan"])
    assert "a GPU of 8 GB" in file.read_text()
    resenc = run_json("plan", torso / "manifest.yaml", "--device", "cuda", "--network", "resenc", "--preset", "L")["plan"]
    assert resenc["network"]["blocks"][:3] == [1, 3, 4]


def test_train_predict_evaluate(torso, torso_model, tmp_path):
    masks = tmp_path / "masks"
    done = run_json("predict", torso_model, torso / "images", "--out", masks, "--format", "nifti", "--format", "dicom-seg")
    assert (done["cases"], done["failed"], done["out"]) == (4, {}, str(masks))
    assert done["files"]["torso_003"] == {
        "nifti": str(masks / "torso_003.nii.gz"),
        "dicom-seg": str(masks / "torso_003.seg.dcm"),
    }
    again = run("predict", torso_model, torso / "images", "--out", masks, "--format", "nifti", "--format", "dicom-seg")
    assert "4 scans, 4 done by an earlier run: 0 to segment" in again.stderr
    assert "4 of 4 scans segmented" in again.stderr
    state = run_json("status", masks, "--export", tmp_path / "cases.csv")
    assert state["counts"] == {"ready": 0, "running": 0, "done": 4, "failed": 0}
    assert "torso_003" in (tmp_path / "cases.csv").read_text()
    assert "done" in run("status", masks).stdout
    reviewed = run_json("qc", masks, "--out", tmp_path / "review")
    assert sorted(case["case"] for case in reviewed["cases"]) == [f"torso_{number:03d}" for number in range(4)]
    assert {"review.csv", "sheet_001.png"} == {file.name for file in (tmp_path / "review").iterdir()}
    scores = run_json("evaluate", torso / "labels", masks, "--out", tmp_path / "scores.json")
    assert scores.keys() >= SCORE_KEYS
    assert (scores["cases"], scores["out"]) == (4, str(tmp_path / "scores.json"))
    assert set(scores["labels"]) == {label["name"] for label in read_yaml(torso / "manifest.yaml")["labels"]}
    assert all(set(values) >= {"dice", "iou"} for values in scores["labels"].values())
    rows = json.loads((tmp_path / "scores.json").read_text())["rows"]
    assert {row["case"] for row in rows} == {f"torso_00{n}" for n in range(4)}
    assert "mean" in run("evaluate", torso / "manifest.yaml", masks).stdout


def test_train_says_where_the_model_is(torso, tmp_path):
    done = run_json("train", torso / "recipe.yaml", "--out", tmp_path / "run", "--set", "steps=2", "--set", "seed=3")
    assert done.keys() >= {*SCORE_KEYS, "model", "seconds"}
    assert done["model"] == str(tmp_path / "run" / "model")
    assert read_yaml(tmp_path / "run" / "recipe.yaml")["seed"] == 3
    refused(run("train", torso / "recipe.yaml", "--out", tmp_path / "run"), tmp_path / "run", "--resume")
    refused(run("train", torso / "recipe.yaml", "--out", tmp_path / "run", "--resume"), "another recipe")


def test_a_dry_run_says_what_training_would_take_and_writes_nothing(torso, tmp_path):
    before = tree(torso)
    told = run_json("train", torso / "recipe.yaml", "--dry-run", "--time-budget", "10m")
    network = told["networks"]["3d"]
    assert network["parameters"] > 1000
    assert network["memory_bytes"] > 4 * network["parameters"]
    assert network["steps"] == pytest.approx(600 / network["step_seconds"], rel=0.02)
    assert network["plan"]["patch_size"] == [24, 20, 12]
    refused(run("train", torso / "recipe.yaml", "--dry-run", "--from", torso / "nope"), "not a model folder")
    text = run("train", torso / "recipe.yaml", "--dry-run", "--folds", "3", "--set", "steps=7").stdout
    assert "patch_size" in text
    assert "million" in text
    assert "memory of a step" in text
    assert "7 steps" in text
    assert "3 networks" in text
    assert tree(torso) == before


def test_folds_on_the_command_line(torso, tmp_path):
    out = tmp_path / "run"
    done = run_json("train", torso / "recipe.yaml", "--out", out, "--epochs", "1", "--folds", "3", "--fold", "1")
    assert done["model"] == str(out / "3d" / "fold_1" / "model")
    assert done["cases"] == 1
    assert read_yaml(out / "recipe.yaml")["epochs"] == 1
    assert read_yaml(out / "recipe.yaml")["steps"] is None
    refused(run("train", torso / "recipe.yaml", "--out", out, "--folds", "9"), "another recipe (folds: ")
    refused(run("train", torso / "recipe.yaml", "--out", tmp_path / "b", "--folds", "9"), "9 folds of 3 patients")
    refused(run("train", torso / "recipe.yaml", "--out", tmp_path / "b", "--folds", "1"), "one fold is no cross-validation")
    refused(run("train", torso / "recipe.yaml", "--out", tmp_path / "b", "--fold", "1"), "without folds", "--folds 5")
    refused(run("train", torso / "recipe.yaml"), "without --out")


def test_a_plan_on_the_command_line(torso, torso_model, tmp_path):
    edited = load_plan(torso_model / "plan.yaml").model_copy(update={"overlap": 0.25})
    save_plan(edited, tmp_path / "plan.yaml")
    line = ("train", torso / "recipe.yaml", "--out", tmp_path / "run", "--set", "steps=1")
    run_json(*line, "--plan", tmp_path / "plan.yaml", "--from", torso_model)
    assert load_plan(tmp_path / "run" / "model" / "plan.yaml").overlap == 0.25


def test_some_failed(torso, torso_model, tmp_path):
    scans = tmp_path / "scans"
    shutil.copytree(torso / "images" / "torso_000", scans / "good")
    shutil.copytree(torso / "images" / "torso_001", scans / "gap")
    (scans / "gap" / "IM0005.dcm").unlink()
    result = run("predict", torso_model, scans, "--out", tmp_path / "out", "--json", *HERE)
    refused(result, "failed: gap:", code=1)
    done = json.loads(result.stdout.splitlines()[-1])
    assert set(done["failed"]) == {"gap"}
    assert set(done["files"]) == {"good", "gap"}
    refused(run("status", tmp_path / "out"), "failed: gap:", code=1)
    assert tree(tmp_path / "out") == ["good.nii.gz"]


def test_a_full_disk_is_one_message(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path / "x"))

    monkeypatch.setattr("voxelry.api.inspect", full)
    refused(run("inspect", tmp_path), tmp_path / "x", "No space left on device", "free space")


def test_an_interrupt_is_one_word(monkeypatch, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("voxelry.api.inspect", stop)
    result = run("inspect", tmp_path)
    assert (result.exit_code, result.stderr.strip()) == (130, "interrupted")


def test_our_own_bugs_keep_their_traceback(monkeypatch, tmp_path):
    def bug(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("voxelry.api.inspect", bug)
    assert isinstance(CliRunner().invoke(cli.app, ["inspect", str(tmp_path)]).exception, ZeroDivisionError)


def test_as_a_program(tmp_path):
    """Exit codes, streams and warnings as a shell sees them."""
    save(tmp_path / "a.nii.gz")
    text_file(tmp_path / "bad.nii.gz")

    def shell(*arguments):
        return subprocess.run([PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    good = shell("evaluate", "a.nii.gz", "a.nii.gz", "--json")
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["mean_dice"] == 1.0
    bad = shell("evaluate", "a.nii.gz", "bad.nii.gz")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: bad.nii.gz: ")
    assert len(bad.stderr.splitlines()) == 1
    assert shell("inspect", ".").returncode == 1


def test_warnings_of_ours_are_shown_and_those_of_others_are_not(monkeypatch, capsys):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(sys, "argv", ["voxelry", "version"])
    monkeypatch.setattr(cli, "keep_chatter_out", lambda: None)  # the test's own standard error stays
    monkeypatch.setattr(logging, "captureWarnings", lambda _: None)
    with pytest.raises(SystemExit):
        cli.main()
    logging.getLogger("voxelry.cohort.pairs").warning("mind the gap")
    logging.getLogger("pydicom").warning("Nobody^Known")
    assert os.linesep.join(capsys.readouterr().err.splitlines()) == "WARNING: mind the gap"
