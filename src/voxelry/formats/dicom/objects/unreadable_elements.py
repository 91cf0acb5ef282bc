"""Elements of a header that hold no number where DICOM demands one: left out of objects that copy the header."""

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
    """Remove the elements of a data set whose numbers cannot be read; items of sequences are not looked into.

    Args:
        header: changed in place.

    Returns:
        Keywords of the elements removed, the tag of a private one.
    """
    unreadable = [tag for tag, element in list(header.items()) if not _is_readable(header, tag, element)]
    names = [keyword_for_tag(tag) or str(tag) for tag in unreadable]
    for tag in unreadable:
        del header[tag]
    return names


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
