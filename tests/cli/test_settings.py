"""A setting that cannot be obeyed is refused by name, with both values; none is dropped."""

import json
import shutil
from dataclasses import replace

import pytest

from helpers.command import at_home, refused, run
from helpers.tiny import SPACINGS
from voxelry.base.files import read_yaml, write_yaml
from voxelry.phantom.dataset import write_phantoms
from voxelry.phantom.phantom import ACQUISITIONS

RECIPE = {"manifest": "set.yaml", "steps": 2, "validations": 1, "device": "cpu"}
PLAN = {"patch_size": [32, 32], "features": [4, 8], "batch_size": 1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Six cases of which a folder holds four, a plan, and a run."""
    folder = tmp_path_factory.mktemp("prepared")
    coarse = replace(ACQUISITIONS["chest-xray"], spacing=SPACINGS["chest-xray"])
    card = read_yaml(write_phantoms(folder, "chest-xray", 4, format="png", acquisition=coarse))
    card |= {"cases": {"images": ["images/{id}.png"], "labels": "labels/{id}.png"}, "split": {"val": 0.25, "seed": 0}}
    write_yaml(folder / "set.yaml", card)
    write_yaml(folder / "recipe.yaml", RECIPE | {"plan": PLAN})
    write_yaml(folder / "plain.yaml", RECIPE)
    return folder


@pytest.fixture
def home(prepared, tmp_path, monkeypatch):
    return at_home(prepared, tmp_path, monkeypatch)


@pytest.fixture
def planned(home):
    """A plan of the small network."""
    assert run("train", "recipe.yaml", "--out", "first").exit_code == 0
    shutil.copy(home / "first" / "plan.yaml", home / "plan.yaml")
    return home


ASKED = [
    ("plan.batch_size=5", "plan.batch_size: 5, the plan has 1"),
    ("plan.patch_size=[64,64]", "plan.patch_size: [64, 64], the plan has [32, 32]"),
    ("plan.features=[8,16]", "plan.features: [8, 16], the plan has [4, 8]"),
    ("plan.network=segresnet", "plan.network: segresnet, the plan has"),
    ("plan.memory=8GB", "plan.memory: 8GB"),
    ("plan.long_side=999", "plan.long_side: 999, the plan has"),
    ("flips=[1]", "flips: [1], the plan has []"),
    ("overlap=0.75", "overlap: 0.75, the plan has 0.5"),
]


@pytest.mark.parametrize(("change", "words"), ASKED)
def test_a_plan_beside_other_settings(planned, change, words):
    refused(run("train", "plain.yaml", "--out", "new", "--plan", "plan.yaml", "--set", change), "--plan", words)


@pytest.mark.parametrize(("key", "value"), [("flips", [1]), ("overlap", 0.75), ("plan", {"batch_size": 5})])
def test_a_plan_beside_the_recipes_own_settings(planned, key, value):
    write_yaml(planned / "asked.yaml", RECIPE | {key: value})
    refused(run("train", "asked.yaml", "--out", "new", "--plan", "plan.yaml"), key, "the plan has")


def test_a_plan_that_meets_all_settings(planned):
    write_yaml(planned / "asked.yaml", RECIPE | {"plan": PLAN, "flips": [], "overlap": 0.5})
    assert run("train", "asked.yaml", "--out", "new", "--plan", "plan.yaml", "--epochs", "1").exit_code == 0


def test_a_model_of_another_network(planned):
    asked = ("train", "plain.yaml", "--out", "new", "--from", "first/model", "--set")
    refused(run(*asked, "plan.network=segresnet"), "plan.network is segresnet", "first/model")
    same = read_yaml(planned / "plan.yaml")["network"]["name"]
    assert run(*asked, f"plan.network={same}").exit_code == 0


# ---- resume


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "optimiser.learning_rate=0.1"], "optimiser.learning_rate: not set, now 0.1"),
        (["--set", "seed=3"], "seed: 0, now 3"),
        (["--epochs", "4"], "epochs: not set, now 4"),
        (["--set", "steps=9"], "steps: 2, now 9"),
        (["--folds", "2"], "folds: 0, now 2"),
        (["--from", "first/model"], "initial: not set, now"),
    ],
)
def test_a_resumed_run_with_another_recipe(planned, more, words):
    refused(run("train", "recipe.yaml", "--out", "first", "--resume", *more), words)


def test_a_resumed_run_with_another_plan(planned):
    plan = read_yaml(planned / "plan.yaml")
    assert run("train", "recipe.yaml", "--out", "first", "--resume", "--plan", "plan.yaml").exit_code == 0
    write_yaml(planned / "other.yaml", plan | {"batch_size": 7})
    refused(run("train", "recipe.yaml", "--out", "first", "--resume", "--plan", "other.yaml"), "batch_size: 1, now 7")


def test_a_resumed_run_keeps_its_split(planned, caplog):
    split = json.loads((planned / "first" / "split.json").read_text())
    for side in ("images", "labels"):
        for number in range(4, 9):
            shutil.copy(planned / side / f"chest_00{number % 4}.png", planned / side / f"chest_00{number}.png")
    assert run("train", "recipe.yaml", "--out", "first", "--resume").exit_code == 0
    rows = json.loads((planned / "first" / "validation.json").read_text())["rows"]
    assert {row["case"] for row in rows} == set(split["val"])
    assert "5 cases that came later are left out" in caplog.text
    (planned / "images" / f"{split['train'][0]}.png").unlink()
    (planned / "labels" / f"{split['train'][0]}.png").unlink()
    refused(run("train", "recipe.yaml", "--out", "first", "--resume"), "no longer in the dataset", split["train"][0])


def test_folds_that_are_resumed_with_another_length(home):
    arguments = ["train", "recipe.yaml", "--out", "cv", "--folds", "2"]
    assert run(*arguments, "--epochs", "1").exit_code == 0
    assert run(*arguments, "--resume").exit_code == 0
    assert run(*arguments, "--resume", "--epochs", "1").exit_code == 0
    refused(run(*arguments, "--resume", "--epochs", "2"), "epochs: 1, now 2")
    refused(run(*arguments, "--resume", "--time-budget", "10s"), "time_budget: not set, now 10")
    refused(run("train", "recipe.yaml", "--out", "cv", "--resume"), "checkpoint")


# ---- two flags for one thing


@pytest.mark.parametrize(
    "flags",
    [
        ["--epochs", "2", "--set", "steps=3"],
        ["--time-budget", "10s", "--set", "epochs=3"],
        ["--folds", "2", "--set", "folds=3"],
        ["--from", "first/model", "--set", "initial=other"],
        ["--set", "seed=1", "--set", "seed=2"],
    ],
)
def test_two_values_for_one_setting(home, flags):
    refused(run("train", "recipe.yaml", "--out", "new", *flags), "Give one of the two")


def test_flags_that_have_no_effect_beside_others(planned):
    labels = ["evaluate", "labels", "labels"]
    refused(run(*labels, "--table", "markdown", "--json"), "--table")
    refused(run(*labels, "--tolerance", "2"), "--tolerance", "--metric surface")
    refused(run(*labels, "--root", "."), "--root")
    assert run(*labels, "--out", "a.csv").exit_code == 0
    refused(run("compare", "a.csv", "a.csv", "--table", "latex", "--json"), "--table")
    refused(run("demo", "--root", ".", "--out", "demo"), "--root")
    refused(run("convert", "labels/chest_000.png", "x.nii.gz", "--series", "largest"), "--series")
    refused(run("convert", "labels/chest_000.png", "x.nii.gz", "--repair", "gap"), "--repair")
    refused(run("train", "recipe.yaml", "--out", "first", "--resume", "--dry-run"), "--dry-run")
    refused(run("predict", "first/model", "images", "--out", "masks", "--flips"), "flips")
    refused(run("predict", "first/model", "images", "--out", "masks", "--network", "segresnet"), "segresnet")
