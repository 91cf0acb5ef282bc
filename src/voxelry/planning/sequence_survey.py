"""SequenceSurvey: how often, how far apart and how large the labels of a row are in the references of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from voxelry.core.label_sequence import LabelSequence, Spread, row_position
from voxelry.core.volume import LabelMap
from voxelry.metrics.segments import segments_info

COHERENT = 0.9
"""Length of the mean of the cases' unit vectors from which they count as one direction."""


@dataclass(frozen=True, eq=False)
class _Object:
    """Centroid, volume and contact with the scan's border of one label of a case."""

    centroid: NDArray[np.float64]
    volume: float
    is_cut: bool


_Row = dict[str, _Object]


@dataclass
class SequenceSurvey:
    """Collects the objects of references, one case after the other.

    Attributes:
        sequences: the rows of labels to look at.

    Example:
        >>> from voxelry.core import Geometry, LabelTable
        >>> table = LabelTable.numbered([1, 2])
        >>> array = np.zeros((4, 4, 9), np.uint8)
        >>> array[1:3, 1:3, 1:3], array[1:3, 1:3, 5:7] = 1, 2
        >>> survey = SequenceSurvey((LabelSequence(name="row", labels=table.names),))
        >>> survey.add(LabelMap.of(array, Geometry.from_spacing(array.shape, (1, 1, 3)), table))
        >>> survey.result()[0].distances
        (Spread(mean=12.0, std=0.0),)
    """

    sequences: Sequence[LabelSequence]

    def __post_init__(self) -> None:
        self._cases: list[_Row] = []

    def add(self, labels: LabelMap) -> None:
        """Measure the labels of one reference."""
        if not self.sequences:
            return
        size = labels.geometry.voxel_volume or 1.0
        row = {
            segment.label.name: _Object(
                row_position(labels.geometry, segment.centroid), segment.voxels * size, segment.touches_border
            )
            for segment in segments_info(replace(labels, instances=None))
        }
        self._cases.append(row)

    def result(self) -> tuple[LabelSequence, ...]:
        """The sequences with what the cases showed."""
        return tuple(self._learnt(sequence) for sequence in self.sequences)

    def _learnt(self, sequence: LabelSequence) -> LabelSequence:
        names = sequence.labels
        rows = [{name: each for name, each in case.items() if name in names} for case in self._cases]
        whole = [{name: each for name, each in row.items() if not each.is_cut} for row in rows]
        distances = [_spread([_apart(row[a], row[b]) for row in whole if a in row and b in row]) for a, b in pairwise(names)]
        learnt = {
            "cases": len(rows),
            "present": tuple(sum(name in row for row in rows) for name in names),
            "distances": tuple(distances),
            "volumes": tuple(_spread([row[name].volume for row in whole if name in row]) for name in names),
            "direction": _direction([_ends(row, names) for row in rows if len(row) > 1]),
        }
        return sequence.model_copy(update=learnt)


def _apart(first: _Object, second: _Object) -> float:
    return float(np.linalg.norm(second.centroid - first.centroid))


def _spread(values: list[float]) -> Spread | None:
    if not values or not np.mean(values) > 0:
        return None
    return Spread(mean=round(float(np.mean(values)), 3), std=round(float(np.std(values)), 3))


def _ends(row: _Row, names: tuple[str, ...]) -> NDArray[np.float64]:
    """The vector from the first label of a case to its last."""
    there = [name for name in names if name in row]
    return row[there[-1]].centroid - row[there[0]].centroid


def _direction(vectors: list[NDArray[np.float64]]) -> tuple[float, ...] | None:
    units = [vector / np.linalg.norm(vector) for vector in vectors if vector.any()]
    if not units:
        return None
    mean = np.mean(units, axis=0)
    length = float(np.linalg.norm(mean))
    return tuple(round(float(value), 4) for value in mean / length) if length >= COHERENT else None
