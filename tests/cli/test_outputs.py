"""Nothing of the user's is replaced or deleted by any verb that writes, and the same command may run again."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from helpers.command import HERE, at_home, refused, run
from helpers.full_disk import contents
from helpers.tiny import SPACINGS
from voxelry.base.files import write_yaml
from voxelry.base.output_folder import RECORD, OutputFolder
from voxelry.phantom.dataset import write_phantoms
from voxelry.phantom.phantom import ACQUISITIONS

RECIPE = {
    "manifest": "set/manifest.yaml", "steps": 2, "validations": 1, "device": "cpu",
    "plan": {"patch_size": [32, 32], "features": [4, 8], "batch_size": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a data set, a recipe and a run."""
    folder = tmp_path_factory.mktemp("trained")
    coarse = replace(ACQUISITIONS["chest-xray"], spacing=SPACINGS["chest-xray"])
    write_phantoms(folder / "set", "chest-xray", 3, val=1, format="png", acquisition=coarse)
    write_yaml(folder / "recipe.yaml", RECIPE)
    assert run("train", folder / "recipe.yaml", "--out", folder / "run").exit_code == 0
    return folder


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    """A copy of it, which is the working folder."""
    return at_home(trained, tmp_path, monkeypatch)


def untouched(home, before):
    """Every file is as it was."""
    now = {name: content for name, content in contents(home).items() if name in before}
    assert now == before


def mine(path, text="mine"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# ---- predict


@pytest.mark.parametrize("out", ["set/images", "set/../set/images", "link", "set/labels"])
def test_masks_do_not_replace_scans_or_references(home, out):
    (home / "link").symlink_to(home / "set" / "images")
    before = contents(home)
    refused(run("predict", "run/model", "set/images", "--out", out, "--format", "png"), "chest_000.png")
    untouched(home, before)
    assert not list(home.rglob(RECORD + "*tmp"))


def test_the_same_prediction_again_and_its_folder_as_part_of_the_scans(home):
    for _ in range(2):
        assert run("predict", "run/model", "set/images", "--out", "set/images", "--format", "nifti", *HERE).exit_code == 0
    assert len(list((home / "set" / "images").glob("*.nii.gz"))) == 3
    assert run("predict", "run/model", home / "set" / "images", "--out", home / "set" / "images", *HERE).exit_code == 0


def test_a_mask_that_was_corrected_stays(home):
    assert run("predict", "run/model", "set/images", "--out", "masks", *HERE).exit_code == 0
    mine(home / "masks" / "chest_001.nii.gz")
    before = contents(home)
    refused(run("predict", "run/model", "set/images", "--out", "masks"), "chest_001.nii.gz", "changed")
    untouched(home, before)


def test_another_model_and_another_scan_of_the_same_name(home):
    assert run("predict", "run/model", "set/images/chest_000.png", "--out", "masks").exit_code == 0
    shutil.copytree(home / "run", home / "other")
    shutil.copytree(home / "set" / "images", home / "more")
    assert run("predict", "other/model", "more/chest_000.png", "--out", "masks").exit_code == 0  # copies make no other mask
    card = home / "other" / "model" / "card.json"
    card.with_name("model.json").unlink()
    card.write_text(card.read_text().replace('"name": "', '"name": "another ', 1))
    shutil.copy(home / "more" / "chest_001.png", home / "more" / "chest_000.png")
    before = contents(home)
    refused(run("predict", "other/model", "set/images/chest_000.png", "--out", "masks"), "chest_000.nii.gz")
    refused(run("predict", "run/model", "more/chest_000.png", "--out", "masks"), "chest_000.nii.gz")
    untouched(home, before)
    assert run("predict", "run/model", "more/chest_001.png", "--out", "masks").exit_code == 0


def test_two_results_of_one_name(home):
    shutil.copy(home / "set" / "images" / "chest_000.png", home / "set" / "images" / "chest_000.probability.png")
    result = run("predict", "run/model", "set/images", "--out", "masks", "--confidence", "probability")
    refused(result, "chest_000.probability.nii.gz", "'chest_000'")
    assert not (home / "masks").exists()


# ---- plan, evaluate, convert


@pytest.mark.parametrize("out", ["set/manifest.yaml", "set/../set/manifest.yaml", "link.yaml", "recipe.yaml"])
def test_a_plan_replaces_no_card_and_no_recipe(home, out):
    (home / "link.yaml").symlink_to(home / "set" / "manifest.yaml")
    before = contents(home)
    refused(run("plan", "set/manifest.yaml", "--out", out), out)
    untouched(home, before)


def test_a_plan_is_replaced_until_it_is_edited(home):
    for _ in range(2):
        assert run("plan", "set/manifest.yaml", "--out", "plan.yaml").exit_code == 0
    (home / "plan.yaml").write_text("# mine\n" + (home / "plan.yaml").read_text())
    refused(run("plan", "set/manifest.yaml", "--out", "plan.yaml"), "changed")
    assert (home / "plan.yaml").read_text().startswith("# mine")


@pytest.mark.parametrize("out", ["scores.csv", "scores.parquet", "scores.json", "scores"])
def test_scores_of_other_masks_stay(home, out):
    arguments = ["evaluate", "set/labels", "set/labels", "--out", out]
    for _ in range(2):
        assert run(*arguments).exit_code == 0
    before = contents(home)
    shutil.copytree("set/labels", "others")
    refused(run("evaluate", "set/labels", "others", "--out", out), "from other inputs")
    untouched(home, before)


@pytest.mark.parametrize("out", ["set/labels/chest_001.png", "again.png", "hard.png"])
def test_a_conversion_replaces_no_mask(home, out):
    (home / "again.png").symlink_to(home / "set" / "labels" / "chest_000.png")
    (home / "hard.png").hardlink_to(home / "set" / "labels" / "chest_000.png")
    before = contents(home)
    refused(run("convert", "set/labels/chest_000.png", out), out)
    untouched(home, before)


def test_a_conversion_does_not_replace_its_reference_or_names(home):
    write_yaml(home / "names.json", {1: "a", 2: "b"})
    before = contents(home)
    mask = "set/labels/chest_000.png"
    refused(run("convert", mask, "set/images/chest_000.png", "--reference", "set/images/chest_000.png"), "input")
    refused(run("convert", mask, "names.json", "--labels", "names.json"), "input")
    untouched(home, before)
    for _ in range(2):
        assert run("convert", mask, "out.nii.gz", "--reference", "set/images/chest_000.png").exit_code == 0


# ---- train

NAMES = [
    "recipe.yaml", "plan.yaml", "fingerprint.json", "history.jsonl", "losses.jsonl", "validation.json", "validation.csv",
    "curves.html", "model/notes.txt", "predictions/mine.npz", "model",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("more", [[], ["--folds", "3"]], ids=["single", "folds"])
def test_a_run_replaces_nothing_in_a_folder_of_other_things(home, name, more):
    if more and name in ("plan.yaml", "history.jsonl", "losses.jsonl", "predictions/mine.npz"):
        pytest.skip("lies in the folders of the folds")
    mine(home / "new" / name)
    before = contents(home)
    refused(run("train", "recipe.yaml", "--out", "new", *more), name.split("/")[0])
    untouched(home, before)
    assert [str(path.relative_to(home / "new")) for path in (home / "new").rglob("*") if path.is_file()] == [name]


def test_a_run_beside_other_things(home):
    mine(home / "new" / "notes.txt")
    mine(home / "new" / "data" / "model" / "x")
    assert run("train", "recipe.yaml", "--out", "new").exit_code == 0
    assert (home / "new" / "notes.txt").read_text() == (home / "new" / "data" / "model" / "x").read_text() == "mine"


def train_here(home):
    """A run whose recipe names the data set of this folder."""
    shutil.rmtree(home / "run")
    assert run("train", "recipe.yaml", "--out", "run").exit_code == 0


@pytest.mark.parametrize("name", ["model/notes.txt", "model/README.md", "validation.csv"])
def test_a_resumed_run_keeps_what_was_added(home, name):
    train_here(home)
    assert run("train", "recipe.yaml", "--out", "run", "--resume").exit_code == 0
    mine(home / "run" / name)
    before = contents(home)
    refused(run("train", "recipe.yaml", "--out", "run", "--resume"), name)
    untouched(home, before)


def test_a_run_whose_record_is_gone_is_resumed(home):
    train_here(home)
    (home / "run" / RECORD).unlink()
    assert run("train", "recipe.yaml", "--out", "run", "--resume").exit_code == 0
    mine(home / "run" / "model" / "notes.txt")
    refused(run("train", "recipe.yaml", "--out", "run", "--resume"), "notes.txt")


def test_a_run_that_stopped_before_its_first_checkpoint_starts_again(home):
    (home / "run" / "checkpoint.pt").unlink()
    assert run("train", "recipe.yaml", "--out", "run").exit_code == 0
    refused(run("train", "recipe.yaml", "--out", "run"), "holds a run already")


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_one_run_at_a_time(home, resume):
    folder = "run" if resume else "new"
    with OutputFolder(home / folder, "train").locked():
        refused(run("train", "recipe.yaml", "--out", folder, *resume), "another run is writing")
    if not resume:
        assert run("train", "recipe.yaml", "--out", folder).exit_code == 0


@pytest.mark.slow
def test_a_killed_run_leaves_no_lock(home):
    program = (
        "import os, signal, voxelry\n"
        "def die(step): os.kill(os.getpid(), signal.SIGKILL)\n"
        "voxelry.train('recipe.yaml', 'new', on_step=die)"
    )
    assert subprocess.run([sys.executable, "-c", program], env=os.environ).returncode == -9
    assert run("train", "recipe.yaml", "--out", "new").exit_code == 0


def test_folds_are_trained_one_by_one_and_again(home):
    for fold in ("0", "1", "2"):
        assert run("train", "recipe.yaml", "--out", "cv", "--folds", "3", "--fold", fold).exit_code == 0
    with OutputFolder(home / "cv" / "2d" / "fold_1", "train").locked():
        refused(run("train", "recipe.yaml", "--out", "cv", "--folds", "3"), "holds a run already")
    for _ in range(2):
        assert run("train", "recipe.yaml", "--out", "cv", "--folds", "3", "--resume").exit_code == 0
    mine(home / "cv" / "model" / "notes.txt")
    before = contents(home)
    refused(run("train", "recipe.yaml", "--out", "cv", "--folds", "3", "--resume"), "notes.txt")
    untouched(home, before)
    (home / "cv" / "model" / "notes.txt").unlink()
    before = contents(home)
    refused(run("train", "recipe.yaml", "--out", "cv"), "cross-validation")
    untouched(home, before)
