"""The catalogue of curated labels: one row per structure, with its codes, colour, mirror twin and aliases.

The rows lie beside this module in ``catalogue.csv``. A code is one that DICOM's context groups hold (PS3.16, as pydicom
ships them) or, where they have none, a published table: TotalSegmentator's SNOMED mapping, 3D Slicer's and dcmqi's segment
contexts. A structure that none of them has gets a code of the private scheme ``99VOXELRY``.

Names are compared word by word: case, order, the marks between words and how a side is written do not count, so that
``left kidney``, ``Kidney L`` and ``kidney_left`` are one.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from typing import TypeAlias

from voxelry.base.files import read_text
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.sides import SIDES
from voxelry.errors import LabelError, nearest

_FILE = __file__.removesuffix(".py") + ".csv"
_SILENT = frozenset({"of", "the", "and"})

_Key: TypeAlias = tuple[str, ...]


@cache
def catalogue() -> LabelTable:
    """Every curated label, valued from 1 in the order of the file, each under the name the toolkit prefers."""
    labels = tuple(_label(value, row) for value, row in enumerate(_rows(), start=1))
    return LabelTable(labels=labels)


def lookup(name: str) -> Label:
    """The curated label that a name or an alias stands for.

    Args:
        name: such as ``left kidney``, ``vertebrae_L1`` or ``FDI 36``.

    Returns:
        The label; its value is its number in the catalogue, not a value stored anywhere.

    Raises:
        LabelError: the name is not in the catalogue.

    Example:
        >>> lookup("Kidney L").name
        'kidney_left'
    """
    label = _find(name)
    if label is None:
        raise LabelError(f"no structure {name!r} in the catalogue", remedy=nearest(_plain(name), catalogue().names))
    return label


def coded(table: LabelTable) -> LabelTable:
    """The table with codes, and a colour, for labels without a type whose name is in the catalogue.

    Values, names, layers, kinds and twins stay as they are; so does every label that has a type.

    Example:
        >>> from voxelry.core import Label, LabelTable
        >>> table = coded(LabelTable(labels=(Label(value=1, name="liver"),)))
        >>> table["liver"].type.value
        '10200004'
    """
    return table.model_copy(update={"labels": tuple(_coded(label) for label in table.labels)})


def _coded(label: Label) -> Label:
    curated = _find(label.name) if label.type is None else None
    if curated is None:
        return label
    color = label.color or curated.color
    return label.model_copy(
        update={
            "category": curated.category,
            "type": curated.type,
            "modifier": label.modifier or curated.modifier,
            "color": color,
        }
    )


def _find(name: str) -> Label | None:
    index = _index()
    key = _key(name)
    value = index.get(key)
    return None if value is None else catalogue().labels[value - 1]


@cache
def _index() -> dict[_Key, int]:
    """Words of a name, sorted -> the row's number; a preferred name goes before an alias."""
    index: dict[_Key, int] = {}
    for value, row in enumerate(_rows(), start=1):
        index[_key(row["name"])] = value
    for value, row in enumerate(_rows(), start=1):
        for alias in filter(None, row["aliases"].split(";")):
            index.setdefault(_key(alias), value)
    return index


@cache
def _rows() -> tuple[dict[str, str], ...]:
    return tuple(csv.DictReader(read_text(_FILE).splitlines()))


def _label(value: int, row: dict[str, str]) -> Label:
    return Label.model_validate(
        {
            "value": value,
            "name": row["name"],
            "category": Code(value=row["category"], meaning=row["category_meaning"]),
            "type": Code(value=row["type"], scheme=row["scheme"], meaning=row["type_meaning"]),
            "modifier": Code(value=row["modifier"], meaning=row["modifier_meaning"]) if row["modifier"] else None,
            "color": tuple(bytes.fromhex(row["color"].removeprefix("#"))),
            "kind": row["kind"],
            "mirror": row["mirror"] or None,
        }
    )


def _key(name: str) -> _Key:
    words = (SIDES.get(word, word) for word in re.findall(r"[a-z0-9]+", name.lower()))
    return tuple(sorted(word for word in words if word not in _SILENT))


def _plain(name: str) -> str:
    """A name in the catalogue's spelling, for the hint: words joined by ``_``, the side last."""
    words = [SIDES.get(word, word) for word in re.findall(r"[a-z0-9]+", name.lower())]
    return "_".join([word for word in words if word not in ("left", "right")] + [w for w in words if w in ("left", "right")])
