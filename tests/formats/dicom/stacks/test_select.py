"""Choosing one of several volumes, and the list of choices where that is not possible."""

from __future__ import annotations

import numpy as np
import pytest

from voxelry.errors import SelectionError, UsageError
from voxelry.formats.reader import read, read_all


@pytest.fixture
def mixed(folder, make_series):
    """Three volumes: a CT, and an MR of two echoes, the second longer."""
    ct = make_series(np.zeros((3, 4, 5), np.int16), SeriesInstanceUID="1.1", SeriesNumber=2, SeriesDescription="Lung, thin")
    mr = [
        data
        for echo, count in ((1, 4), (2, 6))
        for data in make_series(
            np.full((count, 4, 5), echo, np.int16),
            SeriesInstanceUID="1.2", SeriesNumber=3, Modality="MR", EchoNumbers=echo, SeriesDescription="T2 map",
        )
    ]  # fmt: skip
    return folder([*ct, *mr])


@pytest.mark.parametrize(
    ("wanted", "slices"),
    [
        ("1.1", 3),
        ("largest", 6),
        ("1.2/echo=1", 4),
        ("echo=2", 6),
        ("modality=ct", 3),
        ("modality=MR,echo=1.0", 4),
        ("number=2", 3),
        ("description=lung", 3),
        ("1.2/echo=2,modality=MR", 6),
        (" modality = CT ", 3),
    ],
)
def test_what_may_be_asked_for(mixed, wanted, slices):
    assert read(mixed, series=wanted).shape == (1, 5, 4, slices)


def test_the_choices_can_be_chosen(mixed):
    with pytest.raises(SelectionError, match="holds 3 volumes") as caught:
        read(mixed)
    assert caught.value.choices == ("1.1", "1.2/echo=1", "1.2/echo=2")
    assert [read(mixed, series=key).shape[-1] for key in caught.value.choices] == [3, 4, 6]
    assert "'T2 map' MR, series number 3, echo 2, 6 images" in str(caught.value)
    assert all(key in str(caught.value) for key in caught.value.choices)


@pytest.mark.parametrize(("wanted", "choices"), [("1.2", 2), ("modality=MR", 2), ("9.9", 3), ("echo=7", 3), ("1.1/echo=2", 3)])
def test_none_or_several_list_the_choices(mixed, wanted, choices):
    with pytest.raises(SelectionError, match=r"fits (none|2) of the 3 volumes") as caught:
        read(mixed, series=wanted)
    assert len(caught.value.choices) == choices


def test_equally_large_is_not_guessed(folder, make_series):
    one, other = (make_series(np.zeros((3, 4, 5), np.int16), SeriesInstanceUID=uid) for uid in ("1.1", "1.2"))
    with pytest.raises(SelectionError, match="'largest' fits 2"):
        read(folder([*one, *other]), series="largest")


@pytest.mark.parametrize("wanted", ["ekko=2", "echo=2,thing"])
def test_an_unknown_filter(mixed, wanted):
    with pytest.raises(UsageError, match="no filter") as caught:
        read(mixed, series=wanted)
    assert caught.value.remedy


def test_a_choice_that_names_the_only_volume(folder, plain):
    place = folder(plain)
    assert read(place, series=plain[0].SeriesInstanceUID).shape == read(place, series="largest").shape
    with pytest.raises(SelectionError):
        read(place, series="1.2.3")


def test_all_of_them(mixed):
    assert [volume.shape[-1] for volume in read_all(mixed)] == [3, 4, 6]
