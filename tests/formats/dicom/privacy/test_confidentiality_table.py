"""The table of PS3.15 Annex E against another reading of the standard: dicom-anonymizer's, made from its page by script."""

import csv
from importlib import import_module
from pathlib import Path

import pytest
from pydicom.datadict import private_dictionary_VR
from pydicom.sr.codedict import codes
from pydicom.tag import Tag

from voxelry.formats.dicom.privacy import confidentiality_table
from voxelry.formats.dicom.privacy.confidentiality_table import (
    BASIC_PROFILE,
    OPTIONS,
    is_safe_vr,
    safe_private,
    table_row,
    table_rows,
)

ACTIONS = {
    "D_TAGS": "D", "Z_TAGS": "Z", "X_TAGS": "X", "U_TAGS": "U", "Z_D_TAGS": "Z/D", "X_Z_TAGS": "X/Z", "X_D_TAGS": "X/D",
    "X_Z_D_TAGS": "X/Z/D", "X_Z_U_STAR_TAGS": "X/Z/U*",
}  # fmt: skip


def other_reading(edition):
    module = import_module(f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{edition}")
    read = {}
    for name, action in ACTIONS.items():
        for group, number, *mask in getattr(module, name):
            digits = f"{group:04x}{number:04x}"
            if mask:
                digits = "".join(d if m == "f" else "x" for d, m in zip(digits, f"{mask[0]:04x}{mask[1]:04x}", strict=True))
            read[digits.replace("50000000", "50xxxxxx")] = action
    return read


def ours(*editions):
    rows = {tag: row.basic for tag, row in table_rows().items() if tag != "private" and row.edition in editions}
    return {
        tag if tag != "50xxxxxx" else next(k for k in other_reading("2026c") if k.startswith("50")): a for tag, a in rows.items()
    }


@pytest.mark.parametrize(("other", "editions"), [("2024b", ["2024e"]), ("2026c", ["2024e", "2026c"])])
def test_every_element_has_the_action_of_another_reading(other, editions):
    assert ours(*editions) == other_reading(other)
    assert table_rows()["private"].basic == "X"


def test_the_codes_are_those_of_the_context_group():
    known = {(code.value, code.meaning) for code in (getattr(codes.cid7050, name) for name in codes.cid7050.dir())}
    assert {BASIC_PROFILE, *OPTIONS.values()} <= known
    assert len(OPTIONS) == len(known) - 4  # pixels, faces and graphics are not claimed, and the profile is none


def test_every_column_of_the_data_is_an_option_or_said_not_to_be_one():
    with Path(confidentiality_table.__file__).with_suffix(".csv").open() as file:
        columns = next(csv.reader(file))
    assert set(columns) == {"tag", "name", "edition", "basic", *OPTIONS, "graphics"}


@pytest.mark.parametrize(
    ("basic", "actions"),
    [
        ("X/Z/D", {"3": "X", "2": "Z", "1": "D", "": "D"}),
        ("X/D", {"3": "X", "2": "D", "1": "D", "": "D"}),
        ("X/Z", {"3": "X", "2": "Z", "1": "Z", "": "Z"}),
        ("Z/D", {"3": "Z", "2": "Z", "1": "D", "": "D"}),
        ("X/Z/U*", {"3": "X", "2": "U", "1": "U", "": "U"}),
        ("X", {"3": "X", "2": "X", "1": "X", "": "X"}),
    ],
)
def test_the_type_of_an_attribute_decides_between_actions(basic, actions):
    row = confidentiality_table.ConfidentialityRow("", basic, {})
    assert {kind: row.action((), kind) for kind in actions} == actions


def test_repeating_groups_and_unlisted_dates_and_names_have_a_row():
    assert table_row(Tag(0x60023000)).name == "Overlay Data"
    assert table_row(Tag(0x50100005)).name == "Curve Data"
    assert table_row(Tag(0x60020010)) is None
    assert table_row(Tag("Rows")) is None


def test_safe_private_elements_hold_no_free_text():
    assert len(safe_private()) > 80
    assert (0x0019, "SIEMENS MR HEADER", 0x0C) in safe_private()
    assert (0x0099, "NQHeader", 0x05) not in safe_private()
    wrong = []
    for group, creator, number in safe_private():
        try:
            vr = private_dictionary_VR((group << 16) | 0x1000 | number, creator)
        except KeyError:
            continue
        wrong += [] if is_safe_vr(vr) else [(group, creator, number, vr)]
    assert not wrong
