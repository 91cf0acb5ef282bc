"""The demo: what it makes, what it says of failures, and what it never touches."""

import importlib
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import highdicom
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

import voxelry
from helpers.tiny import SPACINGS, phantoms
from voxelry.api.verbs import demo as demo_verb
from voxelry.base.files import read_yaml, write_yaml
from voxelry.base.output_folder import RECORD
from voxelry.cli import main as cli
from voxelry.errors import ManifestError, ReadError, UsageError
from voxelry.phantom.dataset import write_phantoms
from voxelry.phantom.phantom import ACQUISITIONS

MODULE = importlib.import_module("voxelry.api.demo_run")  # voxelry.demo is the verb
SECONDS = 5.0


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small(monkeypatch):
    """The demo of two phantoms to train on, one for each of val and test, all coarse."""

    def coarse(folder, kind, count, **options):
        how = replace(ACQUISITIONS[kind], spacing=SPACINGS[kind])
        return write_phantoms(folder, kind, count, acquisition=how, **options)

    monkeypatch.setattr(MODULE, "write_phantoms", coarse)
    monkeypatch.setattr(MODULE, "TRAIN_CASES", 2)
    monkeypatch.setattr(MODULE, "VAL_CASES", 1)
    monkeypatch.setattr(MODULE, "TEST_CASES", 2)
    monkeypatch.setattr(MODULE, "TRAINING_SECONDS", SECONDS)


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href") and not value.startswith(("#", "data:"))]


def test_the_demo_makes_everything_it_promises(small, tmp_path):
    out = tmp_path / "demo"
    result = CliRunner().invoke(cli.app, ["demo", "--out", str(out)])
    assert result.exit_code == 0, result.output
    for words in ("liver", "mean", "Dice", "IoU"):
        assert words in result.stdout
    assert str(out) in result.stderr
    assert "index.html" in result.stderr
    check_folder(out, ["torso_003", "torso_004"])
    check_page(out, ["torso_003", "torso_004"])
    check_segs(out, ["torso_003", "torso_004"])

    again = CliRunner().invoke(cli.app, ["demo", "--out", str(out), "--time-budget", "2s", "--json"])
    assert again.exit_code == 0, again.output
    content = json.loads(again.stdout.splitlines()[-1])
    assert content.keys() >= {"mean_dice", "mean_iou", "labels", "cases", "out"}
    assert (content["cases"], content["out"]) == (2, str(out))
    assert 0 <= content["mean_dice"] <= 1
    rows = json.loads((out / "scores.json").read_text())["rows"]
    assert {row["case"] for row in rows} == {"torso_003", "torso_004"}
    check_counts(out, rows)


def check_folder(out, cases):
    assert sorted(path.name for path in (out / "masks").glob("[!.]*")) == sorted(
        f"{case}{ending}" for case in cases for ending in (".nii.gz", ".seg.dcm")
    )
    assert sorted(path.stem for path in (out / "pictures").iterdir()) == cases
    assert (out / "run" / "model" / "weights.safetensors").is_file()
    assert (out / "data" / "images" / cases[0]).is_dir()


def check_page(out, cases):
    text = (out / "index.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert len(links.found) >= 3 * len(cases)
    for link in links.found:
        assert (out / unquote(link)).exists(), link
    assert all(case in text for case in cases)
    assert "Synthetic" in text


def check_counts(out, rows):
    """Lesions are counted one by one on the page as in the scores, and other labels are not."""
    text = " ".join((out / "index.html").read_text(encoding="utf-8").split())
    for row in (row for row in rows if row["label"] == "liver_lesion"):
        truth = nib.load(out / "data" / "labels" / f"{row['case']}.nii.gz").get_fdata() == 6
        count = ndimage.label(truth, np.ones((3, 3, 3)))[1]
        assert row["lesion_tp"] + row["lesion_fn"] == count
        assert f"{int(count + row['instance_count_error'])} predicted, {count} in the reference" in text
    assert "Objects, counted one by one" in text
    assert all(row["lesion_tp"] is None for row in rows if row["label"] == "liver")


def check_segs(out, cases):
    for case in cases:
        labels = voxelry.read_labels(out / "masks" / f"{case}.nii.gz")
        seg = highdicom.seg.segread(out / "masks" / f"{case}.seg.dcm")
        assert {seg.get_segment_description(n).segment_label for n in seg.segment_numbers} == set(labels.table.names)


def test_a_folder_of_anything_else_is_left_as_it_is(small, tmp_path):
    for number, files in enumerate((["data/precious.nii.gz"], ["run/x"], ["thesis.md"], ["index.html", "scores.json"])):
        out = tmp_path / str(number)
        for file in files:
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (out / file).write_text("precious")
        before = tree(out)
        with pytest.raises(UsageError, match=rf"{out}: is not empty.*--out"):
            demo_verb(out, seconds=SECONDS)
        assert tree(out) == before


def stop(*_, **__):
    raise KeyboardInterrupt


def test_a_demo_that_was_stopped_may_be_made_again(tmp_path, monkeypatch):
    def half(folder, *_, **__):
        (folder / "images").mkdir(parents=True)
        (folder / "images" / "half").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr(MODULE, "write_phantoms", half)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            demo_verb(tmp_path)
    assert set(tree(tmp_path)) == {RECORD, "data/images/half"}


@pytest.mark.parametrize("name", ["data/mine", "masks/mine", "pictures/mine", "run/model/mine"])
def test_what_a_user_put_into_a_demo_stays(tmp_path, monkeypatch, name):
    monkeypatch.setattr(MODULE, "write_phantoms", lambda folder, *_, **__: (folder / "x").mkdir(parents=True) or stop())
    with pytest.raises(KeyboardInterrupt):
        demo_verb(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=Path(name).parts[0]):
        demo_verb(tmp_path)
    assert (tmp_path / name).read_text() == (tmp_path / "notes.txt").read_text() == "mine"


def test_two_demos_in_one_folder(tmp_path, monkeypatch):
    def second(*_, **__):
        with pytest.raises(UsageError, match="another run is writing"):
            demo_verb(tmp_path)
        raise KeyboardInterrupt

    monkeypatch.setattr(MODULE, "write_phantoms", second)
    with pytest.raises(KeyboardInterrupt):
        demo_verb(tmp_path)


def test_a_dataset_in_the_demos_own_folder_is_refused(tmp_path):
    manifest = phantoms(tmp_path / "demo" / "data", format="nifti")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"manifest\.yaml: is inside.*--out"):
        demo_verb(tmp_path / "demo", manifest=manifest, seconds=SECONDS)
    assert tree(tmp_path) == before


@pytest.fixture(scope="module")
def set_of_nifti(tmp_path_factory):
    return phantoms(tmp_path_factory.mktemp("set"), format="nifti").parent


def test_a_real_set_takes_the_same_way(set_of_nifti, tmp_path):
    result = demo_verb(tmp_path / "demo", manifest=set_of_nifti / "manifest.yaml", seconds=SECONDS)
    assert result.scores.cases == ("torso_003",)
    assert result.out == tmp_path / "demo"
    assert result.page == tmp_path / "demo" / "index.html"
    assert [set(outcome.files) for outcome in result.outcomes] == [{"nifti"}]
    assert not (tmp_path / "demo" / "data").exists()
    assert "Synthetic scans, made by" not in result.page.read_text(encoding="utf-8")


def with_three_held_out(folder, target):
    """A copy of the set with one case to train on."""
    shutil.copytree(folder, target)
    card = read_yaml(target / "manifest.yaml")
    for case in card["cases"][1:]:
        case["split"] = "test"
    write_yaml(target / "manifest.yaml", card)
    return target


def test_a_held_out_scan_that_fails_is_shown(set_of_nifti, tmp_path):
    folder = with_three_held_out(set_of_nifti, tmp_path / "set")
    image = folder / "images" / "torso_002.nii.gz"
    image.write_bytes(image.read_bytes()[:2000])
    array = np.asanyarray(nib.load(folder / "labels" / "torso_003.nii.gz").dataobj)
    nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "labels" / "torso_003.nii.gz")
    out = tmp_path / "demo"
    arguments = ["demo", "--manifest", str(folder / "manifest.yaml"), "--out", str(out), "--time-budget", "3s", "--json"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 1, result.output
    assert json.loads(result.stdout.splitlines()[-1])["cases"] == 1
    failures = [line for line in result.stderr.splitlines() if line.startswith("failed:")]
    assert [line.split(": ")[1] for line in failures] == ["torso_002", "torso_003"]
    assert str(image) in failures[0]
    assert "grid" in failures[1]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "torso_002.nii.gz" in page
    assert sorted(path.name for path in (out / "masks").glob("[!.]*")) == ["torso_001.nii.gz"]
    assert all(case in page for case in ("torso_001", "torso_002", "torso_003"))


def test_when_all_held_out_scans_fail_it_says_why(set_of_nifti, tmp_path):
    shutil.copytree(set_of_nifti, tmp_path / "set")
    (tmp_path / "set" / "images" / "torso_003.nii.gz").write_text("words and words " * 30)
    with pytest.raises(ReadError, match=r"none of the 1 held-out scans.*torso_003.*starts with"):
        demo_verb(tmp_path / "demo", manifest=tmp_path / "set" / "manifest.yaml", seconds=2.0)


def test_a_set_without_held_out_cases_is_refused_before_anything_is_written(set_of_nifti, tmp_path):
    shutil.copytree(set_of_nifti, tmp_path / "set")
    card = read_yaml(tmp_path / "set" / "manifest.yaml")
    for case in card["cases"]:
        case["split"] = "train"
    write_yaml(tmp_path / "set" / "manifest.yaml", card)
    with pytest.raises(ManifestError, match=r"manifest\.yaml.*'test' or 'val'"):
        demo_verb(tmp_path / "demo", manifest=tmp_path / "set" / "manifest.yaml")
    assert not (tmp_path / "demo").exists()
