"""Diffusion b-values from the private elements of MR vendors, for files without the standard element DiffusionBValue."""

from __future__ import annotations

import struct
from typing import Any

B_VALUE_TAGS = ((0x0019, 0x100C), (0x2001, 0x1003), (0x0043, 0x1039))
"""Private elements with the b-value in s/mm2: Siemens, Philips, GE (the first of four values, plus a multiple of 1e9)."""

_MULTIPLE = 1e9
_LARGEST = 1e6


def private_b_value(data: Any) -> str:
    """The b-value of a private element as text, empty where none is readable.

    Args:
        data: the elements of a file; they are read unconverted, since pydicom may not know the representation of private ones.
    """
    for tag in B_VALUE_TAGS:
        raw = data.get_item(tag) if tag in data else None
        value = getattr(raw, "value", None)
        if isinstance(value, bytes):
            value = _of_bytes(value, "<" if getattr(raw, "is_little_endian", True) else ">")
        number = _number(value)
        if number is not None and number >= 0 and number % _MULTIPLE <= _LARGEST:
            return f"{number % _MULTIPLE:g}"
    return ""


def _of_bytes(value: bytes, order: str) -> Any:
    """The digits that Siemens and GE write, or the float of four bytes that Philips writes."""
    text = value.strip(b" \0").split(b"\\")[0]
    if _number(text) is None and len(value) == 4:
        return struct.unpack(f"{order}f", value)[0]
    return text


def _number(value: Any) -> float | None:
    try:
        number = float(value if isinstance(value, (str, bytes, int, float)) else value[0])
    except (ValueError, TypeError, LookupError):
        return None
    return number if abs(number) < float("inf") else None
