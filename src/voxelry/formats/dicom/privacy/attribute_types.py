"""The type (1, 2 or 3) of an attribute in the definition of an object, from the tables of the standard that highdicom ships."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

Path = tuple[str, ...]
"""Keywords of sequences from the top of a data set down to an attribute, and its own."""


@cache
def attribute_types(sop_class: str) -> Mapping[Path, str] | None:
    """The strictest type of each attribute in any module of an object; 1C counts as 1, 2C as 2.

    Args:
        sop_class: SOPClassUID.

    Returns:
        Path -> ``1``, ``2`` or ``3``; None for an object that is not known.

    Example:
        >>> types = attribute_types("1.2.840.10008.5.1.4.1.1.2")
        >>> types["PatientName",], types["StationName",]
        ('2', '3')
    """
    from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map

    definition = get_sop_class_iod_map().get(sop_class)
    if definition is None:
        return None
    types: dict[Path, str] = {}
    for module in get_iod_module_map()[definition]:
        for attribute in get_module_attribute_map()[module["key"]]:
            path = (*attribute["path"], attribute["keyword"])
            types[path] = min(types.get(path, "3"), attribute["type"][0])
    return types


def type_of(sop_class: str, path: Path) -> str:
    """The type of an attribute; empty where it is not known.

    Args:
        sop_class: SOPClassUID.
        path: the attribute. At the top of a known object one that it does not define is of type 3; within a sequence, whose
            content macros define, it is not known.
    """
    types = attribute_types(sop_class)
    if types is None:
        return ""
    return types.get(path, "3" if len(path) == 1 else "")
