"""Parses the text header of an NRRD file by Teem's "Definition of NRRD File Format", version 5."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from voxelry.errors import CorruptFileError

LONGEST_HEADER = 1 << 24
"""Bytes of header that are looked at; a Slicer segmentation of hundreds of segments takes less."""

_ALIASES = {
    "centerings": "centers", "data file": "datafile", "axis mins": "axismins", "axis maxs": "axismaxs", "line skip": "lineskip",
    "byte skip": "byteskip", "sample units": "sampleunits",
}  # fmt: skip
_UNKNOWN = ("none", "???", "unknown")
"""Words in the place of a number that is not known, beside NaN."""

Vector = tuple[float, ...]


@dataclass(frozen=True)
class NrrdHeader:
    """The header as text.

    Attributes:
        path: the file.
        fields: field -> value, names in lower case.
        pairs: the ``key:=value`` pairs, as Slicer keeps its segments in.
        end: bytes of the header, its blank line included; the size of the file where no blank line ends it.
        tail: lines that follow ``data file: LIST``.
    """

    path: Path
    fields: dict[str, str]
    pairs: dict[str, str]
    end: int
    tail: tuple[str, ...] = ()

    def integers(self, field: str, count: int | None = None) -> tuple[int, ...]:
        """The whole numbers of a field, `count` of them where that is given.

        Raises:
            CorruptFileError: they are not, or not so many.
        """
        words = self.fields.get(field, "").split()
        try:
            values = tuple(int(word) for word in words)
        except ValueError:
            raise self.wrong(field) from None
        if count is not None and len(values) != count:
            raise self.wrong(field)
        return values

    def numbers(self, field: str, count: int) -> tuple[float, ...]:
        """The `count` numbers of a field, NaN where it says so; none where the header lacks the field.

        Raises:
            CorruptFileError: they are no numbers, or not so many.
        """
        field = _ALIASES.get(field, field)
        if field not in self.fields:
            return ()
        try:
            values = tuple(float("nan" if word in _UNKNOWN else word) for word in self.fields[field].split())
        except ValueError:
            raise self.wrong(field) from None
        if len(values) != count:
            raise self.wrong(field)
        return values

    def has_numbers(self, field: str) -> bool:
        """The header has the field, and with some number in it."""
        return any(character.isdigit() for character in self.fields.get(_ALIASES.get(field, field), ""))

    def vectors(self, field: str, count: int) -> tuple[Vector | None, ...]:
        """The `count` vectors of a field, as ``(1,0,0) none``; none where the header lacks the field.

        Raises:
            CorruptFileError: they are no vectors, or not so many.
        """
        if field not in self.fields:
            return ()
        words = self.fields[field].replace(" ", "").replace("none", "(none)").replace(")(", ") (").split()
        vectors = tuple(self._vector(field, word) for word in words)
        if len(vectors) != count:
            raise self.wrong(field)
        return vectors

    def _vector(self, field: str, word: str) -> Vector | None:
        if word == "(none)":
            return None
        try:
            values = tuple(float(number) for number in word.removeprefix("(").removesuffix(")").split(","))
        except ValueError:
            raise self.wrong(field) from None
        return None if all(math.isnan(value) for value in values) else values

    def wrong(self, field: str) -> CorruptFileError:
        """The error for a field with an impossible value."""
        value = self.fields.get(field)
        problem = f"lacks the field '{field}'" if value is None else f"has '{field}: {value[:80]}', which cannot be"
        return CorruptFileError(f"{self.path}: the NRRD header {problem}", remedy="The file is damaged: write it again.")


def parse_nrrd(path: Path) -> NrrdHeader:
    """Split the header of an NRRD file into its fields.

    Raises:
        CorruptFileError: a line that is no field, or a header without end.
    """
    with path.open("rb") as stream:
        head = stream.read(LONGEST_HEADER)
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    at = head.find(b"\n") + 1 or len(head)
    while at < len(head):
        end = head.find(b"\n", at)
        end = len(head) if end < 0 else end
        line = head[at:end].decode("utf-8", errors="replace").rstrip("\r")
        at = min(end + 1, len(head))
        if not line:
            return NrrdHeader(path, fields, pairs, at)
        if line.startswith("#"):
            continue
        _take(line, fields, pairs, path)
        if fields.get("datafile", "").upper().startswith("LIST"):
            return NrrdHeader(path, fields, pairs, len(head), tuple(head[at:].decode("utf-8", errors="replace").split("\n")))
    if "datafile" not in fields:
        raise CorruptFileError(f"{path}: the NRRD header has no end", remedy="It is truncated: copy it again.")
    return NrrdHeader(path, fields, pairs, len(head))


def _take(line: str, fields: dict[str, str], pairs: dict[str, str], path: Path) -> None:
    """Store one line under its field or its key."""
    name, colon, value = line.partition(":")
    if not colon:
        raise CorruptFileError(f"{path}: header line {line[:40]!r} is no NRRD field", remedy="The file is damaged.")
    if value.startswith("="):
        pairs[name] = value[1:].replace("\\n", "\n").replace("\\\\", "\\")
    else:
        field = _ALIASES.get(name.strip().lower(), name.strip().lower())
        if fields.setdefault(field, value.strip()) != value.strip():
            raise CorruptFileError(
                f"{path}: the NRRD header has '{field}' twice: {fields[field][:60]!r} and {value.strip()[:60]!r}",
                remedy="Remove the wrong one.",
            )
