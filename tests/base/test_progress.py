"""Time left of a stage."""

from hypothesis import given
from hypothesis import strategies as st

from voxelry.base.progress import Pace, duration


@given(st.integers(0, 5), st.integers(1, 20), st.integers(1, 20), st.integers(1, 100))
def test_an_even_pace_is_foreseen(before, done, rest, seconds):
    pace, total = Pace(50.0, before), before + done + rest
    assert pace.left(50.0, before, total) == ""
    assert pace.left(50.0 + done * seconds, before + done, total) == f"{duration(seconds * rest)} left"


def test_a_stage_that_begins_anew_counts_anew():
    pace = Pace(0.0, 1)
    pace.left(100.0, 11, 11)
    assert pace.left(1000.0, 1, 11) == ""
    assert pace.left(1010.0, 6, 11) == "0:10 left"


def test_where_the_end_is_unknown_nothing_is_foreseen():
    assert Pace(0.0, 0).left(10.0, 5, None) == ""
