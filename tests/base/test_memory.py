import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.base import memory
from voxelry.base.memory import MEBIBYTE, Footprint, format_memory, short_memory
from voxelry.recipes.settings import parse_memory

NAMES = st.sampled_from(["labels", "ring buffer", "prepared slices"])
FOOTPRINTS = st.dictionaries(NAMES, st.integers(0, 1 << 40)).map(Footprint)


@given(FOOTPRINTS, FOOTPRINTS, FOOTPRINTS)
def test_footprints_add_like_numbers_part_by_part(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c) == Footprint.sum([a, b, c])
    assert (a + b).total == a.total + b.total
    assert (a + b)["labels"] == a["labels"] + b["labels"]
    assert a * 3 == a + a + a
    assert a + Footprint() == a


def test_the_sentence_names_every_part_largest_first():
    footprint = Footprint({"labels": 2 * MEBIBYTE, "ring buffer": 5 * MEBIBYTE + 1, "confidence map": 0})
    assert str(footprint) == "8MiB (ring buffer 6MiB, labels 2MiB)"
    assert footprint.breakdown == "ring buffer 6MiB, labels 2MiB"
    assert "confidence map" not in footprint.parts
    assert str(Footprint()) == "0MiB"


def test_a_footprint_does_not_change_with_what_it_was_made_of():
    parts = {"labels": 1}
    footprint = Footprint(parts)
    parts["labels"] = 2
    assert footprint.total == 1
    assert hash(footprint) == hash(Footprint({"labels": 1}))
    with pytest.raises(TypeError):
        footprint.parts["labels"] = 3


def test_negative_bytes_are_refused_by_name():
    with pytest.raises(ValueError, match="labels"):
        Footprint({"labels": -1})


@given(st.integers(1, 1 << 45))
def test_memory_is_written_as_the_options_read_it_rounded_up(count):
    assert count <= parse_memory(format_memory(count)) < count + MEBIBYTE


@given(st.integers(0, 1 << 50))
def test_short_amounts_are_right_to_three_digits_and_never_nothing(count):
    number, unit = short_memory(count).split()
    size = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}[unit]
    assert abs(float(number) * size - count) <= 0.005 * count
    assert count == 0 or float(number) > 0
    assert unit == "GB" or float(number) < 1000


def test_examples_run():
    assert doctest.testmod(memory).failed == 0
