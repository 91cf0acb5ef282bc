"""What stands for a patient, a UID and a date: keyed hashes (HMAC-SHA-256), equal in every file, run and series with one key.

Without the key nobody can compute a replacement from an original. The key's file belongs to the sender, never to the data.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
import sys
import uuid
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from voxelry.errors import ConfigError, UsageError
from voxelry.formats.dicom.elements import text_of

_KEY_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PUBLIC_ROOT = "1.2.840.10008."
"""Root of the UIDs that the standard itself defines."""

_MOST_DAYS = 3650
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_DATETIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?((?:\d{2}){0,3}(?:\.\d{1,6})?(?:[+-]\d{4})?)")
_TIME = re.compile(r"\d{2}(:?\d{2}(:?\d{2}(\.\d{1,6})?)?)?")


class KeyedPseudonyms:
    """Replacements under one key.

    Args:
        key: secret bytes.

    Example:
        >>> pseudonyms = KeyedPseudonyms(bytes(32))
        >>> pseudonyms.uid("1.2.3") == pseudonyms.uid("1.2.3"), pseudonyms.uid("1.2.840.10008.1.2")
        (True, '1.2.840.10008.1.2')
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def check(self) -> str:
        """Tells keys apart and reveals nothing of them."""
        return self._digest("check", "").hex()[:16]

    def uid(self, original: str) -> str:
        """The UID in place of another: a UUID below 2.25; one of the standard's own stays, and an empty one.

        Args:
            original: a UID.
        """
        text = original.strip("\0 ")
        if not text or text.startswith(_PUBLIC_ROOT):
            return text
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', text)[:16], version=4).int}"

    def patient(self, data: Any) -> str:
        """A name for the patient of a data set, as ``P-5A3B...``.

        Patients are told apart by PatientID; without one by name and date of birth, without these by study.

        Args:
            data: the elements of a file.
        """
        return "P-" + self._digest("patient", _identity(data)).hex()[:12].upper()

    def days(self, data: Any) -> int:
        """The days by which dates of a patient are moved back, 1 to 3650.

        Args:
            data: the elements of a file.
        """
        return 1 + int.from_bytes(self._digest("days", _identity(data))[:8], "big") % _MOST_DAYS

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{text}".encode(errors="surrogateescape"), "sha256")


def _identity(data: Any) -> str:
    number = text_of(data, "PatientID").strip()
    person = (text_of(data, "PatientName").strip("^ ").casefold(), text_of(data, "PatientBirthDate").strip())
    if number:
        return f"id\0{number}"
    return "\0".join(("person", *person)) if any(person) else f"study\0{text_of(data, 'StudyInstanceUID')}"


def shifted(text: str, vr: str, days: int) -> str:
    """A date or time moved back by whole days; empty where it is not one, or would lie before the year 1.

    Args:
        text: a value of the representation DA, DT or TM. A time of day stays; of a month or year without a day the middle
            is moved and the precision kept.
        vr: its representation.
        days: how many.

    Example:
        >>> shifted("20240301", "DA", 1), shifted("20240301120000.5+0100", "DT", 1), shifted("120000", "TM", 1)
        ('20240229', '20240229120000.5+0100', '120000')
    """
    text = text.strip("\0 ")
    if vr == "TM":
        return text if _TIME.fullmatch(text) else ""
    match = (_DATE if vr == "DA" else _DATETIME).fullmatch(text)
    if match is None:
        return ""
    year, month, day = match[1], match[2], match[3]
    rest = "" if vr == "DA" else match[4]
    with suppress(ValueError, OverflowError):
        moved = date(int(year), int(month or 7), int(day or (15 if month else 1))) - timedelta(days)
        digits = f"{moved.year:04}{moved.month:02}{moved.day:02}"
        return digits[: 8 if day else 6 if month else 4] + rest
    return ""


def read_key(path: Path) -> bytes:
    """The key in a file; a new one, readable for its owner alone, where there is none.

    Args:
        path: the file, of 64 hexadecimal digits.

    Raises:
        ConfigError: it holds no key.
        UsageError: others may read it, or it cannot be read or made.
    """
    try:
        with suppress(FileExistsError):
            return _new_key(path)
        with path.open("rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(4 * _KEY_BYTES)
    except OSError as error:
        raise UsageError(f"{path}: this key cannot be read or made ({error.strerror})", remedy="Name another --key.") from None
    if sys.platform != "win32" and mode & _OTHERS:
        raise UsageError(
            f"{path}: other users may read this key (mode {stat.S_IMODE(mode):o})", remedy=f"Run `chmod 600 {path}`."
        )
    with suppress(ValueError):
        key = bytes.fromhex(content.decode("ascii"))
        if len(key) == _KEY_BYTES:
            return key
    raise ConfigError(f"{path}: no key", remedy="A key is 64 hexadecimal digits; name a new file to have one made.")


def _new_key(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_bytes(_KEY_BYTES)
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(key.hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return key
