"""Overlap of two label maps: aligns their grids, matches their labels by name or value, counts voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import IGNORE_INDEX, Label, LabelTable
from voxelry.core.volume import SPARSE_KINDS, LabelMap
from voxelry.errors import GridMismatchError, LabelError, nearest
from voxelry.metrics.overlap import count_values
from voxelry.metrics.scores import Scores

_UNKNOWN = IGNORE_INDEX - 1


def score(reference: LabelMap, prediction: LabelMap, case_id: str = "") -> Scores:
    """Overlap of one prediction with its reference.

    The prediction may lie on the reference's grid with flipped or permuted axes; it is re-indexed. Labels are matched by name
    where both tables have names, else by value. The reference's table defines the labels and the ignored value; a table of
    numbers alone (`LabelTable.numbered`) is widened by the prediction's labels, which then score 0 where the reference lacks
    them.

    Args:
        reference: the truth, one layer.
        prediction: the map to judge, one layer.
        case_id: id of the case.

    Returns:
        Scores of one case.

    Raises:
        GridMismatchError: the grids differ by more than order and direction of axes.
        LabelError: several layers, or values that the reference's table does not know.
    """
    pair = _AlignedPair.of(reference, prediction)
    counts = count_values(pair.reference.array, pair.prediction.array)
    rows, columns = pair.truth(counts.reference), pair.guess(counts.prediction)
    counted = counts.matrix[rows != IGNORE_INDEX]
    if counted[:, columns == IGNORE_INDEX].any():
        raise LabelError(
            f"{prediction.source.name}: the prediction holds its ignore value where the reference counts",
            remedy="Predict a label or background in every voxel that the reference does not ignore.",
        )
    matrix = np.zeros((len(pair.table) + 1,) * 2, dtype=np.int64)
    np.add.at(matrix, np.ix_(rows[rows != IGNORE_INDEX], columns[columns != IGNORE_INDEX]), counted[:, columns != IGNORE_INDEX])
    return Scores((case_id,), pair.table.names, matrix[None])


def common_classes(reference: LabelMap, prediction: LabelMap) -> tuple[LabelTable, NDArray[np.int16], NDArray[np.int16]]:
    """Both maps as class indices of one table, on the reference's grid, for metrics of shape.

    Args:
        reference: the truth, one layer.
        prediction: the map to judge, one layer.

    Returns:
        The labels to score, and ``(*spatial)`` class indices of the reference and the prediction, 0 the background. Voxels
        that the reference or the prediction ignores are background in both.

    Raises:
        GridMismatchError: as `score`.
        LabelError: as `score`.
    """
    pair = _AlignedPair.of(reference, prediction)
    classes = []
    for labels, lookup in ((pair.reference, pair.truth), (pair.prediction, pair.guess)):
        indices = np.empty(labels.array.shape, dtype=np.int16)
        for row, plane in enumerate(labels.array):
            indices[row] = lookup(plane.astype(np.int64))
        classes.append(indices)
    ignored = (classes[0] == IGNORE_INDEX) | (classes[1] == IGNORE_INDEX)
    for indices in classes:
        indices[ignored] = 0
    return pair.table, classes[0], classes[1]


def aligned(reference: LabelMap, prediction: LabelMap) -> tuple[LabelMap, LabelMap]:
    """Both maps on one grid, if possible that of the reference.

    A map without its empty slices (DICOM SEG) is put onto the other's grid, two such maps onto the grid that contains both.

    Raises:
        GridMismatchError: there is no such grid.
    """
    try:
        return reference, prediction.on_grid(reference.geometry)
    except GridMismatchError:
        if reference.source.kind not in SPARSE_KINDS:
            raise
        both = reference.geometry.joined(prediction.geometry) if prediction.source.kind in SPARSE_KINDS else prediction.geometry
        if both is None:
            raise
        return reference.on_grid(both), prediction.on_grid(both)


def _is_numbered(table: LabelTable) -> bool:
    """Whether the labels are numbered by `LabelTable.numbered` rather than named."""
    return all(label.name == f"label_{label.value}" for label in table.labels)


def _common_table(reference: LabelTable, prediction: LabelTable) -> LabelTable:
    """The labels to score: the reference's, widened by the prediction's where the reference's are only numbers."""
    if not _is_numbered(reference):
        return reference
    by_value: dict[int, Label] = {label.value: label for label in (*reference.labels, *prediction.labels)}
    values = sorted(value for value in by_value if value != reference.ignore)
    labels = tuple(Label(value=value, name=by_value[value].name) for value in values)
    return LabelTable(labels=labels, ignore=reference.ignore)


class _ClassLookup:
    """Stored values -> class indices of the common table, by one table look-up for each voxel.

    Args:
        classes: stored value -> class index.
        refuse: called with stored values that are not among them; raises.
    """

    def __init__(self, classes: dict[int, int], refuse: Callable[[list[int]], None]) -> None:
        self._low = min(classes) - 1
        self._table = np.full(max(classes) - self._low + 2, _UNKNOWN, dtype=np.int64)
        for value, index in classes.items():
            self._table[value - self._low] = index
        self._refuse = refuse

    def __call__(self, values: NDArray[Any]) -> NDArray[np.int64]:
        indices = np.take(self._table, values - self._low, mode="clip")
        unknown = indices == _UNKNOWN
        if unknown.any():
            self._refuse(np.unique(values[unknown]).tolist())
        return indices

    @classmethod
    def of_reference(cls, reference: LabelMap, table: LabelTable) -> _ClassLookup:
        classes = {0: 0} | {label.value: i + 1 for i, label in enumerate(table.labels)}
        if table.ignore is not None:
            classes[table.ignore] = IGNORE_INDEX
        return cls(classes, lambda values: table.check_values(values, reference.source.name))

    @classmethod
    def of_prediction(cls, prediction: LabelMap, reference: LabelTable, table: LabelTable) -> _ClassLookup:
        """By name where both tables are named, else by value; the ignore values of both tables are ignored."""
        by_name = not _is_numbered(reference) and not _is_numbered(prediction.table)
        index = {(label.name if by_name else label.value): i + 1 for i, label in enumerate(table.labels)}
        named = prediction.table.id2label
        if by_name:
            classes = {value: index.get(name, _UNKNOWN) for value, name in named.items() if value}
        else:
            classes = {label.value: index[label.value] for label in table.labels}
        ignored = {value: IGNORE_INDEX for value in (reference.ignore, prediction.table.ignore) if value is not None}

        def refuse(values: list[int]) -> None:
            shown = ", ".join(f"{value} ('{named[value]}')" if value in named else str(value) for value in values[:8])
            hint = nearest(named[values[0]], table.names) if by_name and values[0] in named else f"Known: {table.id2label}."
            raise LabelError(f"{prediction.source.name}: the reference's table does not know label {shown}", remedy=hint)

        return cls({0: 0} | ignored | classes, refuse)


@dataclass(frozen=True, eq=False)
class _AlignedPair:
    """Two single-layer maps on one grid, the labels to score, and the classes of each map's stored values."""

    reference: LabelMap
    prediction: LabelMap
    table: LabelTable
    truth: _ClassLookup
    guess: _ClassLookup

    @classmethod
    def of(cls, reference: LabelMap, prediction: LabelMap) -> _AlignedPair:
        for labels in (reference, prediction):
            if len(labels.layers) != 1:
                raise LabelError(
                    f"{labels.source.name}: labels overlap and lie on {len(labels.layers)} layers",
                    remedy="Overlap is measured on one layer: compare layer by layer.",
                )
        table = _common_table(reference.table, prediction.table)
        guess = _ClassLookup.of_prediction(prediction, reference.table, table)
        return cls(*aligned(reference, prediction), table, _ClassLookup.of_reference(reference, table), guess)
