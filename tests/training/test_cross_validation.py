import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.kidneys import PLAN, config, kidneys, run
from helpers.plans import tiny_plan
from voxelry.core.label_sequence import LabelSequence
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.errors import ConfigError, TrainingError, UsageError
from voxelry.inference.predictor import Predictor
from voxelry.networks.weights import load_models
from voxelry.planning.sequence_survey import SequenceSurvey
from voxelry.training import cross_validation as module
from voxelry.training.cross_validation import CrossValidation
from voxelry.training.folds import make_folds
from voxelry.training.options import RunOptions

STEPS = {"steps": 3, "validations": 1, "folds": 2}


class CrashError(Exception):
    pass


def crash_after(count):
    seen = []

    def report(_):
        seen.append(1)
        if len(seen) == count:
            raise CrashError

    return report


def same(one, other):
    return [a.weights.keys() == b.weights.keys() and all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)
            for a, b in zip(one, other, strict=True)]  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return kidneys(tmp_path_factory.mktemp("kidneys"))


@pytest.fixture(scope="module")
def whole(manifest, tmp_path_factory):
    """An uninterrupted cross-validation of two configurations."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return run(manifest, folder, config(configurations=("2d", "3d"), plan=PLAN | {"patch_size": None}, **STEPS))


# A fold never sees its validation patients


class Watched:
    """Stands for training: keeps what each network was given, and what it could have learnt from."""

    def __init__(self, monkeypatch):
        self.tasks = {}
        monkeypatch.setattr(module, "fit", self.fit)
        monkeypatch.setattr(module, "predict_cases", lambda *_: None)
        monkeypatch.setattr(module, "score_cases", lambda *_, **__: None)
        monkeypatch.setattr(module, "track_result", lambda *_: None)
        monkeypatch.setattr(module, "save_validation", lambda *given: (given[1] / "validation.json").touch())
        monkeypatch.setattr(CrossValidation, "model", lambda self, name, fold: (name, fold))

    def fit(self, options, task, *, resume, spent):
        task.folder.mkdir(parents=True, exist_ok=True)
        self.tasks[task.folder.parent.name, task.folder.name] = task
        return None, None


@settings(max_examples=25)
@given(groups=st.lists(st.integers(0, 7).map(str), min_size=4, max_size=16), k=st.integers(2, 4), seed=st.integers(0, 9))
def test_a_fold_never_sees_its_validation_patients(groups, k, seed, tmp_path_factory):
    if len(set(groups)) < k:
        return
    cases = [Case(f"c{n}", (Path("a"),), labels=Path("b"), group=group, split="train") for n, group in enumerate(groups)]
    folder = tmp_path_factory.mktemp("run")
    plans = {name: SimpleNamespace(regions=(), sequences=()) for name in ("3d_lowres", "3d_cascade")}
    with pytest.MonkeyPatch.context() as patch:
        watched = Watched(patch)
        data = SimpleNamespace(card=SimpleNamespace(table=None))
        options = RunOptions(config(), data)
        CrossValidation(options, folder, None, plans, make_folds(cases, k, seed), cases, 0.0).train(range(k))
    patients = {case.id: case.group for case in cases}
    learnt, judged = defaultdict(set), defaultdict(list)
    for (name, fold), task in watched.tasks.items():
        learnt[name, fold] = {case.group for case in task.training}
        judged[name] += [case.id for case in task.validation]
        assert not learnt[name, fold] & {case.group for case in task.validation}
    assert all(sorted(ids) == sorted(patients) for ids in judged.values())  # each case is judged once
    for (name, _), task in watched.tasks.items():
        if name == "3d_cascade":
            # what a first stage found in a case comes from a network that had not seen the patient; also at inference
            for case in (*task.training, *task.validation):
                place = task.first_stage_masks.store(case).folder
                assert case.group not in learnt["3d_lowres", place.parent.name]
            assert not learnt["3d_lowres", f"fold_{task.first_stage[1]}"] & {case.group for case in task.validation}


def test_what_is_usual_in_rows_of_labels_comes_from_a_folds_own_training(manifest, tmp_path):
    """Names of held-out objects are not chosen by what their own references show."""
    row = LabelSequence(name="kidneys", labels=("left", "right"))
    plans = {"3d": tiny_plan(sequences=(row,))}
    data = replace(manifest, cases=tuple(replace(case, split="train") for case in manifest.cases))
    with pytest.MonkeyPatch.context() as patch:
        watched = Watched(patch)
        folds = make_folds(data.cases, 2, 0)
        CrossValidation(RunOptions(config(), data), tmp_path, None, plans, folds, data.cases, 0.0).train(range(2))
    for task in watched.tasks.values():
        survey = SequenceSurvey((row,))
        for case in task.training:
            survey.add(load_case(case, data)[1])
        assert task.plan.sequences == survey.result()
        assert task.plan.sequences[0].cases == 2


# Whole runs


def test_a_cross_validation_ends_with_an_ensemble_scored_on_every_case(whole, manifest):
    result, _ = whole
    folder = result.folder
    assert set(result.scores.cases) == {case.id for case in manifest.cases}
    assert set(result.histories) == {f"{name}, fold {fold}" for name in ("2d", "3d") for fold in (0, 1)}
    choice = json.loads((folder / "choice.json").read_text())
    assert list(choice["mean_dice"]) == ["2d", "3d", "2d+3d"]
    best = max(choice["mean_dice"], key=choice["mean_dice"].get)
    assert choice["mean_dice"][choice["chosen"]] == pytest.approx(choice["mean_dice"][best], abs=1e-6)
    models = load_models(result.path)
    assert len(models) == 2 * len(choice["chosen"].split("+"))
    card = (result.path / "README.md").read_text()
    for told in ("## Intended use", "## Choice of configuration", "2d+3d", "## Limits", "CC0-1.0", "| left |", "held-out cases"):
        assert told in card
    rows = (folder / "validation.csv").read_text().splitlines()
    assert len(rows) == 1 + len(manifest.cases) * 2


def test_every_case_is_predicted_by_networks_that_had_not_seen_it(whole, manifest):
    folder = whole[0].folder
    for fold, ids in enumerate(json.loads((folder / "folds.json").read_text())["folds"]):
        model = load_models(folder / "3d" / f"fold_{fold}" / "model")
        kept = {file.stem for file in (folder / "3d" / f"fold_{fold}" / "predictions").iterdir()}
        assert kept == set(ids)
        volume, _ = load_case(manifest.case(ids[0]), manifest)
        found = Predictor(model, "cpu").predict(volume).labels
        with np.load(folder / "3d" / f"fold_{fold}" / "predictions" / f"{ids[0]}.npz") as stored:
            np.testing.assert_array_equal(stored["labels"], found.layers)


def test_a_killed_run_goes_on_and_finished_folds_are_not_repeated(manifest, tmp_path):
    asked = config(**STEPS)
    uncut, _ = run(manifest, tmp_path / "uncut", asked)
    with pytest.raises(CrashError):
        run(manifest, tmp_path / "cut", asked, on_step=crash_after(4))  # in the second fold
    with pytest.raises(UsageError, match=r"holds a run already. Add --resume"):
        run(manifest, tmp_path / "cut", asked)
    steps = []
    rest, stages = run(manifest, tmp_path / "cut", asked, on_step=lambda told: steps.append(told.step), resume=True)
    assert steps == [1, 2, 3]  # nothing had been kept of the second fold, and all of the first
    assert not any(stage == "looking at cases" for stage, _, _ in stages)
    assert all(same(rest.models, uncut.models))
    assert rest.scores.mean_dice == uncut.scores.mean_dice


def test_folds_trained_one_by_one_are_joined(manifest, tmp_path):
    asked = config(**STEPS)
    uncut, _ = run(manifest, tmp_path / "uncut", asked)
    for fold in (1, 0):
        alone, _ = run(manifest, tmp_path / "parts", asked, fold=fold)
        assert alone.path == tmp_path / "parts" / "3d" / f"fold_{fold}" / "model"
        assert set(alone.scores.cases) == set(json.loads((tmp_path / "parts" / "folds.json").read_text())["folds"][fold])
    steps = []
    joined, _ = run(manifest, tmp_path / "parts", asked, on_step=steps.append, resume=True)
    assert not steps
    assert all(same(joined.models, uncut.models))
    with pytest.raises(UsageError, match=r"fold 2 of 2. Folds are counted from 0 to 1"):
        run(manifest, tmp_path / "parts", asked, fold=2)


def test_a_cascade_learns_from_what_its_first_stage_found(manifest, tmp_path):
    small = PLAN | {"patch_size": (8, 8, 4), "features": (4, 8)}
    asked = config(configurations=("3d_cascade",), plan=small | {"network": "unet"}, **STEPS)
    with pytest.raises(TrainingError, match="fold 1 of 3d_lowres is not finished"):
        run(manifest, tmp_path / "run", asked, fold=0)
    result, _ = run(manifest, tmp_path / "run", asked, resume=True)
    assert list(json.loads((tmp_path / "run" / "choice.json").read_text())["mean_dice"]) == [
        "3d_lowres", "3d_cascade", "3d_lowres+3d_cascade",
    ]  # fmt: skip
    second = load_models(tmp_path / "run" / "3d_cascade" / "fold_0" / "model")[0]
    first = load_models(tmp_path / "run" / "3d_lowres" / "fold_0" / "model")[0]
    assert all(same([second.previous], [first]))
    assert len(result.scores.cases) == 4


def test_a_budget_is_shared_by_all_networks(manifest, tmp_path):
    result, _ = run(manifest, tmp_path / "run", config(**STEPS), time_budget=4.0)
    assert "time_budget: 2.0" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert result.seconds < 30


def test_given_folds_are_honoured(manifest, tmp_path):
    given = {"seed": None, "folds": [["case3"], ["case0", "case1", "case2"]]}
    (tmp_path / "mine.json").write_text(json.dumps(given))
    run(manifest, tmp_path / "run", config(**STEPS | {"folds": str(tmp_path / "mine.json"), "steps": 1}), fold=0)
    assert json.loads((tmp_path / "run" / "folds.json").read_text()) == given
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "folds.json").write_text(json.dumps(given))
    with pytest.raises(ConfigError, match="2 folds, the recipe has 3"):
        run(manifest, tmp_path / "other", config(**STEPS | {"folds": 3}))
    run(manifest, tmp_path / "other", config(**STEPS | {"steps": 1}), fold=0)
    assert json.loads((tmp_path / "other" / "folds.json").read_text()) == given


def test_cases_that_no_fold_holds_out_are_learnt_and_not_scored(manifest, tmp_path):
    """nnU-Net's splits may have cases in every fold's `train` and in no `val`."""
    ids = [case.id for case in manifest.cases]
    splits = [{"train": [id for id in ids if id != held_out], "val": [held_out]} for held_out in ids[:2]]
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    recipe = config(**STEPS | {"folds": str(tmp_path / "splits_final.json")})
    result, _ = run(manifest, tmp_path / "run", recipe)
    assert list(result.scores.cases) == ids[:2]
    assert [model.card.training["cases"] for model in result.models] == [3, 3]
    assert json.loads((tmp_path / "run" / "folds.json").read_text())["always_trained"] == ids[2:]
    resumed, _ = run(manifest, tmp_path / "run", recipe, resume=True)
    assert list(resumed.scores.cases) == ids[:2]
    small = PLAN | {"patch_size": (8, 8, 4), "features": (4, 8), "network": "unet"}
    with pytest.raises(ConfigError, match=r"a cascade's second stage learns from predictions for held-out cases.*'case2'"):
        run(
            manifest,
            tmp_path / "cascade",
            config(**STEPS | {"folds": recipe.folds, "configurations": ("3d_cascade",), "plan": small}),
        )


def test_what_a_cross_validation_refuses(manifest, tmp_path):
    with pytest.raises(TrainingError, match="no run to resume"):
        run(manifest, tmp_path / "run", config(**STEPS), resume=True)
    with pytest.raises(UsageError, match="fold 0 of a run without folds"):
        run(manifest, tmp_path / "run", config(steps=1), fold=0)
    assert not (tmp_path / "run").exists()
    run(manifest, tmp_path / "run", config(**STEPS | {"steps": 1}), fold=0)
    with pytest.raises(TrainingError, match=r"began with another recipe \(seed: \d+, now \d+\)"):
        run(manifest, tmp_path / "run", config(**STEPS | {"steps": 1, "seed": 9}), fold=1)


def test_a_patient_without_a_split_is_not_taken_in(manifest, tmp_path):
    fewer = replace(
        manifest, cases=tuple(replace(case, split=None if case.id == "case1" else case.split) for case in manifest.cases)
    )
    run(fewer, tmp_path / "run", config(**STEPS | {"steps": 1}), fold=0)
    folds = json.loads((tmp_path / "run" / "folds.json").read_text())["folds"]
    assert sorted(id for part in folds for id in part) == ["case0", "case2", "case3"]
