"""The b-value that makers of MR scanners keep in private elements, where the standard's DiffusionBValue is not stated."""

from __future__ import annotations

import struct
from typing import Any

B_VALUE_TAGS = ((0x0019, 0x100C), (0x2001, 0x1003), (0x0043, 0x1039))
"""Elements that hold the b-value in s/mm2: Siemens, Philips, GE (the first of four, plus a multiple of 1e9)."""

_MULTIPLE = 1e9
_LARGEST = 1e6


def private_b_value(data: Any) -> str:
    """The b-value of a private element as text, empty where there is none that can be understood.

    Args:
        data: the elements of a file, unconverted, so that no dictionary of private elements is asked for their representation.
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
    """Digits, as Siemens and GE write them, or the four bytes of a float, as Philips does."""
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
