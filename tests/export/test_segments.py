from hypothesis import given
from hypothesis import strategies as st

from voxelry.export.segments import property_type
from voxelry.labels import Code, Label

NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=64)


@given(NAMES, NAMES)
def test_private_codes_fit_dicom_and_tell_names_apart(one, other):
    first, second = (property_type(Label(value=1, name=name)) for name in (one, other))
    assert len(first.value) <= 16
    assert first.scheme == "99VOXELRY"
    assert first.value == property_type(Label(value=2, name=one)).value
    if one.casefold() != other.casefold() and one.isalnum() and other.isalnum():
        assert first.value != second.value


def test_readable_where_short():
    assert property_type(Label(value=1, name="lung")).value == "LUNG"
    assert property_type(Label(value=1, name="disc L5/S1")).value == "DISC_L5_S1"


def test_a_known_code_is_kept():
    code = Code(value="10200004", meaning="Liver")
    assert property_type(Label(value=1, name="liver", type=code)) is code
