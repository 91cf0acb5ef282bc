import shutil
import zipfile
from pathlib import Path

import pytest

from voxelry.errors import ModelError, ReadError, UsageError
from voxelry.networks.weights import load_models
from voxelry.zoo.model_files import files_of
from voxelry.zoo.model_names import find_model
from voxelry.zoo.model_travel import pull_model, push_model


def content(folder):
    return {name: (folder / name).read_bytes() for name in files_of(folder)}


@pytest.mark.parametrize("target", ["shelf/tiny", "shelf/tiny.zip"])
def test_to_a_folder_or_a_file_and_back(tiny, target):
    moved = push_model(tiny, target)
    assert (moved.place, len(moved.sha256)) == (target, 64 if target.endswith("zip") else 0)
    assert pull_model(moved.source, "mine").place == "mine"
    assert content(Path("mine")) == content(tiny)


def test_an_ensemble_travels_whole(both):
    pull_model(push_model(both, "both.zip").source, "mine")
    assert content(Path("mine")) == content(both)


def test_a_pulled_model_is_called_by_its_name(both, cache, starters):
    push_model(both, "shelf/pair.zip")
    assert pull_model("shelf/pair.zip").place == str(cache / "pair")
    assert len(load_models(find_model("pair"))) == 2
    shutil.copytree(both, "run_7/model")
    assert pull_model("run_7/model").place == str(cache / "run_7")  # as the server calls the model of a run


def test_a_starter_model_is_copied_out_by_its_name(tiny, starters):
    shutil.copytree(tiny, starters / "lungs")
    pull_model("lungs", "mine")
    push_model("lungs", "lungs.zip")
    assert content(Path("mine")) == content(tiny)
    with pytest.raises(UsageError, match="name of a starter model"):
        pull_model("lungs.zip")


def test_nothing_that_exists_is_replaced(tiny, cache):
    Path("mine").mkdir()
    Path("mine.zip").write_text("mine")
    for call in (
        lambda: push_model(tiny, "mine"),
        lambda: push_model(tiny, "mine.zip"),
        lambda: pull_model(tiny, "mine"),
        lambda: (pull_model(tiny), pull_model(tiny)),
    ):
        with pytest.raises(UsageError, match="exists already"):
            call()
    assert Path("mine.zip").read_text() == "mine"


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_damaged_model_is_neither_pushed_nor_left_behind(tiny, form):
    shutil.copytree(tiny, "broken")
    if form == "folder":
        Path("broken", "weights.safetensors").write_bytes(b"cut off")
        source = "broken"
        with pytest.raises(ModelError, match=r"weights\.safetensors"):
            push_model("broken", "copy")
    else:
        source = "broken.zip"
        with zipfile.ZipFile(source, "w") as writer:
            for name in files_of(tiny):
                writer.writestr(name, b"cut off" if name.endswith("tensors") else (tiny / name).read_bytes())
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        pull_model(source, "mine")
    assert not Path("mine").exists()
    assert [path.name for path in Path().iterdir() if path.name not in ("broken", "broken.zip")] == []


def test_an_archive_that_leads_outside_leaves_nothing():
    with zipfile.ZipFile("bad.zip", "w") as writer:
        writer.writestr("plan.yaml", "a: 1")
        writer.writestr("../escaped/card.json", "{}")
    with pytest.raises(ReadError, match="outside the archive"):
        pull_model("bad.zip", "mine")
    assert [path.name for path in Path().iterdir()] == ["bad.zip"]
    assert not Path("../escaped").exists()


@pytest.mark.parametrize("source", ["nothing", "./nothing", "empty"])
def test_what_is_no_model(source):
    Path("empty").mkdir()
    with pytest.raises(ModelError, match="no model"):
        pull_model(source, "mine")
    assert not Path("mine").exists()


@pytest.mark.parametrize("place", ["s3://bucket/m.zip", "ftp://host/m.zip", "file:///tmp/m.zip"])
def test_other_urls_are_refused_without_their_secrets(tiny, place):
    secret = place.replace("://", "://me:secret@", 1)
    for call in (lambda: push_model(tiny, secret), lambda: pull_model(secret, "mine")):
        with pytest.raises(UsageError, match="do not travel by such URLs") as caught:
            call()
        assert "secret" not in str(caught.value)
