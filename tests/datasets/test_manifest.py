from pathlib import Path

import pytest
import yaml

from voxelry.datasets.manifest import load_manifest
from voxelry.errors import ConfigError, ManifestError, MissingFileError, SplitLeakError

CARD = {"name": "set", "modality": "CT", "labels": [{"value": 1, "name": "liver"}]}


def write(folder: Path, cases, **more) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "set.yaml"
    path.write_text(yaml.safe_dump(CARD | {"cases": cases} | more))
    return path


def rows(folder: Path, count: int, **more) -> list[dict]:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i}.nii").touch()
    return [{"id": f"c{i}", "images": [f"{i}.nii"], "labels": f"{i}.nii"} | more for i in range(count)]


def test_unsplit_cases_are_shared_out_by_the_rule_of_the_card(tmp_path):
    listed = rows(tmp_path, 10)
    assert len(load_manifest(write(tmp_path, listed)).split("val")) == 2
    manifest = load_manifest(write(tmp_path, listed, split={"val": 0.5, "seed": 3}))
    assert len(manifest.split("train")) == len(manifest.split("val")) == 5
    assert manifest.split("test") == ()
    assert manifest.case("c3").images == (tmp_path / "3.nii",)


def test_the_root_is_the_argument_else_the_manifests_folder_else_the_environment(tmp_path, monkeypatch):
    there, named = tmp_path / "there", tmp_path / "named"
    listed = rows(there, 2)
    path = write(tmp_path / "cards", listed)
    assert load_manifest(path, root=there).root == there
    with pytest.raises(ManifestError, match="4 files of 2 cases are missing"):
        load_manifest(path)
    monkeypatch.setenv("VOXELRY_DATA", str(there))
    assert load_manifest(path).root == there
    rows(tmp_path / "cards", 2)
    assert load_manifest(path).root == tmp_path / "cards"
    with pytest.raises(MissingFileError, match="named: no such folder"):
        load_manifest(path, root=named)


def test_a_leaking_split_is_refused(tmp_path):
    first, second = rows(tmp_path, 2)
    path = write(tmp_path, [first | {"group": "p", "split": "train"}, second | {"group": "p", "split": "val"}])
    with pytest.raises(SplitLeakError, match=r"set\.yaml: patient 'p'"):
        load_manifest(path)


def test_a_mistyped_key_names_the_nearest(tmp_path):
    with pytest.raises(ManifestError, match=r"unknown key 'case'\. Did you mean 'cases'"):
        load_manifest(write(tmp_path, [], case=[]))


def test_images_that_do_not_fit_the_channels(tmp_path):
    (row,) = rows(tmp_path, 1)
    with pytest.raises(ManifestError, match="case 'c0' has 2 image files for 3 channels"):
        load_manifest(write(tmp_path, [row | {"images": ["0.nii", "0.nii"]}], channels=["a", "b", "c"]))


def test_unknown_split_and_case(tmp_path):
    manifest = load_manifest(write(tmp_path, rows(tmp_path, 2)))
    with pytest.raises(ManifestError, match=r"'vall'\. Did you mean 'val'"):
        manifest.split("vall")
    with pytest.raises(ManifestError, match="no case 'c9'"):
        manifest.case("c9")


def test_files_that_are_no_manifest(tmp_path):
    with pytest.raises(MissingFileError, match=r"no\.yaml"):
        load_manifest(tmp_path / "no.yaml")
    with pytest.raises(MissingFileError, match=r"dataset\.json"):
        load_manifest(tmp_path)
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"bad\.yaml: not valid YAML"):
        load_manifest(tmp_path / "bad.yaml")


def test_a_card_without_cases(tmp_path):
    assert load_manifest(write(tmp_path, [])).cases == ()
