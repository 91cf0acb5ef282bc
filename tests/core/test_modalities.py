import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.augmentation.augment_settings import _RADIOGRAPHS
from voxelry.core.modalities import _OTHER_NAMES, TERMS, modality_term
from voxelry.planning.draft import MICROSCOPES


def test_every_term_that_a_rule_asks_for_is_one():
    assert {"CT", "MR", "PT", "US", *_RADIOGRAPHS, *MICROSCOPES} <= TERMS
    assert set(_OTHER_NAMES.values()) <= TERMS
    assert not set(_OTHER_NAMES) & TERMS
    assert all(re.fullmatch("[A-Z]{2,16}", term) for term in TERMS)


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("ct", "CT"), (" Mr ", "MR"), ("MRI", "MR"), ("mri", "MR"), ("cine-MRI", "MR"), ("XRAY", "DX"), ("OT", "OT"),
        ("X-ray", "DX"), ("x ray", "DX"), ("CXR", "DX"), ("PET", "PT"), ("Ultrasound", "US"), ("mammography", "MG"),
        ("histology", "SM"),
    ],
)  # fmt: skip
def test_other_names_of_modalities(name, term):
    assert modality_term(name) == term


@given(st.sampled_from(sorted({*TERMS, *_OTHER_NAMES})), st.sampled_from([str.lower, str.upper, str.title]))
def test_case_does_not_matter(name, case):
    assert modality_term(case(name)) == modality_term(name) in TERMS


@pytest.mark.parametrize(("name", "hint"), [("MRII", "Did you mean 'MRI'"), ("zz", "OT where none"), ("", "OT where none")])
def test_what_is_no_modality(name, hint):
    with pytest.raises(ValueError, match=hint):
        modality_term(name)
