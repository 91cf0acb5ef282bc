"""NamedRow: the objects of a row with their names, and how sure these are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from voxelry.core.label_sequence import LabelSequence
from voxelry.inference.sequence_naming import ConsistentSequence


@dataclass(frozen=True)
class NamedObject:
    """An object of a row, with its name.

    Attributes:
        name: its label; None for an object that has no place in the row, which becomes background.
        predicted: the label with the highest score, by itself.
        share: share of the score that its name has, 0 to 1.
        centroid: in mm, RAS+; along rows and columns in pictures.
        volume: mm^3 (mm^2, pixels), all pieces together.
        instance: its id in the map; 0 where the map has no ids.
        pieces: the number of pieces it was joined from.
        alternatives: other names (None: no place), each with its likelihood as a share of that of its name.

    Example:
        >>> NamedObject(name="L3", predicted="L2", share=0.2, centroid=(0, 0, -72), volume=40_000).pieces
        1
    """

    name: str | None
    predicted: str
    share: float
    centroid: tuple[float, ...]
    volume: float
    instance: int = 0
    pieces: int = 1
    alternatives: Mapping[str | None, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedRow:
    """The objects of one row, from one end to the other.

    Attributes:
        sequence: the row.
        objects: in the order of its labels; objects without a place where they lie among the others.
        choices: the most likely sequences of names of all pieces, the best first.
        is_certain: the best sequence is 20 times as likely as any other.
        renamed: share of the row's voxels that got another label.
        debris: number of small parts that took the name of an object beside them, and of those that were left out.
        strayed: labels of another row that objects had which lie on this row's side; a free label near them counts as predicted.

    Example:
        >>> from voxelry.core import LabelSequence
        >>> from voxelry.inference import NamedObject
        >>> bodies = [NamedObject(name, name, 1.0, (0, 0, z), 40_000) for name, z in (("L1", 36), ("L2", 0))]
        >>> row = NamedRow(LabelSequence(name="row", labels=("L1", "L2", "L3")), tuple(bodies), (), is_certain=True)
        >>> row.names
        ('L1', 'L2')
    """

    sequence: LabelSequence
    objects: tuple[NamedObject, ...]
    choices: tuple[ConsistentSequence, ...]
    is_certain: bool
    renamed: float = 0.0
    debris: tuple[int, int] = (0, 0)
    strayed: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names in order, those of objects without a place left out."""
        return tuple(each.name for each in self.objects if each.name is not None)
