import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.base import bounded_regex
from voxelry.base.bounded_regex import search_groups
from voxelry.errors import ConfigError

QUICK = [r"^(\d+)_", r"(sub-\w+)_(ses-\w+)", r"^.*$", r"[^_]+", r"(a)|(b)", r"x?y", r"(?:ab){3}"]
SLOW = [r"(\d+_)+", r"((a|b)+)+", r"(a*)*b", r"(.)\1+(x*)*"]


@pytest.mark.parametrize("pattern", QUICK + SLOW)
@given(text=st.text("ab_x1-", max_size=12))
def test_the_answer_is_that_of_re(pattern, text):
    match = re.search(pattern, text)
    assert search_groups(pattern, text) == (None if match is None else (match[0], *match.groups()))


def test_plain_patterns_need_no_other_process(monkeypatch):
    monkeypatch.setattr(bounded_regex, "_child", None)
    for pattern in QUICK:
        search_groups(pattern, "sub-01_ses-2_T1w")


@pytest.mark.parametrize(
    "pattern",
    [r"(a+)+$", r"(a|a)*$", r"(a|aa)+$", r"(a*)*b", r"(?:a?){40}a{40}$", r"a*a*a*a*a*a*a*a*b", r"(.*a){20}$", r"(a*?)*b"],
)
def test_a_pattern_without_end_is_ended_and_the_next_one_answered(monkeypatch, pattern):
    monkeypatch.setattr(bounded_regex, "SECONDS", 0.3)
    with pytest.raises(ConfigError, match=r"takes more than 0\.3 s"):
        search_groups(pattern, "a" * 60 + "!")
    monkeypatch.setattr(bounded_regex, "SECONDS", 5)
    assert search_groups(r"(\d+_)+", "x12_3_") == ("12_3_", "3_")
