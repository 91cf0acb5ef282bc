"""AlignedPair: reference and prediction on one grid, the labels to score, and the layers on which each label lies.

Labels that overlap lie on several layers of a map. Each label is scored on its layer of the reference and its layer of the
prediction; labels that share both layers are scored together, as the labels of maps of one layer are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import IGNORE_INDEX, Label, LabelTable
from voxelry.core.volume import SPARSE_KINDS, LabelMap
from voxelry.errors import GridMismatchError, LabelError, nearest

_UNKNOWN = IGNORE_INDEX - 1


@dataclass(frozen=True, eq=False)
class LayerPair:
    """A layer of the reference, a layer of the prediction, and the labels that lie on both.

    Attributes:
        reference: index of the reference's layer.
        prediction: index of the prediction's layer.
        labels: class indices of its labels, in order; the labels of other layers are background here.
        truth: stored values of the reference's layer -> class indices, `IGNORE_INDEX` for ignored ones.
        guess: likewise of the prediction's layer.
    """

    reference: int
    prediction: int
    labels: tuple[int, ...]
    truth: ClassLookup
    guess: ClassLookup


@dataclass(frozen=True, eq=False)
class AlignedPair:
    """Two maps on one grid.

    Attributes:
        reference: the truth.
        prediction: the map to judge, on the reference's grid where possible.
        table: the labels to score, and the reference's ignore value.
        layers: the pairs of layers; every label is in one of them, and there is at least one.
    """

    reference: LabelMap
    prediction: LabelMap
    table: LabelTable
    layers: tuple[LayerPair, ...]

    @classmethod
    def of(cls, reference: LabelMap, prediction: LabelMap) -> AlignedPair:
        """Bring both onto one grid and match their labels, by name where both tables have names, else by value.

        Raises:
            GridMismatchError: as `aligned`.
            LabelError: values that the reference's table does not know, or a label on a layer that its map lacks.
        """
        table = _common_table(reference.table, prediction.table)
        by_name = not is_numbered(reference.table) and not is_numbered(prediction.table)
        places: dict[tuple[int, int], list[int]] = {}
        for index, label in enumerate(table.labels, start=1):
            place = _layer_of(reference, label), _predicted_layer(prediction, label, by_name)
            places.setdefault(place, []).append(index)
        reference, prediction = aligned(reference, prediction)
        layers = tuple(
            LayerPair(
                *place,
                tuple(labels),
                ClassLookup.of_reference(reference, table, place[0], labels),
                ClassLookup.of_prediction(prediction, reference.table, table, place[1], labels),
            )
            for place, labels in (places or {(0, 0): []}).items()
        )
        _refuse_unknown_layers(reference, prediction, table, layers)
        return cls(reference, prediction, table, layers)


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


def is_numbered(table: LabelTable) -> bool:
    """Whether the labels are numbered by `LabelTable.numbered` rather than named."""
    return all(label.name == f"label_{label.value}" for label in table.labels)


def _common_table(reference: LabelTable, prediction: LabelTable) -> LabelTable:
    """The labels to score: the reference's, widened by the prediction's where the reference's are only numbers."""
    if not is_numbered(reference):
        return reference
    by_value: dict[int, Label] = {label.value: label for label in (*reference.labels, *prediction.labels)}
    values = sorted(value for value in by_value if value != reference.ignore)
    layer = {label.value: label.layer for label in reference.labels}
    labels = (
        Label(value=value, name=by_value[value].name, kind=by_value[value].kind, layer=layer.get(value, 0)) for value in values
    )
    return LabelTable(labels=tuple(labels), ignore=reference.ignore)


def _layer_of(labels: LabelMap, label: Label) -> int:
    """The layer of a map that holds a label of its table; that of a map of one layer, whatever the table says."""
    if len(labels.layers) == 1:
        return 0
    if label.layer >= len(labels.layers):
        raise LabelError(
            f"{labels.source.name}: label '{label.name}' is said to lie on layer {label.layer} of {len(labels.layers)}, from 0",
            remedy="Correct the layers of the label table.",
        )
    return label.layer


def _predicted_layer(prediction: LabelMap, label: Label, by_name: bool) -> int:
    """The layer of the prediction that holds a label to score; the first layer where its table does not have the label."""
    matches = [own for own in prediction.table.labels if (own.name == label.name if by_name else own.value == label.value)]
    same_layer = [own for own in matches if own.layer == label.layer]
    if len(matches) > 1 and not same_layer:
        raise LabelError(
            f"{prediction.source.name}: value {label.value} is on several layers",
            remedy="Name the labels of reference and prediction alike.",
        )
    return _layer_of(prediction, (same_layer or matches)[0]) if matches else 0


def _refuse_unknown_layers(reference: LabelMap, prediction: LabelMap, table: LabelTable, layers: Sequence[LayerPair]) -> None:
    """Refuse values on layers that hold none of the labels to score."""
    for layer in sorted(set(range(len(reference.layers))) - {pair.reference for pair in layers}):
        ClassLookup.of_reference(reference, table, layer, ())(np.unique(reference.layers[layer]).astype(np.int64))
    for layer in sorted(set(range(len(prediction.layers))) - {pair.prediction for pair in layers}):
        lookup = ClassLookup.of_prediction(prediction, reference.table, table, layer, ())
        lookup(np.unique(prediction.layers[layer]).astype(np.int64))


def _refuse_shared(labels: Sequence[Label], prediction: LabelMap) -> None:
    """Refuse labels to score of one value, which a layer of a prediction without names cannot tell apart."""
    values = [label.value for label in labels]
    for label in labels:
        if values.count(label.value) > 1:
            raise LabelError(
                f"{prediction.source.name}: value {label.value} is that of several labels of the reference",
                remedy="Give the prediction's labels the names of the reference's.",
            )


class ClassLookup:
    """Stored values of a layer -> class indices of the common table, by one table look-up for each voxel.

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
        """Class indices of int64 stored values; raises LabelError for values that the table does not know."""
        indices = np.take(self._table, values - self._low, mode="clip")
        unknown = indices == _UNKNOWN
        if unknown.any():
            self._refuse(np.unique(values[unknown]).tolist())
        return indices

    def of_layer(self, layer: NDArray[Any]) -> NDArray[np.int16]:
        """``(*spatial)`` class indices of a layer."""
        indices = np.empty(layer.shape, dtype=np.int16)
        for row, plane in enumerate(layer):
            indices[row] = self(plane.astype(np.int64))
        return indices

    @classmethod
    def of_reference(cls, reference: LabelMap, table: LabelTable, layer: int, labels: Sequence[int]) -> ClassLookup:
        """Of a layer of the reference; only the class indices in `labels` are kept apart from the background."""
        here = {i: label for i, label in enumerate(table.labels, start=1) if _layer_of(reference, label) == layer}
        classes = {0: 0} | {label.value: i if i in labels else 0 for i, label in here.items()}
        if table.ignore is not None:
            classes[table.ignore] = IGNORE_INDEX

        def refuse(values: list[int]) -> None:
            table.check_values(values, reference.source.name)
            raise LabelError(
                f"{reference.source.name}: values {values[:8]} on layer {layer}, on which the table has no such labels",
                remedy="Correct the layers of the label table.",
            )

        return cls(classes, refuse)

    @classmethod
    def of_prediction(
        cls, prediction: LabelMap, reference: LabelTable, table: LabelTable, layer: int, labels: Sequence[int]
    ) -> ClassLookup:
        """By name where both tables are named, else by value; the ignore values of both tables are ignored."""
        by_name = not is_numbered(reference) and not is_numbered(prediction.table)
        index = {(label.name if by_name else label.value): i for i, label in enumerate(table.labels, start=1)}
        named = {0: "background"} | {
            label.value: label.name for label in prediction.table.labels if _layer_of(prediction, label) == layer
        }
        if by_name:
            known = {value: index.get(name, _UNKNOWN) for value, name in named.items() if value}
        else:
            here = [
                (i, label) for i, label in enumerate(table.labels, start=1) if _predicted_layer(prediction, label, False) == layer
            ]
            known = {label.value: i for i, label in here}
            _refuse_shared([label for _, label in here], prediction)
        classes = {value: i if i in labels or i == _UNKNOWN else 0 for value, i in known.items()}
        ignored = {value: IGNORE_INDEX for value in (reference.ignore, prediction.table.ignore) if value is not None}

        def refuse(values: list[int]) -> None:
            shown = ", ".join(f"{value} ('{named[value]}')" if value in named else str(value) for value in values[:8])
            hint = nearest(named[values[0]], table.names) if by_name and values[0] in named else f"Known: {table.id2label}."
            raise LabelError(f"{prediction.source.name}: the reference's table does not know label {shown}", remedy=hint)

        return cls({0: 0} | ignored | classes, refuse)
