"""Dummy values: the same for every patient, and of the form that a value representation demands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom import Dataset
from pydicom.dataelem import DataElement

REMOVED = "REMOVED"

_TEXTS = dict.fromkeys(("AE", "CS", "LO", "SH", "PN", "ST", "LT", "UT", "UC"), REMOVED)
_OTHERS: dict[str, Any] = {
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "UR": "urn:removed",
    "DS": "0",
    "IS": "0",
    "AT": 0,
}
_VALUES = {**_TEXTS, **_OTHERS}
_FLOATS = frozenset({"FL", "FD"})
_INTEGERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV"})

_FORM = frozenset({"RelationshipType", "ValueType", "ContinuityOfContent", "GraphicType", "TemporalRangeType"})
"""Code strings that say what an item is; its content means nothing without them."""


def dummy(element: DataElement, new_uid: Callable[[str], str]) -> Any:
    """A value in place of an element's.

    Args:
        element: of a sequence every element of every item gets a dummy, but code strings that tell the form of an item.
        new_uid: the UID in place of another.
    """
    if element.VR == "SQ":
        return [_dummy_item(item, new_uid) for item in element.value or []]
    if element.VR == "UI":
        values = element.value if element.VM > 1 else [element.value or "1.2.3"]
        return [new_uid(str(value)) for value in values]
    if element.VR in _VALUES:
        return _VALUES[element.VR]
    return 0.0 if element.VR in _FLOATS else 0 if element.VR in _INTEGERS else b"\0\0"


def _dummy_item(item: Dataset, new_uid: Callable[[str], str]) -> Dataset:
    replaced = Dataset()
    for element in item:
        if element.tag.is_private or element.VR == "UN":
            continue
        value = element.value if element.keyword in _FORM else dummy(element, new_uid)
        replaced.add(DataElement(element.tag, element.VR, value))
    return replaced
