"""DICOM elements as text, numbers and UIDs, read without raising, and the exceptions that parsing a damaged file may raise."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID

PARSE_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
    zlib.error,
    struct.error,
)
"""The exceptions that pydicom and its decoders raise on damaged files; NotImplementedError is a RuntimeError."""

_LONGEST_MESSAGE = 200
_UNDEFINED = 2**32 - 1
_TEXT_VRS = frozenset("AE AS CS DA DS DT IS LO PN SH TM UI".split())


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's warnings about odd but readable values; what matters is checked here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
        yield


def short_message(error: Exception | str) -> str:
    """A decoder's message on one line, cut where it quotes the file at length."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."


def uid(text: str) -> UID:
    """A UID, well-formed or not."""
    return UID(text, validation_mode=pydicom.config.IGNORE)


def transfer_syntax(data: Any) -> str:
    """The transfer syntax UID; of a file that names none, the encoding by which it was parsed."""
    named = data.file_meta.get("TransferSyntaxUID")
    if named:
        return str(named)
    implicit, little = data.original_encoding
    if implicit:
        return str(pydicom.uid.ImplicitVRLittleEndian)
    return str(pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian)


def text_of(data: Any, keyword: str) -> str:
    """An element as text, several values joined by a backslash; empty where it is missing or unreadable.

    Args:
        data: a data set or an item of a sequence.
        keyword: the element's DICOM keyword.
    """
    try:
        raw = data.get_item(_tag(keyword))
        plain = None if raw is None else _plain_text(raw)
        if raw is None or plain is not None:
            return plain or ""
        value = data.get(keyword)
    except PARSE_ERRORS:
        return ""
    if value is None:
        return ""
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        return "\\".join(str(item) for item in value)
    return str(value).strip()


@cache
def _tag(keyword: str) -> Any:
    return pydicom.tag.Tag(keyword)


def _plain_text(raw: Any) -> str | None:
    """The text of an element that pydicom has not converted yet (conversion is slow); None where pydicom has to."""
    value = raw.value if isinstance(raw, pydicom.dataelem.RawDataElement) else None
    if not isinstance(value, bytes):
        return None
    vr = raw.VR if raw.VR not in (None, "UN") else pydicom.datadict.dictionary_VR(raw.tag)
    if vr in _TEXT_VRS and value.isascii():
        return value.decode("ascii").strip(" \0")
    if vr == "US" and len(value) == 2:
        return str(int.from_bytes(value, "little" if raw.is_little_endian else "big"))
    return None


def items_of(data: Any, keyword: str) -> list[Any]:
    """The items of a sequence, none where it is missing or empty; also of one whose VR is unknown (UN) to the file.

    Explicit VR stores a sequence whose writer did not know it as UN, in implicit VR (DICOM PS3.5 section 6.2.2); pydicom parses
    that below 64 KiB only.

    Raises:
        ValueError: the element is no sequence, or the file ends within it. Any of `PARSE_ERRORS`: its items cannot be parsed.
    """
    raw = data.get_item(_tag(keyword))
    if isinstance(raw, pydicom.dataelem.RawDataElement) and raw.value and len(raw.value) < raw.length < _UNDEFINED:
        raise ValueError(f"{keyword} breaks off")
    value = data.get(keyword)
    if isinstance(value, bytes):
        value = pydicom.values.convert_SQ(value, is_implicit_VR=True, is_little_endian=True, encoding=data.original_character_set)
    if value is not None and not isinstance(value, (pydicom.sequence.Sequence, list)):
        raise ValueError(f"{keyword} is no sequence")
    return list(value or [])


def finite_numbers(text: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers from text with backslashes between them; None where it holds anything else."""
    try:
        values = tuple(float(value) for value in text.split("\\"))
    except ValueError:
        return None
    finite = all(abs(value) < float("inf") for value in values)
    return values if len(values) == count and finite else None


def numbers_of(data: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """An element as `count` finite numbers, or None where it is missing or unreadable."""
    return finite_numbers(text_of(data, keyword), count)


def number_of(data: Any, keyword: str) -> float | None:
    """An element as one finite number, or None where it is missing or unreadable."""
    values = numbers_of(data, keyword, 1)
    return None if values is None else values[0]


def integer_of(data: Any, keyword: str) -> int | None:
    """An element as an integer, or None where it is missing or unreadable."""
    value = number_of(data, keyword)
    return None if value is None else int(value)


def number_or_nan(data: Any, keyword: str) -> float | None:
    """A number that all grey values depend on: None where it is missing or empty, NaN where it is unreadable."""
    value = number_of(data, keyword)
    return float("nan") if value is None and text_of(data, keyword) else value
