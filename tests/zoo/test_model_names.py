import logging
import shutil
from pathlib import Path

import pytest

from voxelry.errors import ModelError
from voxelry.zoo.model_names import CACHE_VARIABLE, find_model, model_cache, named_models


@pytest.fixture
def named(starters, cache, tiny):
    """Two starter models, and a model in the cache."""
    for place in (starters / "hippocampus", starters / "lungs", cache / "mine"):
        shutil.copytree(tiny, place)


def test_names_of_starters_and_of_the_cache(named, starters, cache):
    assert named_models() == {"hippocampus": starters / "hippocampus", "lungs": starters / "lungs", "mine": cache / "mine"}
    assert (find_model("lungs"), find_model(Path("mine"))) == (starters / "lungs", cache / "mine")


def test_a_starters_name_is_nobody_elses(named, starters, cache, tiny):
    shutil.copytree(tiny, cache / "lungs")
    assert find_model("lungs") == starters / "lungs"


def test_folders_that_hold_no_model_have_no_name(named, starters):
    (starters / "empty").mkdir()
    (starters / "file").write_text("")
    assert set(named_models()) == {"hippocampus", "lungs", "mine"}


def test_a_model_folder_here_is_taken_first_and_said(named, tiny, caplog):
    shutil.copytree(tiny, "lungs")
    with caplog.at_level(logging.WARNING):
        assert find_model("lungs") == Path("lungs")
    assert "the model folder lungs here is taken" in caplog.text


def test_anything_else_of_the_name_here_is_passed_over_and_said(named, starters, caplog):
    Path("lungs").mkdir()
    Path("lungs", "scan.nii.gz").write_text("")
    with caplog.at_level(logging.WARNING):
        assert find_model("lungs") == starters / "lungs"
    assert "lungs here is no model folder" in caplog.text


@pytest.mark.parametrize("path", ["./lungs", "runs/lungs", "lungs/", "../lungs", "/lungs", "."])
def test_a_path_is_a_path(named, path, caplog):
    if path != "lungs/":
        assert find_model(path) == Path(path)
    assert caplog.text == ""


def test_a_folder_of_no_model_and_no_known_name_is_left_to_loading(named):
    Path("run").mkdir()
    assert find_model("run") == Path("run")


@pytest.mark.parametrize(
    ("name", "hint"), [("hipocampus", "'hippocampus'"), ("Lungs", "'lungs'"), ("spleen", "Known: hippocampus, lungs, mine")]
)
def test_an_unknown_name_is_refused_with_the_near_ones(named, name, hint):
    with pytest.raises(ModelError, match=hint) as caught:
        find_model(name)
    assert "voxelry models" in str(caught.value)


def test_without_any_model_the_remedy_still_says_where_names_are(starters):
    with pytest.raises(ModelError, match=r"no model of that name\. 'voxelry models' lists"):
        find_model("lungs")


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert model_cache() == tmp_path / "cache"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert model_cache() == Path("/caches/voxelry/models")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert model_cache() == Path.home() / ".cache" / "voxelry" / "models"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert model_cache() == Path("/local/voxelry/models")
