"""Mirror twins: the labels of one side of the body, and those that mirroring would mix up."""

from __future__ import annotations

from collections.abc import Iterable

from voxelry.core.catalogue import lookup
from voxelry.core.labels import Label
from voxelry.core.sides import side_of
from voxelry.errors import LabelError


def has_side(label: Label) -> bool:
    """Whether a label stands for one side of the body: by a mirror twin other than itself, or by its name or code without one."""
    return label.mirror != label.name if label.mirror else _says_side(label)


def without_twin(labels: Iterable[Label]) -> list[str]:
    """The names of labels that say a side and have no mirror twin: mirrored from side to side, each would be taken for the other.

    Example:
        >>> from voxelry.core import Label
        >>> without_twin([Label(value=1, name="left kidney"), Label(value=2, name="liver"), Label(value=3, name="FDI 36")])
        ['left kidney', 'FDI 36']
    """
    return [label.name for label in labels if label.mirror is None and _says_side(label)]


def _says_side(label: Label) -> bool:
    """The name or code says a side, or the catalogue knows a twin by the name (teeth)."""
    if side_of(label.name) is not None or (label.modifier is not None and side_of(label.modifier.meaning) is not None):
        return True
    try:
        return lookup(label.name).mirror is not None
    except LabelError:
        return False
