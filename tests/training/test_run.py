import json
import time
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch

from helpers.kidneys import LABELS, PLAN, config, kidneys, run
from voxelry.base.files import read_yaml, write_yaml
from voxelry.base.version import version
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.plan import Plan
from voxelry.core.volume import LabelMap
from voxelry.datasets.manifest import Manifest
from voxelry.errors import ConfigError, ManifestError, TrainingError, UsageError
from voxelry.inference.cleanup import clean
from voxelry.inference.predictor import Prediction
from voxelry.networks.weights import load_model_folder
from voxelry.training import fit, full_volume_validation
from voxelry.training import single as module
from voxelry.training.loop import TrainingLoop
from voxelry.training.options import RunOptions
from voxelry.training.sampler import Sampler
from voxelry.training.setup import check_sides, label_volumes, labelled_cases, make_plans
from voxelry.training.single import with_clean_up


@pytest.fixture
def manifest(tmp_path):
    return kidneys(tmp_path)


def test_a_run_from_files_to_scores(manifest, tmp_path):
    result, stages = run(manifest, tmp_path / "run", config())
    # left and right are told apart, whatever the stored orientation
    assert result.scores.mean_dice > 0.8
    assert [m.step for m in result.history][-1] == 60
    names = {file.name for file in (tmp_path / "run").glob("[!.]*")}
    assert names == {
        "recipe.yaml",
        "fingerprint.json",
        "plan.yaml",
        "cache",
        "checkpoint.pt",
        "history.jsonl",
        "losses.jsonl",
        "model",
        "predictions",
        "split.json",
        "validation.csv",
        "validation.json",
    }
    assert read_yaml(tmp_path / "run" / "recipe.yaml")["steps"] == 60
    assert json.loads((tmp_path / "run" / "validation.json").read_text())
    model = load_model_folder(tmp_path / "run" / "model")
    assert (model.card.name, model.card.version, model.card.licence) == ("tiny", version(), "CC0-1.0")
    assert model.labels == manifest.card.table
    assert model.card.training["steps"] == 60
    assert model.card.training["clean_up"]["cases"] == 1
    assert model.card.fingerprint.cases == 3
    assert ("looking at cases", 3, 3) in stages
    assert ("validating", 1, 1) in stages


def test_a_run_learns_from_the_training_cases_alone_and_is_measured_on_the_validation_cases_alone(
    manifest, tmp_path, monkeypatch
):
    """What patches are drawn from and whole cases are read, by the sampler's seed: that of validation is one more."""
    drawn, validated, settings = set(), set(), config(steps=8, validations=2)
    locate, load = Sampler._location, full_volume_validation.load_case

    def spy(sampler, number, slot):
        case, start = locate(sampler, number, slot)
        assert (sampler.augment is None) == (sampler.seed != settings.seed)  # validation patches are seen as they are
        drawn.add(("learnt" if sampler.seed == settings.seed else "measured", case.id))
        return case, start

    monkeypatch.setattr(Sampler, "_location", spy)
    monkeypatch.setattr(full_volume_validation, "load_case", lambda case, data: (validated.add(case.id), load(case, data))[1])
    result, _ = run(manifest, tmp_path / "run", settings)
    assert drawn == {("learnt", "case0"), ("learnt", "case1"), ("learnt", "case2"), ("measured", "case3")}
    assert validated == set(result.scores.cases) == {"case3"}
    assert result.model.card.training["cases"] == 3


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(manifest, tmp_path):
    settings = config(steps=8, validations=4)
    whole, _ = run(manifest, tmp_path / "whole", settings)

    class CrashError(Exception):
        pass

    def crash(progress):
        if progress.step == 5:
            raise CrashError

    with pytest.raises(CrashError):
        run(manifest, tmp_path / "parts", settings, on_step=crash)
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


def test_a_plan_that_the_user_edited_is_taken_as_it_is(manifest, tmp_path):
    made = run(manifest, tmp_path / "run", config(steps=1))[0].model.plan
    edited = made.model_copy(update={"batch_size": 1, "overlap": 0.25})
    assert run(manifest, tmp_path / "other", config(steps=1, plan={}), plan=edited)[0].model.plan == edited
    with pytest.raises(ConfigError, match=r"plan.batch_size: \d+, the plan has 1"):
        run(manifest, tmp_path / "third", config(steps=1), plan=edited)
    with pytest.raises(ConfigError, match="the plan is for 3D images with channels CT; the data are 3D with image"):
        run(
            manifest,
            tmp_path / "third",
            config(steps=1, plan={}),
            plan=Plan.model_validate(edited.model_dump() | {"channels": ("CT",)}),
        )


def test_training_goes_on_from_another_model(manifest, tmp_path):
    first = run(manifest, tmp_path / "first", config(steps=40))[0]
    after = run(manifest, tmp_path / "after", config(steps=1, plan={}, initial=str(first.path)))[0]
    assert after.model.plan.network == first.model.plan.network  # not what would be planned now
    fresh = run(manifest, tmp_path / "fresh", config(steps=1))[0]
    assert after.history[0].loss < 0.7 * fresh.history[0].loss


def test_how_much_of_each_label_a_case_holds(manifest):
    table = LabelTable.model_validate({"labels": LABELS})
    array = np.zeros((4, 4, 4), np.uint8)
    array[0, 0, :3] = 6
    assert label_volumes(LabelMap.of(array, Geometry((4, 4, 4), np.diag([1.0, 2, 2, 1])), table)) == {"left": 0.0, "right": 12.0}


def test_several_configurations_need_folds(manifest):
    with pytest.raises(ConfigError, match=r"compared by cross-validation. Give 'folds' too"):
        make_plans(RunOptions(config(configurations="auto"), manifest), None)


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
        return Prediction(clean(LabelMap.of(array, volume.geometry, table), self.rules), {})


def test_rules_that_help_in_validation_are_kept_with_the_model(manifest, tmp_path, monkeypatch):
    trained = run(manifest, tmp_path / "run", config(steps=1))[0].model
    trained = replace(trained, card=trained.card.model_copy(update={"clean_up": ()}))
    monkeypatch.setattr(module, "Predictor", Specked)
    cases, told = manifest.split("train"), []
    options = RunOptions(config(), manifest, progress=lambda *call: told.append(call))
    model, scores = with_clean_up(options, trained, cases, tmp_path / "cleaned")
    assert model.card.clean_up == tuple(CleanUp(label=twin, keep_largest=True) for twin in ("left", "right"))
    record = model.card.training["clean_up"]
    assert record["cases"] == 3
    assert record["mean_dice"]["left"]["before"] < record["mean_dice"]["left"]["after"] == 1
    assert scores.mean_dice == model.card.training["mean_dice"] == 1  # of the model as it is kept
    assert load_model_folder(tmp_path / "cleaned" / "model").card == model.card
    assert told.count(("validating", 3, 3)) == 1  # each case is segmented once


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


def test_preparation_is_part_of_the_time_budget(manifest, tmp_path, monkeypatch):
    gone = []
    prepare_cases, run_loop = fit.prepare_cases, TrainingLoop.run

    def slow(*given):
        time.sleep(0.3)
        return prepare_cases(*given)

    def watched(self, on_step, spent=0.0):
        gone.append(spent)
        return run_loop(self, on_step, spent=spent)

    monkeypatch.setattr(fit, "prepare_cases", slow)
    monkeypatch.setattr(TrainingLoop, "run", watched)
    run(manifest, tmp_path / "run", config(steps=1))
    assert gone[0] > 0.6  # training cases, and validation cases
