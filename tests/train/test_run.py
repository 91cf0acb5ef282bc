import json
from dataclasses import replace
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from voxelry.config import Config
from voxelry.errors import ConfigError, ManifestError, TrainingError, UsageError
from voxelry.files import read_yaml, write_yaml
from voxelry.labels import LabelTable
from voxelry.manifest.card import Card
from voxelry.manifest.cases import Case
from voxelry.manifest.manifest import Manifest
from voxelry.model import CleanUp
from voxelry.networks.weights import load_model_folder
from voxelry.predict.cleanup import clean
from voxelry.train import run as module
from voxelry.train.run import check_sides, labelled_cases, train_model, with_clean_up
from voxelry.volume import LabelMap

LABELS = [
    {"value": 2, "name": "left", "mirror": "right"},
    {"value": 6, "name": "right", "mirror": "left"},
]
SETTINGS = {"manifest": "tiny.yaml", "device": "cpu", "mixed_precision": "off", "seed": 3, "steps": 60, "learning_rate": 0.01}
PLAN = {"patch_size": (16, 16, 12), "features": (4, 8, 8), "batch_size": 2}
RAS = nibabel.Nifti1Image(np.zeros((16, 16, 12)), np.diag([1.0, 1.0, 1.5, 1.0]))


def save(array, codes, path):
    """A RAS array stored along other axes."""
    change = ornt_transform(io_orientation(RAS.affine), axcodes2ornt(codes))
    stored = nibabel.orientations.apply_orientation(array, change)
    nibabel.save(nibabel.Nifti1Image(stored, RAS.affine @ inv_ornt_aff(change, array.shape)), path)
    return path


@pytest.fixture
def manifest(tmp_path):
    """Four scans stored along four orders of axes: the right kidney lies at larger x; nothing else tells them apart."""
    cases = []
    for number, (codes, split) in enumerate([("RAS", "train"), ("LPS", "train"), ("PIR", "train"), ("SLA", "val")]):
        rng = np.random.default_rng(number)
        y, z = int(rng.integers(2, 7)), int(rng.integers(1, 5))
        labels = np.zeros((16, 16, 12), np.uint8)
        labels[1:6, y : y + 6, z : z + 5] = 2
        labels[10:15, y : y + 6, z : z + 5] = 6
        image = (300 + 400 * (labels > 0) + rng.normal(0, 40, labels.shape)).astype(np.int16)
        case = f"case{number}"
        files = save(image, codes, tmp_path / f"{case}.nii.gz"), save(labels, codes, tmp_path / f"{case}_seg.nii.gz")
        cases.append(Case(case, (files[0],), labels=files[1], group=case, split=split))
    card = Card.model_validate({"name": "tiny", "modality": "MR", "labels": LABELS, "licence": "CC0-1.0"})
    return Manifest(card, tuple(cases), tmp_path, tmp_path / "tiny.yaml")


def config(**changes):
    return Config.model_validate(SETTINGS | {"plan": PLAN} | changes)


def run(manifest, folder, settings, *, resume=False, report=lambda _: None):
    stages = []
    result = train_model(
        settings, manifest, folder, version="0.0", resume=resume, stage=lambda *told: stages.append(told), report=report
    )
    return result, stages


def test_a_run_from_files_to_scores(manifest, tmp_path):
    result, stages = run(manifest, tmp_path / "run", config())
    # left and right are told apart, whatever the stored orientation
    assert result.scores.mean_dice > 0.8
    assert [m.step for m in result.history][-1] == 60
    names = {file.name for file in (tmp_path / "run").iterdir()}
    assert names == {
        "recipe.yaml",
        "fingerprint.json",
        "plan.yaml",
        "cache",
        "checkpoint.pt",
        "history.jsonl",
        "model",
        "validation.json",
    }
    assert read_yaml(tmp_path / "run" / "recipe.yaml")["steps"] == 60
    assert json.loads((tmp_path / "run" / "validation.json").read_text())
    model = load_model_folder(tmp_path / "run" / "model")
    assert (model.card.name, model.card.version, model.card.licence) == ("tiny", "0.0", "CC0-1.0")
    assert model.labels == manifest.card.table
    assert model.card.training["steps"] == 60
    assert model.card.training["clean_up"]["cases"] == 1
    assert model.card.fingerprint.cases == 3
    assert ("looking at cases", 3, 3) in stages
    assert ("validating", 1, 1) in stages


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(manifest, tmp_path):
    settings = config(steps=8, validations=4)
    whole, _ = run(manifest, tmp_path / "whole", settings)

    class CrashError(Exception):
        pass

    def crash(progress):
        if progress.step == 5:
            raise CrashError

    with pytest.raises(CrashError):
        run(manifest, tmp_path / "parts", settings, report=crash)
    assert not (tmp_path / "parts" / "model").exists()
    rest, stages = run(manifest, tmp_path / "parts", settings, resume=True)
    assert not any(stage == "looking at cases" for stage, _, _ in stages)
    assert rest.model.weights.keys() == whole.model.weights.keys()
    assert all(torch.equal(rest.model.weights[name], whole.model.weights[name]) for name in whole.model.weights)


def test_a_folder_with_a_run_is_not_overwritten(manifest, tmp_path):
    run(manifest, tmp_path / "run", config(steps=1))
    with pytest.raises(UsageError, match=r"holds a run already. Add --resume"):
        run(manifest, tmp_path / "run", config(steps=1))
    with pytest.raises(TrainingError, match="another recipe"):
        run(manifest, tmp_path / "run", config(steps=2), resume=True)


def test_a_plan_edited_between_start_and_resume_is_refused(manifest, tmp_path):
    run(manifest, tmp_path / "run", config(steps=1))
    tree = read_yaml(tmp_path / "run" / "plan.yaml")
    tree["network"]["features"] = [4, 8, 12]
    write_yaml(tmp_path / "run" / "plan.yaml", tree)
    with pytest.raises(TrainingError, match=r"another network"):
        run(manifest, tmp_path / "run", config(steps=1), resume=True)


def test_nothing_to_resume_from(manifest, tmp_path):
    with pytest.raises(TrainingError, match=r"no checkpoint.pt to resume from"):
        run(manifest, tmp_path / "run", config(), resume=True)


class Specked:
    """Stands for a predictor: the truth and a speck far from the left kidney, cleaned by the model's rules."""

    def __init__(self, model, device):
        self.rules = model.card.clean_up

    def predict(self, volume):
        array = np.asarray(nibabel.load(volume.source.files[0].replace(".nii.gz", "_seg.nii.gz")).dataobj).astype(np.uint8)
        array[np.unravel_index(np.flatnonzero(array == 0)[-1], array.shape)] = 2
        table = LabelTable.model_validate({"labels": LABELS})
        return SimpleNamespace(labels=clean(LabelMap.of(array, volume.geometry, table), self.rules))


def test_rules_that_help_in_validation_are_kept_with_the_model(manifest, tmp_path, monkeypatch):
    trained = run(manifest, tmp_path / "run", config(steps=1))[0].model
    trained = replace(trained, card=trained.card.model_copy(update={"clean_up": ()}))
    monkeypatch.setattr(module, "Predictor", Specked)
    cases, told = manifest.split("train"), []
    model, scores = with_clean_up(trained, tmp_path / "cleaned", manifest, cases, "cpu", lambda *stage: told.append(stage))
    assert model.card.clean_up == (CleanUp(label="left", keep_largest=True),)
    record = model.card.training["clean_up"]
    assert record["cases"] == 3
    assert record["mean_dice"]["left"]["before"] < record["mean_dice"]["left"]["after"] == 1
    assert scores.mean_dice == 1  # of the model as it is kept
    assert load_model_folder(tmp_path / "cleaned").card == model.card
    assert len(told) == 2 * len(cases)


def test_a_set_without_validation_cases_has_no_scores(manifest, tmp_path):
    bare = Manifest(manifest.card, manifest.cases[:2], manifest.root, manifest.path)
    result, _ = run(bare, tmp_path / "run", config(steps=2))
    assert result.scores is None
    assert json.loads((tmp_path / "run" / "validation.json").read_text()) == {}


def test_a_split_without_labels_is_refused(manifest):
    with pytest.raises(ManifestError, match=r"tiny.yaml: no labelled cases in split 'test'"):
        labelled_cases(manifest, "test")


def test_flips_that_could_not_tell_left_from_right_are_refused(manifest, tmp_path):
    stored = PLAN | {"orientation": "stored"}
    same = Manifest(manifest.card, manifest.cases[:1], manifest.root, manifest.path)
    with pytest.raises(ConfigError, match=r"could not tell left from right. Set plan.orientation to RAS"):
        run(same, tmp_path / "run", config(plan=stored, augment={"flip_axes": (0,)}))
    assert not (tmp_path / "run").exists()
    result, _ = run(same, tmp_path / "other", config(plan=stored, steps=1))
    check_sides(result.model.plan, config(), manifest)
