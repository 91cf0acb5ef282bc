"""Combinations of labels on several layers: one number for all labels of a voxel, as a label powerset has it.

Training deals in one class index a voxel. Where labels overlap, a voxel has a label on each layer; then the combination of these
is its class index. With L layers of n labels there are ``(n + 1) ** L`` combinations, all of them numbered by the table alone, so
that none is unforeseen. With one layer a combination is a class index of the table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import IGNORE_INDEX, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError

MOST_COMBINATIONS = 2**15 - 2
"""So many combinations fit 16-bit class indices."""


class LabelCombinations:
    """The combinations of a table's labels, numbered: 0 is the background.

    Args:
        table: the labels.

    Attributes:
        layers: class indices of the table on each layer, in the table's order.
        count: number of combinations, the background among them.

    Raises:
        LabelError: more than `MOST_COMBINATIONS`.

    Example:
        >>> from voxelry.core import Label, LabelTable
        >>> labels = [Label(value=1, name="lung"), Label(value=2, name="air"), Label(value=1, name="heart", layer=1)]
        >>> combinations = LabelCombinations(LabelTable(labels=tuple(labels)))
        >>> combinations.count, combinations.containing[3]
        (6, (3, 4, 5))
    """

    def __init__(self, table: LabelTable) -> None:
        self.table = table
        self.layers = [
            [index for index, label in enumerate(table.labels, start=1) if label.layer == layer] for layer in range(table.layers)
        ]
        self.count = math.prod(len(layer) + 1 for layer in self.layers)
        if self.count > MOST_COMBINATIONS:
            raise LabelError(
                f"the labels lie on {table.layers} layers, where they can meet in {self.count} ways; at most "
                f"{MOST_COMBINATIONS} can be learnt",
                remedy="Put labels that never overlap on one layer of the dataset's card.",
            )
        self._strides = [math.prod(len(layer) + 1 for layer in self.layers[:number]) for number in range(table.layers)]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """``(A, L)``: the class index of the table that each combination has on each layer, 0 where it has none."""
        numbers = np.arange(self.count)
        ranks = [numbers // stride % (len(layer) + 1) for stride, layer in zip(self._strides, self.layers, strict=True)]
        return np.stack([np.array([0, *layer])[rank] for layer, rank in zip(self.layers, ranks, strict=True)], axis=1)

    @cached_property
    def containing(self) -> dict[int, tuple[int, ...]]:
        """Class index of the table -> the combinations that contain the label."""
        return {
            index: tuple(np.flatnonzero((self.labels == index).any(axis=1)).tolist()) for index in range(1, len(self.table) + 1)
        }

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """The combination that each becomes when the body is mirrored left to right.

        Raises:
            LabelError: labels that may overlap have mirror twins that may not.
        """
        twins, places = np.array(self.table.mirror_classes()), self._places()
        layer_of = np.array([-1, *(label.layer for label in self.table.labels)])
        swapped = twins[self.labels]
        taken = np.sort(layer_of[swapped], axis=1)
        clashes = np.flatnonzero(((taken[:, 1:] == taken[:, :-1]) & (taken[:, 1:] >= 0)).any(axis=1))
        if len(clashes):
            names = " and ".join(f"'{self.table.names[index - 1]}'" for index in self.labels[clashes[0]] if index)
            raise LabelError(
                f"{names} may overlap, but their mirror twins lie on one layer",
                remedy="Put twins on layers that correspond in the dataset's card.",
            )
        return tuple(places[swapped].sum(axis=1).tolist())

    def planes(self, labels: LabelMap) -> list[NDArray[np.int16]]:
        """The labels of each layer, ``(*spatial)``, counted from 1 within the layer; `IGNORE_INDEX` where ignored.

        Raises:
            LabelError: a value that the table does not know on that layer, or another number of layers.
        """
        if len(labels.layers) != len(self.layers):
            raise LabelError(
                f"{labels.source.name}: labels on {len(labels.layers)} layers, the table has {len(self.layers)}",
                remedy="Give one mask file for each label, or a format that holds layers, such as DICOM SEG or .seg.nrrd.",
            )
        tables = [self._on_layer(layer) for layer in self.layers]
        return [table.to_classes(layer, labels.source.name) for table, layer in zip(tables, labels.layers, strict=True)]

    def joined(self, planes: Sequence[NDArray[np.int16]]) -> NDArray[np.int16]:
        """``(*spatial)`` combinations of the labels of each layer (`planes`); a voxel ignored on any layer is ignored."""
        if len(planes) == 1:
            return planes[0]
        numbers = np.zeros(planes[0].shape, np.int16)
        ignored = np.zeros(planes[0].shape, bool)
        for stride, plane in zip(self._strides, planes, strict=True):
            numbers += np.int16(stride) * np.maximum(plane, 0)
            ignored |= plane == IGNORE_INDEX
        numbers[ignored] = IGNORE_INDEX
        return numbers

    def _on_layer(self, indices: Sequence[int]) -> LabelTable:
        """The labels of one layer as a table of one layer."""
        alone = [self.table.labels[index - 1].model_copy(update={"layer": 0, "mirror": None}) for index in indices]
        return LabelTable(labels=tuple(alone), ignore=self.table.ignore)

    def _places(self) -> NDArray[np.int64]:
        """``(labels + 1,)``: the number of the combination of each label alone."""
        places = np.zeros(len(self.table) + 1, np.int64)
        for stride, layer in zip(self._strides, self.layers, strict=True):
            places[layer] = stride * np.arange(1, len(layer) + 1)
        return places
