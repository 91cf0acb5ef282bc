import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.errors import ModelError
from voxelry.zoo.model_files import LARGEST_MODEL, MOST_FILES, check_names, files_of, is_model_file

FILES = ["README.md", "card.json", "model.json", "plan.yaml", "weights.safetensors"]


def test_the_files_of_a_model_and_of_an_ensemble(tiny, both):
    assert files_of(tiny) == FILES
    assert set(files_of(both)) == {"ensemble.yaml", "model.json"} | {f"member_{n}/{name}" for n in (1, 2) for name in FILES[1:]}


@given(st.text(alphabet="a./\\:~_-\0 ", max_size=20))
def test_no_name_leads_outside(name):
    for file in ("plan.yaml", "LICENSE"):
        path = f"{name}/{file}"
        if is_model_file(path):
            assert not any(bad in path for bad in ("..", "//", "\\", ":", "\0", "~"))
            assert not path.startswith(("/", "."))


@pytest.mark.parametrize(
    "name", ["run.py", "weights.pt", "plan.yaml.exe", ".hidden/plan.yaml", "a/b/c/plan.yaml", "", "plan.yaml/", "PLAN.YAML"]
)
def test_other_files_are_none(name):
    assert not is_model_file(name)


@pytest.mark.parametrize("name", ["LICENSE", "LICENCE.txt", "NOTICE.md", "previous/plan.yaml", "member_1/previous/card.json"])
def test_licences_and_first_stages_travel(name):
    assert is_model_file(name)


def test_other_files_stay_behind_and_links_are_refused(tiny, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(tiny, folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "sub").mkdir()
    (folder / "sub" / "scan.nii").write_text("mine")
    assert files_of(folder) == FILES
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match=r"README.md: a link"):
        files_of(folder)


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ([("plan.yaml", 1), ("run.py", 1)], "'run.py', which no model folder has"),
        ([("plan.yaml", 1), ("../plan.yaml", 1)], "no model folder has"),
        ([("plan.yaml", LARGEST_MODEL), ("card.json", 1)], "A model has at most"),
        ([("plan.yaml", 1)] + [(f"m{n}/plan.yaml", 1) for n in range(MOST_FILES)], "A model has at most"),
        ([("README.md", 1)], "holds no model"),
        ([], "holds no model"),
    ],
)
def test_what_cannot_be_a_model_is_refused(files, match):
    with pytest.raises(ModelError, match=match):
        check_names(files, "there")
