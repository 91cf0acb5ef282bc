import hashlib
import json
import logging
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.plans import tiny_model, tiny_plan
from voxelry.base.version import version
from voxelry.core.quality_model import Population, QualityModel
from voxelry.errors import ModelError
from voxelry.networks.folder_record import MAJOR, MINOR, RECORD_FILE, FolderRecord, checked_record
from voxelry.networks.weights import load_models, save_ensemble, save_model

FILES = ["plan.yaml", "card.json", "weights.safetensors", "quality.json"]


@pytest.fixture
def folder(tmp_path):
    quality = QualityModel(population=Population(cases=1, labels={}))
    return save_model(replace(tiny_model(tiny_plan()), quality=quality), tmp_path / "m").path


def change_record(folder, change):
    file = folder / RECORD_FILE
    tree = json.loads(file.read_text())
    change(tree)
    file.write_text(json.dumps(tree))


def add_key(folder, name, key):
    """What a later version would have written: another key, and the SHA-256 that goes with it."""
    file = folder / name
    file.write_text(
        file.read_text().replace("{", '{"' + key + '": 1,', 1) if file.suffix == ".json" else f"{key}: 1\n{file.read_text()}"
    )
    content = file.read_bytes()
    known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change_record(folder, lambda tree: tree["files"].update({name: known}))


def test_the_record_holds_what_sha256sum_says(folder):
    tree = json.loads((folder / RECORD_FILE).read_text())
    assert (tree["format"], tree["version"], tree["writer"]) == ("voxelry-model", f"{MAJOR}.{MINOR}", version())
    assert list(tree["files"]) == FILES
    for name, known in tree["files"].items():
        content = (folder / name).read_bytes()
        assert known == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder that each example leaves as it was."""
    quality = QualityModel(population=Population(cases=1, labels={}))
    return save_model(replace(tiny_model(tiny_plan()), quality=quality), tmp_path_factory.mktemp("kept") / "m").path


@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(kept, name, place, bit):
    whole = (kept / name).read_bytes()
    content = bytearray(whole)
    content[int(place * len(content))] ^= 1 << bit
    try:
        (kept / name).write_bytes(content)
        with pytest.raises(ModelError, match=rf"{name}: was changed or damaged"):
            load_models(kept)
    finally:
        (kept / name).write_bytes(whole)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named_with_its_sizes(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(ModelError, match=rf"{name}: {len(content) - 1} bytes, where model.json says {len(content)}"):
        load_models(folder)


def test_a_recorded_file_that_is_gone_and_a_file_that_is_not_recorded(folder):
    kept = (folder / "quality.json").read_bytes()
    (folder / "quality.json").unlink()
    with pytest.raises(ModelError, match=r"quality.json: is missing. Copy the whole folder"):
        load_models(folder)
    (folder / "quality.json").write_bytes(kept)
    change_record(folder, lambda tree: tree["files"].pop("quality.json"))
    with pytest.raises(ModelError, match=r"quality.json: is not in model.json"):
        load_models(folder)


def test_a_plan_changed_on_purpose_is_read_without_the_record(folder):
    plan = folder / "plan.yaml"
    plan.write_text(plan.read_text().replace("overlap: 0.5", "overlap: 0.25"))
    with pytest.raises(ModelError, match=r"delete model\.json"):
        load_models(folder)
    (folder / RECORD_FILE).unlink()
    assert load_models(folder)[0].plan.overlap == 0.25


def test_other_files_may_lie_in_the_folder(folder):
    (folder / "README.md").write_text("mine")
    assert load_models(folder)


def test_a_change_deep_in_an_ensemble_is_noticed(tmp_path):
    save_ensemble([tiny_model(tiny_plan(), seed=seed) for seed in (1, 2)], tmp_path / "e")
    assert set(json.loads((tmp_path / "e" / RECORD_FILE).read_text())["files"]) == {
        "ensemble.yaml", "member_1/model.json", "member_2/model.json",
    }  # fmt: skip
    change_record(tmp_path / "e" / "member_2", lambda tree: tree.update(writer="else"))
    with pytest.raises(ModelError, match=r"member_2.model.json: "):
        load_models(tmp_path / "e")


@pytest.mark.parametrize("files", ["plan.yaml", "model.json"])
@pytest.mark.parametrize("major", [MAJOR + 1, 999])
def test_a_later_major_version_is_refused_with_the_way_out(folder, major, files):
    change_record(folder, lambda tree: tree.update(version=f"{major}.3", writer="9.9", files={files: "in some other form"}))
    with pytest.raises(ModelError, match=rf"format {major}\.3, written by voxelry 9\.9; this voxelry .*Update voxelry"):
        load_models(folder)


@pytest.mark.parametrize("name", ["plan.yaml", "card.json", "quality.json"])
def test_unknown_keys_of_a_later_minor_version_are_left_out_and_said(folder, name, caplog):
    before = load_models(folder)[0]
    add_key(folder, name, "of_tomorrow")
    with pytest.raises(ModelError, match=r"unknown key 'of_tomorrow'"):  # of this version it is a mistake
        load_models(folder)
    change_record(folder, lambda tree: tree.update(version=f"{MAJOR}.{MINOR + 1}", writer="0.9", mirrors=["somewhere"]))
    with caplog.at_level(logging.WARNING):
        after = load_models(folder)[0]
    assert (after.plan, after.card, after.quality) == (before.plan, before.card, before.quality)
    assert "of_tomorrow" in caplog.text
    assert "0.9" in caplog.text


def test_a_wrong_value_of_a_later_minor_version_is_still_refused(folder):
    change_record(folder, lambda tree: tree.update(version=f"{MAJOR}.{MINOR + 1}"))
    add_key(folder, "plan.yaml", "of_tomorrow")
    plan = folder / "plan.yaml"
    plan.write_text(plan.read_text().replace("dimensions: 3", "dimensions: 5"))
    content = plan.read_bytes()
    known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change_record(folder, lambda tree: tree["files"].update({"plan.yaml": known}))
    with pytest.raises(ModelError, match=r"plan.yaml: .*dimensions"):
        load_models(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.pop("files"),
        lambda tree: tree.update(version="one"),
        lambda tree: tree.update(version=1),
        lambda tree: tree.update(format="pickle"),
        lambda tree: tree["files"].update({"card.json": {"bytes": -1, "sha256": "0" * 64}}),
        lambda tree: tree["files"].update({"card.json": {"bytes": 1, "sha256": "nothing"}}),
    ],
)
def test_a_damaged_record_is_one_clear_error(folder, change):
    change_record(folder, change)
    with pytest.raises(ModelError, match=RECORD_FILE):
        load_models(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", "nothing"])
def test_a_record_that_is_no_json(folder, content):
    (folder / RECORD_FILE).write_text(content)
    with pytest.raises(ModelError, match=RECORD_FILE):
        load_models(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "C:/secret", "a\\..\\secret", "member/../../secret"])
def test_a_record_that_leads_outside_is_refused(folder, name):
    known = {"bytes": 1, "sha256": "0" * 64}
    change_record(folder, lambda tree: tree["files"].update({name: known}))
    with pytest.raises(ModelError, match="lies outside"):
        load_models(folder)


def test_a_folder_from_before_records_has_none(folder):
    (folder / RECORD_FILE).unlink()
    assert checked_record(folder, FILES) is None
    assert load_models(folder)


def test_versions_of_this_major_are_compared_by_number():
    assert not FolderRecord(files={}).is_newer
    assert FolderRecord(version=f"{MAJOR}.{MINOR + 10}", files={}).is_newer
