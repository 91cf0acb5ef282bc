import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.datasets.cases import Case
from voxelry.errors import ManifestError, MissingFileError, SplitLeakError
from voxelry.training.folds import Folds, load_folds, make_folds, save_folds

groups_of_cases = st.lists(st.integers(0, 12).map(lambda n: f"patient {n}"), min_size=2, max_size=40)


def cases_of(groups, sites=()):
    made = [Case(f"case{n}", (Path("a"),), labels=Path("b"), group=group) for n, group in enumerate(groups)]
    return [replace(case, site=site) for case, site in zip(made, sites, strict=True)] if sites else made


@st.composite
def cohorts(draw):
    """Cases with patients, sites, and volumes of three labels, some of them absent."""
    groups = draw(groups_of_cases)
    sites = draw(st.lists(st.sampled_from(["", "A", "B"]), min_size=len(groups), max_size=len(groups)))
    volume = st.one_of(st.just(0.0), st.floats(1, 1e6))
    volumes = {f"case{n}": {name: draw(volume) for name in ("liver", "tumour")} for n in range(len(groups))}
    return cases_of(groups, sites), draw(st.sampled_from([{}, volumes]))


@given(cohort=cohorts(), k=st.integers(2, 6), seed=st.integers(0, 3))
def test_a_fold_never_sees_its_validation_patients(cohort, k, seed):
    cases, volumes = cohort
    patients = {case.group for case in cases}
    if k > len(patients):
        with pytest.raises(ManifestError, match=f"{k} folds of {len(patients)} patients. Choose 2 to {len(patients)}"):
            make_folds(cases, k, seed, volumes)
        return
    folds = make_folds(cases, k, seed, volumes)
    assert len(folds) == k
    validated = []
    for fold in range(k):
        training, validation = folds.sides(fold, cases)
        assert validation
        assert not {case.group for case in training} & {case.group for case in validation}
        assert sorted(case.id for case in training + validation) == sorted(case.id for case in cases)
        validated += [case.id for case in validation]
    assert sorted(validated) == sorted(case.id for case in cases)  # each once
    sizes = [len(part) for part in folds.parts]
    assert max(sizes) - min(sizes) <= max(Counter(case.group for case in cases).values())


@given(cohort=cohorts(), seed=st.integers(0, 3), data=st.data())
def test_folds_depend_on_the_set_of_cases_and_the_seed_alone(cohort, seed, data):
    cases, volumes = cohort
    if len({case.group for case in cases}) < 3:
        return
    mixed = data.draw(st.permutations(cases))
    one, other = make_folds(cases, 3, seed, volumes), make_folds(mixed, 3, seed, volumes)
    assert [set(part) for part in one.parts] == [set(part) for part in other.parts]


def uneven(folds, truth):
    """Sum over traits and folds of squared deviations from an even share, in cases."""
    total = 0.0
    for ids in truth.values():
        counts = [len(ids & set(part)) for part in folds.parts]
        total += sum((count - len(ids) / len(folds)) ** 2 for count in counts)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_stratified_folds_are_far_more_even_than_chance(seed):
    random = np.random.default_rng(seed)
    cases = cases_of([f"p{n}" for n in range(60)], random.choice(["A", "B", "C"], 60, p=[0.6, 0.3, 0.1]).tolist())
    present = {label: random.random(60) < share for label, share in (("tumour", 0.3), ("cyst", 0.12), ("liver", 1.0))}
    volumes = {case.id: {k: float(random.lognormal(5, 2)) * has[n] for k, has in present.items()} for n, case in enumerate(cases)}
    truth = {label: {case.id for n, case in enumerate(cases) if has[n]} for label, has in present.items()}
    truth |= {site: {case.id for case in cases if case.site == site} for site in "ABC"}
    for label in present:
        held = {id: own[label] for id, own in volumes.items() if own[label]}
        truth[f"much {label}"] = {id for id, volume in held.items() if volume > np.median(list(held.values()))}
    folds = make_folds(cases, 5, seed, volumes)
    blind = [uneven(make_folds([replace(case, site="") for case in cases], 5, other), truth) for other in range(20)]
    assert uneven(folds, truth) < 0.3 * min(blind)
    for ids in truth.values():  # a trait of n cases is in every fold n/5 times, give or take a case
        assert all(abs(len(ids & set(part)) - len(ids) / 5) <= 1.5 for part in folds.parts)


def test_seeds_differ_and_a_seed_never_changes():
    """Written down once: a release that deals other folds would change everybody's numbers."""
    cases = cases_of([f"p{n}" for n in range(6)])
    assert make_folds(cases, 2, 0).parts != make_folds(cases, 2, 1).parts
    assert make_folds(cases, 3, 0).parts == (("case0", "case5"), ("case1", "case3"), ("case2", "case4"))


def test_folds_on_disk(tmp_path):
    cases = cases_of(["a", "a", "b", "c"])
    folds = make_folds(cases, 2, 7)
    save_folds(folds, tmp_path / "folds.json")
    assert load_folds(tmp_path / "folds.json", cases) == folds


def test_nnunets_own_splits_are_read(tmp_path):
    cases = cases_of(["a", "b", "c"])
    parts = [["case0"], ["case1", "case2"]]
    splits = [{"train": parts[1], "val": parts[0]}, {"train": parts[0], "val": parts[1]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    assert load_folds(tmp_path / "splits_final.json", cases) == Folds((("case0",), ("case1", "case2")))
    splits[0]["train"] = ["case1"]
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    with pytest.raises(ManifestError, match=r"fold 0 neither trains on nor validates 'case2', which other folds use. Add it"):
        load_folds(tmp_path / "splits_final.json", cases)


def nnunet(folder, *folds):
    """`splits_final.json` of pairs of the cases that are trained on and validated, a letter a case."""
    splits = [{side: [f"case{n}" for n in ids] for side, ids in zip(("train", "val"), fold, strict=True)} for fold in folds]
    (folder / "splits_final.json").write_text(json.dumps(splits))
    return folder / "splits_final.json"


def test_a_case_that_is_never_validated_is_always_trained_on(tmp_path, caplog):
    cases = cases_of(["a", "b", "c", "d"])
    folds = load_folds(nnunet(tmp_path, ("123", "0"), ("023", "1")), cases)
    assert folds == Folds((("case0",), ("case1",)), None, ("case2", "case3"))
    assert [[case.id for case in side] for side in folds.sides(0, cases)] == [["case1", "case2", "case3"], ["case0"]]
    assert "2 cases are trained on by every fold and validated by none: case2, case3" in caplog.text
    save_folds(folds, tmp_path / "folds.json")
    assert load_folds(tmp_path / "folds.json", cases) == folds


@pytest.mark.parametrize(
    ("folds", "groups", "error", "message"),
    [
        ([("12", "0"), ("02", "01")], "abc", SplitLeakError, "fold 1 both trains on and validates 'case0'"),
        ([("1", "0"), ("02", "1")], "abc", ManifestError, "fold 0 neither trains on nor validates 'case2'"),
        ([("12", "0"), ("12", "0")], "abc", ManifestError, "case 'case0' is in 2 folds"),
        ([("12", "0"), ("02", "1")], "abcd", ManifestError, "case 'case3' is in no fold"),
        ([("12", "0"), ("02", "1")], "ab", ManifestError, "unknown case 'case2'"),
        ([("12", "0")], "abc", ManifestError, "two folds or more are needed"),
        ([("123", "0"), ("023", "1")], "abca", SplitLeakError, "patient 'a' is held out by fold 0, which trains on another case"),
        ([("12", "0"), ("012", "")], "abc", ManifestError, "none of them empty"),
    ],
)
def test_splits_that_cannot_be_used_are_refused_with_a_true_sentence(tmp_path, folds, groups, error, message):
    with pytest.raises(error, match=message):
        load_folds(nnunet(tmp_path, *folds), cases_of(list(groups)))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ('{"folds": [["case0", "case2"], ["case1"]]}', SplitLeakError, "patient 'a' is in folds 0 and 1"),
        ('{"folds": [["case0", "case1"], ["case3"]]}', ManifestError, "unknown case 'case3', and 1 more"),
        ('{"folds": [["case0", "case1"], ["case1", "case2"]]}', ManifestError, "case 'case1' is in 2 folds"),
        ('{"folds": [["case0", "case1"]]}', ManifestError, "case 'case2' is in no fold"),
        ('{"folds": [["case0", "case1", "case2"]]}', ManifestError, "two folds or more"),
        ('{"folds": [["case0", "case1", "case2"], []]}', ManifestError, "none of them empty"),
        ('{"folds": 5}', ManifestError, "holds no folds"),
        ('[{"train": ["case0"]}]', ManifestError, "not every fold has a list 'train' and a list 'val'"),
        ("[1, 2]", ManifestError, "holds no folds"),
        ("{", ManifestError, "not valid JSON"),
    ],
)
def test_folds_that_cannot_be_used(tmp_path, content, error, message):
    (tmp_path / "folds.json").write_text(content)
    with pytest.raises(error, match=message):
        load_folds(tmp_path / "folds.json", cases_of(["a", "a", "b"]))


def test_a_file_of_folds_that_is_not_there(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        load_folds(tmp_path / "folds.json", [])
