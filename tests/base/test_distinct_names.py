"""Names told apart: whatever the names, no two results clash, and those that clash with none stay."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.base.distinct_names import distinct_names, folded

NAMES = st.lists(
    st.text("aAbB 12_", max_size=6) | st.sampled_from(["x" * 70, "x" * 64, "x" * 62 + " 1", "é", "e\u0301", "ß", "SS"])
)


@given(NAMES, st.sampled_from([str, folded]), st.sampled_from([" ", "_"]))
def test_no_two_are_the_same(names, key, separator):
    result = distinct_names(names, range(1, len(names) + 1), separator=separator, key=key)
    assert len({key(name) for name in result}) == len(names)
    assert all(0 < len(name) <= 64 for name in result)
    counts = Counter(map(key, names))
    for name, got in zip(names, result, strict=True):
        if name and counts[key(name)] == 1 and len(name) <= 64:
            assert got == name


@given(st.lists(st.sampled_from(["a", "a 1", "a 1 2", "b"]), max_size=8))
def test_equal_numbers_do_not_matter(names):
    assert len(set(distinct_names(names, [1] * len(names)))) == len(names)


@pytest.mark.parametrize(("one", "other"), [("Leber", "LEBER"), ("é", "e\u0301"), ("straße", "STRASSE"), ("É", "e\u0301")])
def test_what_file_systems_take_for_one(one, other):
    assert folded(one) == folded(other)
