"""Overlap of two label maps: counts the voxels of the labels of two maps that are brought onto one grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import IGNORE_INDEX, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError
from voxelry.metrics.aligned_pair import AlignedPair, LayerPair
from voxelry.metrics.overlap import Counts, count_values
from voxelry.metrics.scores import Scores


def score(reference: LabelMap, prediction: LabelMap, case_id: str = "") -> Scores:
    """Overlap of one prediction with its reference.

    The prediction may lie on the reference's grid with flipped or permuted axes; it is re-indexed. Labels are matched by name
    where both tables have names, else by value. The reference's table defines the labels and the ignored value; a table of
    numbers alone (`LabelTable.numbered`) is widened by the prediction's labels, which then score 0 where the reference lacks
    them. Labels that overlap are scored each on its layers.

    Args:
        reference: the truth.
        prediction: the map to judge.
        case_id: id of the case.

    Returns:
        Scores of one case.

    Raises:
        GridMismatchError: the grids differ by more than order and direction of axes.
        LabelError: values that the reference's table does not know.
    """
    pair = AlignedPair.of(reference, prediction)
    return Scores((case_id,), pair.table.names, OverlapCounts.of(pair).confusion[None])


@dataclass(frozen=True, eq=False)
class OverlapCounts:
    """The counted voxels of a pair of maps.

    Attributes:
        confusion: ``(L + 1, L + 1)`` int64, reference along rows, class 0 the background. Of labels on several layers it is the
            sum of the matrices of each `LayerPair`: labels on different layers are not confused with each other, and the
            background is that of each pair of layers.
        counted: ``(L,)`` int64 voxels that count for each label: all that neither map ignores on its layers.
    """

    confusion: Counts
    counted: Counts

    @classmethod
    def of(cls, pair: AlignedPair) -> OverlapCounts:
        """Count.

        Raises:
            LabelError: the prediction ignores voxels that the reference counts, or has values that the table does not know.
        """
        counted = np.zeros(len(pair.table), dtype=np.int64)
        total = np.zeros((len(pair.table) + 1,) * 2, dtype=np.int64)
        for layers in pair.layers:
            matrix = _confusion(pair, layers)
            counted[np.array(layers.labels, dtype=np.int64) - 1] = matrix.sum()
            total += matrix
        return cls(total, counted)


def _confusion(pair: AlignedPair, layers: LayerPair) -> Counts:
    """``(L + 1, L + 1)`` voxels of the labels of a pair of layers."""
    counts = count_values(pair.reference.layers[layers.reference], pair.prediction.layers[layers.prediction])
    rows, columns = layers.truth(counts.reference), layers.guess(counts.prediction)
    counted = counts.matrix[rows != IGNORE_INDEX]
    if counted[:, columns == IGNORE_INDEX].any():
        raise LabelError(
            f"{pair.prediction.source.name}: the prediction holds its ignore value where the reference counts",
            remedy="Predict a label or background in every voxel that the reference does not ignore.",
        )
    matrix = np.zeros((len(pair.table) + 1,) * 2, dtype=np.int64)
    np.add.at(matrix, np.ix_(rows[rows != IGNORE_INDEX], columns[columns != IGNORE_INDEX]), counted[:, columns != IGNORE_INDEX])
    return matrix


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
        LabelError: as `score`, or several layers.
    """
    pair = AlignedPair.of(reference, prediction)
    for labels in (reference, prediction):
        if len(labels.layers) != 1:
            raise LabelError(
                f"{labels.source.name}: labels overlap and lie on {len(labels.layers)} layers",
                remedy="Class indices are those of one layer: give each layer as a map of its own.",
            )
    return pair.table, *layer_classes(pair, pair.layers[0])


def layer_classes(pair: AlignedPair, layers: LayerPair) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """``(*spatial)`` class indices of the labels of a pair of layers, of reference and prediction; 0 where either ignores."""
    truth = layers.truth.of_layer(pair.reference.layers[layers.reference])
    guess = layers.guess.of_layer(pair.prediction.layers[layers.prediction])
    ignored = (truth == IGNORE_INDEX) | (guess == IGNORE_INDEX)
    truth[ignored] = guess[ignored] = 0
    return truth, guess
