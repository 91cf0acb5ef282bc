from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.datasets.cases import Case
from voxelry.datasets.splits import SplitRule, check_no_leak, share_out, split_groups
from voxelry.errors import SplitLeakError

groups_of_cases = st.lists(st.integers(0, 12).map(lambda n: f"patient {n}"), min_size=2, max_size=40)


def cases_of(groups: list[str], split: str | None = None) -> tuple[Case, ...]:
    return tuple(
        Case(f"case{i}", (Path("a"),), labels=Path("b"), group=group, split=split)  # type: ignore[arg-type]
        for i, group in enumerate(groups)
    )


@given(groups=groups_of_cases, fraction=st.floats(0, 0.99), seed=st.integers(0, 5), data=st.data())
def test_a_split_depends_on_the_set_of_patients_and_the_seed_alone(groups, fraction, seed, data):
    chosen = split_groups(groups, fraction, seed)
    assert chosen == split_groups(data.draw(st.permutations(groups + groups[:1])), fraction, seed)
    unique = len(set(groups))
    assert chosen <= set(groups)
    assert abs(len(chosen) - fraction * unique) <= 0.5 or len(chosen) in (1, unique - 1)
    if fraction > 0 and unique > 1:
        assert 0 < len(chosen) < unique


def test_the_split_of_a_seed_never_changes():
    """Written down once: a release that gives other patients to val would change everybody's numbers."""
    assert sorted(split_groups([f"p{i}" for i in range(10)], 0.3, seed=0)) == ["p0", "p3", "p6"]


def test_seeds_differ():
    groups = [f"p{i}" for i in range(30)]
    assert split_groups(groups, 0.3, seed=0) != split_groups(groups, 0.3, seed=1)


@given(groups=groups_of_cases, seed=st.integers(0, 5))
def test_sharing_out_never_leaks(groups, seed):
    shared = share_out(cases_of(groups), SplitRule(val=0.3, seed=seed))
    check_no_leak(shared)
    assert all(case.split in ("train", "val") for case in shared)


def test_sharing_out_leaves_given_splits_and_unlabelled_cases_alone():
    given_split = (*cases_of(["a", "b"], "train"), *cases_of(["c"], None))
    assert share_out(given_split, SplitRule()) == given_split
    unlabelled = Case("new", (Path("a"),), group="z")
    test = Case("t", (Path("a"),), labels=Path("b"), group="y", split="test")
    shared = share_out((*cases_of(["a", "b"]), unlabelled, test), SplitRule())
    assert [case.split for case in shared[2:]] == [None, "test"]
    assert {case.split for case in shared[:2]} == {"train", "val"}


def test_a_leak_names_the_patient_and_both_cases():
    train, val = cases_of(["Kay"], "train")[0], Case("other", (Path("a"),), group="Kay", split="val")
    with pytest.raises(SplitLeakError, match=r"m.yaml: patient 'Kay' is in train \(case 'case0'\) and val \(case 'other'\)"):
        check_no_leak([train, val], "m.yaml")


def test_a_case_without_split_does_not_leak():
    check_no_leak([*cases_of(["a"], "train"), *cases_of(["a"], None)])
