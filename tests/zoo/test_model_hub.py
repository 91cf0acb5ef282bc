import sys
from pathlib import Path

import huggingface_hub
import pytest

from helpers.model_servers import COMMIT, hub
from voxelry.errors import MissingExtraError, ModelError, UsageError
from voxelry.zoo.model_files import files_of
from voxelry.zoo.model_travel import pull_model, push_model

# of the library's own call of httpx, where a warning is no error of ours
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPOSITORY, TOKEN = "me/tiny", "hf_sesame"


@pytest.fixture
def stored(monkeypatch, tmp_path):
    """What the hub holds, and what it was asked."""
    files, log = {".gitattributes": b"*.safetensors filter=lfs"}, []
    with hub(REPOSITORY, files, TOKEN, log) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield files, log


def content(folder):
    return {name: (folder / name).read_bytes() for name in files_of(folder)}


def test_there_and_back(both, stored):
    files, log = stored
    moved = push_model(both, f"hf://{REPOSITORY}")
    assert {name: body for name, body in files.items() if name != ".gitattributes"} == content(both)
    assert moved.source == f"hf://{REPOSITORY}@{COMMIT}"
    assert any("objects/batch" in line for line in log)  # weights go the way of large files
    for number, source in enumerate([f"hf://{REPOSITORY}", moved.source]):
        fetched = pull_model(source, f"mine_{number}")
        assert (fetched.commit, fetched.source) == (COMMIT, moved.source)
        assert content(Path(f"mine_{number}")) == content(both)
        assert sorted(path.name for path in Path(f"mine_{number}").iterdir()) == [
            "ensemble.yaml",
            "member_1",
            "member_2",
            "model.json",
        ]


def test_it_is_called_by_the_repositorys_name(tiny, stored, cache):
    push_model(tiny, f"hf://{REPOSITORY}")
    assert pull_model(f"hf://{REPOSITORY}").place == str(cache / "tiny")


def test_other_files_of_a_repository_are_not_fetched(tiny, stored):
    files, log = stored
    push_model(tiny, f"hf://{REPOSITORY}")
    files |= {"run.py": b"import os", "pytorch_model.bin": b"pickle"}
    log.clear()
    pull_model(f"hf://{REPOSITORY}", "mine")
    assert not any("run.py" in line or "pytorch_model" in line for line in log)
    assert {path.suffix for path in Path("mine").iterdir()} == {".md", ".json", ".yaml", ".safetensors"}


def test_what_was_changed_on_the_hub_is_refused(tiny, stored):
    files, _ = stored
    push_model(tiny, f"hf://{REPOSITORY}")
    files["plan.yaml"] += b"\n"
    with pytest.raises(ModelError, match=r"plan\.yaml: .* bytes, where"):
        pull_model(f"hf://{REPOSITORY}", "mine")
    assert list(Path().iterdir()) == []


def test_a_repository_without_a_model(stored):
    with pytest.raises(ModelError, match="holds no model"):
        pull_model(f"hf://{REPOSITORY}", "mine")


def test_a_revision_that_is_not_there_and_a_wrong_token(tiny, stored, monkeypatch):
    with pytest.raises(ModelError, match=r"hf://me/tiny@v9: .*RevisionNotFound"):
        pull_model(f"hf://{REPOSITORY}@v9", "mine")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    for call in (lambda: pull_model(f"hf://{REPOSITORY}", "mine"), lambda: push_model(tiny, f"hf://{REPOSITORY}")):
        with pytest.raises(ModelError, match="HF_TOKEN") as caught:
            call()
        assert "hf_other" not in str(caught.value)


def test_a_hub_that_is_not_there(tiny, stored, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"hf://me/tiny: "):
        pull_model(f"hf://{REPOSITORY}", "mine")


@pytest.mark.parametrize("place", ["hf://tiny", "hf://", "hf://a/b/c", "hf://a/b c", "hf://me/tiny@"])
def test_no_place_on_the_hub(tiny, place):
    for call in (lambda: push_model(tiny, place), lambda: pull_model(place, "mine"), lambda: pull_model(place)):
        with pytest.raises(UsageError, match="no place on the hub"):
            call()


def test_a_model_is_pushed_to_main(tiny):
    with pytest.raises(UsageError, match="branch 'main'"):
        push_model(tiny, "hf://me/tiny@v1")


def test_without_the_extra(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: push_model(tiny, "hf://me/tiny"), lambda: pull_model("hf://me/tiny", "mine")):
        with pytest.raises(MissingExtraError, match=r"voxelry\[hub\]"):
            call()
