"""Every mistake of a user ends in one message that names file, value and remedy, and in exit code 1 or 2."""

import os
import shutil

import numpy as np
import pytest

from helpers.command import HERE, refused, run, run_json, save, text_file, tree, truncated
from helpers.tiny import recipe
from voxelry.base.files import write_json, write_yaml


def with_nan(path):
    array = np.ones((24, 20, 12), np.float32)
    array[1, 2, 3] = np.nan
    return save(path, array)


BAD_FILES = {text_file: "b'Thes'", truncated: "gz", with_nan: "1, 2, 3)"}


@pytest.mark.parametrize("make", BAD_FILES)
def test_a_bad_file_among_scans_is_listed(make, torso, torso_model, tmp_path):
    (tmp_path / "in").mkdir()
    bad = make(tmp_path / "in" / "bad.nii.gz")
    for inputs in ([bad], [tmp_path / "in"], [torso / "images" / "torso_000", tmp_path / "in"]):
        out = tmp_path / f"out{len(inputs)}{inputs[0].name}"
        refused(run("predict", torso_model, *inputs, "--out", out, *HERE), "failed: bad:", bad, BAD_FILES[make], code=1)
        assert not [name for name in tree(out) if "bad" in name or "tmp" in name]


@pytest.mark.parametrize("make", [text_file, truncated, with_nan])
def test_a_bad_mask_is_named(make, tmp_path):
    good = save(tmp_path / "good.nii.gz")
    bad = make(tmp_path / "bad.nii.gz")
    refused(run("evaluate", good, bad), bad)
    refused(run("evaluate", bad, good, "--out", tmp_path / "scores.json"), bad)
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize("make", [text_file, truncated])
def test_a_bad_mask_among_others_is_listed(make, tmp_path, caplog):
    for folder in ("ref", "pred"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            save(tmp_path / folder / f"{name}.nii.gz")
    bad = make(tmp_path / "pred" / "b.nii.gz")
    scores = run_json("evaluate", tmp_path / "ref", tmp_path / "pred", code=1)
    assert scores["cases"] == 1
    assert str(bad) in scores["failed"]["b"]
    assert str(bad) in caplog.text


def test_inspect_lists_what_cannot_be_read(tmp_path):
    text_file(tmp_path / "bad.nii.gz")
    rows = run_json("inspect", tmp_path, code=1)["found"]
    assert [row["readable"] for row in rows] == [False]
    assert "b'Thes'" in rows[0]["reason"]
    assert run("inspect", tmp_path).exit_code == 1


def test_nothing_there(torso_model, tmp_path):
    nowhere = tmp_path / "nowhere"
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (nowhere, empty):
        refused(run("inspect", path), path, "Check")
        refused(run("predict", torso_model, path, "--out", tmp_path / "out"), path)
        refused(run("evaluate", path, path), path)
    for verb in ("check", "plan"):
        refused(run(verb, nowhere), nowhere)
    refused(run("train", nowhere, "--out", tmp_path / "out"), nowhere)
    refused(run("demo", "--manifest", nowhere, "--out", tmp_path / "out"), nowhere)
    assert tree(tmp_path) == ["empty"]


def dataset(folder, labels=None, affine=None, image=None, **changes):
    """A set of two cases; the labels of the first may be replaced."""
    cases = []
    for name in "ab":
        save(folder / "images" / f"{name}.nii.gz", image if name == "a" else None)
        save(folder / "labels" / f"{name}.nii.gz", labels if name == "a" else None, affine if name == "a" else None)
        case = {"id": name, "images": [f"images/{name}.nii.gz"], "labels": f"labels/{name}.nii.gz", "split": "train"}
        cases.append(case | changes.get(name, {}))
    write_yaml(folder / "set.yaml", {"name": "s", "modality": "CT", "labels": [{"value": 1, "name": "organ"}], "cases": cases})
    recipe(folder, "set.yaml")
    return folder / "set.yaml"


SHIFTED = np.eye(4)
SHIFTED[0, 3] = 5
BROKEN_SETS = {
    "another grid": ({"affine": SHIFTED}, ["labels/a.nii.gz", "5 mm", "Resample"]),
    "unknown label": ({"labels": np.full((24, 20, 12), 7, np.uint8)}, ["labels/a.nii.gz", "7", "card"]),
    "NaN": ({"image": np.full((24, 20, 12), np.nan, np.float32)}, ["images/a.nii.gz", "NaN", "re"]),
}


@pytest.mark.parametrize("name", BROKEN_SETS)
def test_a_broken_case_is_named(name, tmp_path):
    changes, words = BROKEN_SETS[name]
    manifest = dataset(tmp_path, **changes)
    content = run_json("check", manifest, code=1)
    assert content["errors"] == 1
    assert all(word in content["problems"][0]["message"] for word in words)
    assert run("check", manifest).exit_code == 1
    refused(run("plan", manifest), *words)
    refused(run("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run"), *words)
    assert not (tmp_path / "run" / "model").exists()


def test_masks_that_do_not_fit(tmp_path):
    manifest = dataset(tmp_path / "set")
    shifted = save(tmp_path / "masks" / "a.nii.gz", affine=SHIFTED)
    refused(run("evaluate", manifest, shifted), shifted, "5 mm", "Resample")
    unknown = save(tmp_path / "a.nii.gz", np.full((24, 20, 12), 7, np.uint8))
    refused(run("evaluate", manifest, unknown), unknown, "7")


def test_a_flipped_mask_is_re_indexed_not_refused(tmp_path):
    array = np.random.default_rng(0).integers(0, 2, (24, 20, 12)).astype(np.uint8)
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 23
    one = save(tmp_path / "x.nii.gz", array)
    other = save(tmp_path / "flipped" / "x.nii.gz", array[::-1], flipped + 1e-8)
    assert run_json("evaluate", one, other)["mean_dice"] == 1.0


def test_a_missing_prediction(tmp_path):
    for name in "ab":
        save(tmp_path / "ref" / f"{name}.nii.gz")
    save(tmp_path / "pred" / "a.nii.gz")
    refused(run("evaluate", tmp_path / "ref", tmp_path / "pred"), tmp_path / "pred", "1 of 2", "(b)", "paired by name")


def test_a_patient_on_two_sides(tmp_path):
    manifest = dataset(tmp_path, a={"group": "P1", "split": "train"}, b={"group": "P1", "split": "val"})
    for arguments in (["check", manifest], ["plan", manifest], ["train", tmp_path / "recipe.yaml", "--out", tmp_path / "run"]):
        refused(run(*arguments), manifest, "P1", "one side")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimiser": {"learning_rat": 1}}, ["optimiser.learning_rat", "Did you mean 'learning_rate'?"]),
        ({"plan": {"patch_sise": [8, 8, 8]}}, ["plan.patch_sise", "Did you mean 'patch_size'?"]),
        ({"steps": "many"}, ["steps", "'many'"]),
        ({"steps": None}, ["steps", "time_budget"]),
        ({"time_budget": "soon"}, ["time_budget", "soon", "10m"]),
        ({"device": "gpu"}, ["gpu"]),
        ({"manifest": "none.yaml"}, ["none.yaml"]),
    ],
)
def test_a_mistake_in_a_recipe(changes, words, torso, tmp_path):
    path = recipe(tmp_path, **{"manifest": torso / "manifest.yaml"} | changes)
    refused(run("train", path, "--out", tmp_path / "run"), *words)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("steps", ["--set steps", "KEY=VALUE"]),
        ("stepps=1", ["stepps", "Did you mean 'steps'?"]),
        ("steps=0", ["steps", "0"]),
        ("steps.a=1", ["steps"]),
        ("plan=[1", ["plan=[1", "YAML"]),
    ],
)
def test_a_mistake_in_set(change, words, torso, tmp_path):
    refused(run("train", torso / "recipe.yaml", "--out", tmp_path / "run", "--set", change), *words)
    assert tree(tmp_path) == []


def test_a_mistake_in_the_time_budget(torso, tmp_path):
    for budget in ("soon", "-5m", "0", "0h", "5 weeks"):
        for verb in (["train", torso / "recipe.yaml"], ["demo"]):
            refused(run(*verb, "--out", tmp_path / "run", f"--time-budget={budget}"), budget[0], "time", "10m")
    assert tree(tmp_path) == []


def test_a_mistake_in_a_format(torso, torso_model, tmp_path):
    result = run("predict", torso_model, torso / "images", "--out", tmp_path / "out", "--format", "nift")
    refused(result, "'nift'", "Did you mean 'nifti'?")
    assert tree(tmp_path) == []


def test_resume_of_nothing(torso, tmp_path):
    refused(run("train", torso / "recipe.yaml", "--out", tmp_path / "run", "--resume"), tmp_path / "run", "Leave out --resume")
    assert tree(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (None, None),
        ("weights.safetensors", b"nothing"),
        ("weights.safetensors", b""),
        ("card.json", b"{"),
        ("card.json", b"{}"),
        ("plan.yaml", b"dimensions: 4\n"),
        ("plan.yaml", b"[1, 2\n"),
    ],
)
def test_a_model_folder_that_cannot_be_used(file, content, torso, torso_model, tmp_path):
    model = tmp_path / "model"
    if file is None:
        model.mkdir()
    else:
        shutil.copytree(torso_model, model)
        (model / file).write_bytes(content)
    refused(run("predict", model, torso / "images", "--out", tmp_path / "out"), model / (file or ""))
    assert not (tmp_path / "out").exists()


def test_the_run_in_place_of_its_model(torso, torso_model, tmp_path):
    refused(
        run("predict", torso_model.parent, torso / "images", "--out", tmp_path), torso_model.parent, f"Did you mean {torso_model}"
    )


def test_a_place_that_cannot_be_written_to(torso, torso_model, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    masks = save(tmp_path / "mask.nii.gz")
    for arguments in (
        ["train", torso / "recipe.yaml", "--out", file],
        ["train", torso / "recipe.yaml", "--out", file / "run"],
        ["predict", torso_model, torso / "images", "--out", file],
        ["predict", torso_model, torso / "images", "--out", file / "masks"],
        ["evaluate", masks, masks, "--out", file / "scores.json"],
        ["evaluate", masks, masks, "--out", file],
        ["demo", "--out", file],
        ["demo", "--out", file / "demo"],
    ):
        refused(run(*arguments), arguments[-1] if arguments[-1] == file else tmp_path)
    assert file.read_text() == "in the way"
    assert tree(tmp_path) == ["file", "mask.nii.gz"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vram", "8 cats"], ["memory", "'8 cats' is no amount of memory", "4GiB"]),
        (["--configuration", "4d"], ["configuration", "'4d'", "3d_lowres"]),
        (["--configuration", "3d_cascade"], ["3d_cascade", "25% is enough", "Choose 3d or 2d"]),
        (["--network", "dynnet"], ["dynnet", "Did you mean 'dynunet'"]),
        (["--network", "resenc", "--preset", "XXL"], ["XXL", "M, L, XL"]),
        (["--vram", "1KB"], ["too small for network 'dynunet'", "Give more memory"]),
    ],
)
def test_a_plan_that_cannot_be_made(arguments, words, torso, tmp_path):
    refused(run("plan", torso / "manifest.yaml", "--out", tmp_path / "plan.yaml", *arguments), *words)
    assert not tree(tmp_path)


def a_pipe(path):
    os.mkfifo(path)


def a_loop(path):
    path.symlink_to(path)


def a_link_to_nothing(path):
    path.symlink_to(path.parent / "nowhere")


def a_link_to_a_device(path):
    path.symlink_to("/dev/zero")


def two_links_to_each_other(path):
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


STRANGE = [a_pipe, a_loop, a_link_to_nothing, a_link_to_a_device, two_links_to_each_other]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("make", STRANGE)
def test_places_that_are_no_files_are_refused_and_never_waited_for(make, tmp_path):
    good = save(tmp_path / "good.nii.gz", np.eye(6, dtype=np.uint8)[..., None])
    strange = tmp_path / "strange.nii.gz"
    make(strange)
    card = make_card(tmp_path, strange)
    for words in (
        ("inspect", strange),
        ("convert", strange, tmp_path / "out.nii.gz"),
        ("convert", good, tmp_path / "out.nii.gz", "--reference", strange),
        ("convert", good, tmp_path / "out.nii.gz", "--labels", strange),
        ("evaluate", good, strange),
        ("evaluate", strange, good),
        ("compare", strange, good),
        ("check", strange),
        ("plan", strange),
        ("train", strange, "--out", tmp_path / "run"),
        ("plan", card),
        ("predict", strange, good, "--out", tmp_path / "masks"),
    ):
        refused(run(*words), "strange")
    assert tree(tmp_path) == sorted({"good.nii.gz", "card.yaml", *(path.name for path in tmp_path.iterdir())})


def make_card(folder, image):
    return write_card(folder / "card.yaml", [{"id": "a", "images": [image.name], "labels": "good.nii.gz", "split": "train"}])


def write_card(path, cases):
    labels = [{"value": 1, "name": "liver"}]
    write_yaml(path, {"name": "x", "modality": "CT", "channels": ["CT"], "cases": cases, "labels": labels})
    return path


@pytest.mark.timeout(120)
@pytest.mark.parametrize("make", [a_pipe, a_link_to_a_device])
def test_nothing_is_written_into_pipes_and_devices(make, tmp_path):
    good = save(tmp_path / "good.nii.gz", np.eye(6, dtype=np.uint8)[..., None])
    strange = tmp_path / "strange.nii.gz"
    make(strange)
    refused(run("convert", good, strange), "strange.nii.gz: is there already, and is no regular file")
    scores = strange.with_name("strange.csv")
    make(scores)
    refused(run("evaluate", good, good, "--out", scores), "strange.csv: is there already, and is no regular file")


def test_a_loop_of_folders_is_read_once(tmp_path):
    save(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    assert [row["path"] for row in run_json("inspect", tmp_path / "in")["found"]] == [str(tmp_path / "in" / "a.nii.gz")]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [a_pipe, a_loop, a_link_to_nothing])
def test_a_link_among_scans_that_leads_nowhere_is_listed_as_failed(make, torso, torso_model, tmp_path):
    save(tmp_path / "in" / "good.nii.gz")
    make(tmp_path / "in" / "lost.nii.gz")
    workers = () if make is a_pipe else HERE  # which might wait in it
    result = run("predict", torso_model, tmp_path / "in", "--out", tmp_path / "out", *workers)
    refused(result, "failed: lost:", "lost.nii.gz", code=1)
    assert tree(tmp_path / "out") == ["good.nii.gz"]


HOSTILE_LISTS = [
    {"training": [{"image": "a.nii.gz", "label": ["a"]}]},
    {"training": [{"image": "a.nii.gz", "label": {"a": 1}}]},
    {"training": [{"image": "a.nii.gz", "label": 1.5}]},
    {"training": [{"image": "x" * 4000, "label": "a.nii.gz"}]},
    {"training": "x"},
    {"training": [[]]},
    {"training": None},
    {"labels": [[1]]},
    {"labels": {"0": {"a": 1}}},
    {"modality": []},
]


@pytest.mark.parametrize("change", HOSTILE_LISTS)
def test_a_hostile_dataset_json_is_one_error(change, tmp_path):
    save(tmp_path / "a.nii.gz")
    listed = {"image": "a.nii.gz", "label": "a.nii.gz"}
    whole = {"name": "x", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "a"}, "training": [listed]}
    write_json(tmp_path / "dataset.json", whole | change)
    result = run("check", tmp_path / "dataset.json")
    assert result.exit_code in (1, 2)
    assert str(tmp_path) in result.stderr or result.exit_code == 1


def test_a_folder_without_a_run_has_nothing_to_review(tmp_path):
    refused(run("qc", tmp_path), tmp_path, "no ledger", code=2)
    assert not tree(tmp_path)


def test_a_scan_is_not_deidentified_into_its_own_folder(torso, tmp_path):
    refused(run("deidentify", torso / "images", "--out", torso / "images" / "x"), torso / "images", "lies in the input", code=2)
    refused(run("deidentify", tmp_path, "--out", tmp_path.with_name("o"), "--option", "date"), "no option")
