"""Elements of a header that cannot be read, as a text where DICOM demands a number: left out of objects that copy the header."""

from __future__ import annotations

import math
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom

_TEXT = frozenset({"IS", "DS"})
_BINARY = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "US or SS", "AT"})
"""Value representations of numbers: as text, and as bytes, whose count may be wrong."""


def drop_unreadable(header: Dataset) -> list[str]:
    """Remove the elements of a data set, and of the items of its sequences, whose numbers cannot be read.

    Args:
        header: changed in place.

    Returns:
        Keywords of the elements removed, the tag of a private one.
    """
    names: list[str] = []
    for tag, element in list(header.items()):
        if _demanded_vr(tag, element) == "SQ":
            names += _drop_within(header, tag)
        elif not _is_readable(header, tag, element):
            names.append(_drop(header, tag))
    return names


def _drop_within(header: Dataset, tag: Any) -> list[str]:
    """As `drop_unreadable` for the items of a sequence; the sequence itself where it cannot be parsed."""
    try:
        with quiet_pydicom():
            items = list(header[tag].value or [])
            return [name for item in items for name in drop_unreadable(item)]
    except PARSE_ERRORS:
        return [_drop(header, tag)]


def _drop(header: Dataset, tag: Any) -> str:
    header.pop(tag)
    return keyword_for_tag(tag) or str(tag)


def _is_readable(header: Dataset, tag: Any, element: Any) -> bool:
    demanded = _demanded_vr(tag, element)
    if demanded not in _TEXT | _BINARY:
        return True
    if demanded in _TEXT and isinstance(element, RawDataElement) and _is_plain_number(element.value, demanded):
        return True
    try:
        with quiet_pydicom():
            value = header[tag].value
            values = value if isinstance(value, MultiValue) else [] if value in (None, "") else [value]
            return demanded not in _TEXT or all(math.isfinite(float(number)) for number in values)
    except PARSE_ERRORS:
        return False


def _demanded_vr(tag: Any, element: Any) -> str:
    """The value representation by DICOM's dictionary, whatever the file says; of a private element that of the file."""
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return str(element.VR or "")


def _is_plain_number(value: Any, vr: str) -> bool:
    """The bytes are one number: the common case, without pydicom's slow conversion."""
    try:
        return b"_" not in value and math.isfinite(int(value) if vr == "IS" else float(value))
    except (TypeError, ValueError):
        return not value
