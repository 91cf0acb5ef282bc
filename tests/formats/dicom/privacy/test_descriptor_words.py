"""Cleaning of free text: known words alone stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.formats.dicom.privacy.descriptor_words import cleaned, identity_words, known_words, without_identity


@given(st.text(max_size=200), st.frozensets(st.sampled_from(["head", "liver"])))
def test_nothing_stays_but_known_words_and_sizes(text, identity):
    for word in cleaned(text, identity).split():
        assert word.casefold() not in identity
        assert word.casefold() in known_words() or word[0].isdigit()
        assert word.isascii()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("CT Thorax/Abdomen w contrast, Dr. Meyer", "CT Thorax Abdomen contrast"),
        ("Miller Ann *12.03.1950 MRN 4711", ""),
        ("T1w MPRAGE sag 1.0mm", "T1w MPRAGE sag 1.0mm"),
        ("kidney_left", "kidney left"),
        ("call 0123456789", ""),
    ],
)
def test_descriptions(text, kept):
    assert cleaned(text) == kept


def test_a_patient_called_like_an_organ():
    assert cleaned("Head of Mrs Head", identity_words(["Head^Anna"])) == ""


def test_words_of_people_are_struck_out_wherever_they_stand():
    words = identity_words(["Miller^Ann", "PAT-4711"])
    assert words == {"miller", "4711"}
    assert without_identity("xMILLERx and Ann, 4711", words) == "xXx and Ann, X"
