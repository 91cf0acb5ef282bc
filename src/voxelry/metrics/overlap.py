"""Confusion matrices and counts of value pairs of two label maps, from which all overlap metrics follow.

Class indices: 0 is the background, 1..K-1 the labels of a table in order (`voxelry.core.labels.LabelTable.to_classes`).
Empty masks: a class that is in neither map has no score (NaN, "missing"); one that is in only one of them scores 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.threads import pool, slabs
from voxelry.core.labels import IGNORE_INDEX
from voxelry.errors import GridMismatchError, LabelError

Counts = NDArray[np.int64]
Values = NDArray[np.float64]

CHUNK_VOXELS = 1 << 17
LARGE_VOXELS = 1 << 21
"""From this size on the compiled kernels are worth loading."""

_MAX_CELLS = 1 << 20


@dataclass(frozen=True, eq=False)
class PairCounts:
    """The count of each pair of stored values in two label maps.

    Attributes:
        reference: ``(R,)`` int64 values of the rows, ascending.
        prediction: ``(P,)`` int64 values of the columns, ascending.
        matrix: ``(R, P)`` int64 voxels.
    """

    reference: Counts
    prediction: Counts
    matrix: Counts


def count_values(reference: NDArray[Any], prediction: NDArray[Any]) -> PairCounts:
    """Count the pairs of values of two label maps in one pass, for any values.

    Every overlap metric, of labels and of unions of labels, follows from the result (`voxelry.metrics.regions.count_regions`).
    Memory beyond the inputs is below 8 MB for uint8; otherwise a table of 8 bytes for each pair of values in the range that
    occurs, at most 8 MiB, for each thread and two more. Large arrays are fastest as uint8, both in the same memory order.

    Args:
        reference: integers (or booleans) of any shape and memory order.
        prediction: integers (or booleans) of the same shape.

    Returns:
        Counts of the values that occur.

    Raises:
        GridMismatchError: the shapes differ.
        LabelError: the values are not whole numbers.
    """
    check_pair(reference, prediction)
    dense = _count_dense(reference, prediction) if reference.size >= LARGE_VOXELS else None
    if dense is not None:
        return dense
    cells: dict[tuple[int, int], int] = {}
    for truth, guess in paired_chunks(reference, prediction):
        for cell, count in _cells(truth, guess):
            cells[cell] = cells.get(cell, 0) + count
    rows, columns = (np.array(sorted({cell[side] for cell in cells}), dtype=np.int64) for side in (0, 1))
    matrix = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for (row, column), count in cells.items():
        matrix[np.searchsorted(rows, row), np.searchsorted(columns, column)] = count
    return PairCounts(rows, columns, matrix)


def _cells(truth: Counts, guess: Counts) -> Iterator[tuple[tuple[int, int], int]]:
    """The pairs of values of two flat arrays, and the count of each."""
    if not truth.size:
        return
    low, high = (int(truth.min()), int(guess.min())), (int(truth.max()), int(guess.max()))
    width = high[1] - low[1] + 1
    if (high[0] - low[0] + 1) * width <= CHUNK_VOXELS:
        table = np.bincount((truth - low[0]) * width + (guess - low[1]))
        for key in np.flatnonzero(table).tolist():
            yield (low[0] + key // width, low[1] + key % width), int(table[key])
        return
    rows, row_of = np.unique(truth, return_inverse=True)
    columns, column_of = np.unique(guess, return_inverse=True)
    keys, counts = np.unique(row_of * len(columns) + column_of, return_counts=True)
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        yield (int(rows[key // len(columns)]), int(columns[key % len(columns)])), count


def _count_dense(reference: NDArray[Any], prediction: NDArray[Any]) -> PairCounts | None:
    """The counts by a compiled loop over a table of all pairs; None where layout, type or range of values do not allow it."""
    flat = _flattened(reference, prediction)
    if flat is None:
        return None
    from voxelry.metrics.metric_kernels import joint_histogram, joint_histogram_of_words

    truth, guess = flat
    if truth.dtype == np.uint8:
        low, spans = (0, 0), (256, 256)
    else:
        low = int(truth.min()), int(guess.min())
        spans = int(truth.max()) - low[0] + 1, int(guess.max()) - low[1] + 1
        if spans[0] * spans[1] > _MAX_CELLS:
            return None

    by_words = truth.dtype == np.uint8 and truth.ctypes.data % 8 == 0 and guess.ctypes.data % 8 == 0

    def count(stretch: tuple[int, int]) -> Counts:
        counts = np.zeros(spans, dtype=np.int64)
        start, stop = 8 * stretch[0], min(8 * stretch[1], truth.size)
        if by_words:
            whole = stop // 8 * 8
            joint_histogram_of_words(truth[start:whole].view(np.uint64), guess[start:whole].view(np.uint64), counts)
            start = whole
        if stop > start:
            joint_histogram(truth[start:stop], guess[start:stop], *low, counts)
        return counts

    matrix = sum(pool().map(count, slabs(-(-truth.size // 8))), np.zeros(spans, dtype=np.int64))
    rows, columns = matrix.any(axis=1), matrix.any(axis=0)
    values = [np.flatnonzero(occurs) + first for occurs, first in zip((rows, columns), low, strict=True)]
    return PairCounts(values[0], values[1], matrix[np.ix_(rows, columns)])


def _flattened(reference: NDArray[Any], prediction: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Both arrays flat in memory order, without a copy, of one type that the kernels support; else None."""
    views = [array.view(np.uint8) if array.dtype == np.bool_ else array for array in (reference, prediction)]
    supported = {np.dtype(kind) for kind in (np.uint8, np.uint16, np.int16, np.int32, np.int64)}
    if views[0].dtype != views[1].dtype or views[0].dtype not in supported:
        return None
    for order in ("C_CONTIGUOUS", "F_CONTIGUOUS"):
        if all(view.flags[order] for view in views):
            truth, guess = (view.reshape(-1, order=order[0]) for view in views)  # type: ignore[call-overload]
            return truth, guess
    return None


def confusion(reference: NDArray[Any], prediction: NDArray[Any], classes: int, ignore: int | None = IGNORE_INDEX) -> Counts:
    """Count the voxels of each reference class that are predicted as each class.

    Memory beyond the inputs is that of `count_values`, whatever their size and memory order.

    Args:
        reference: class indices 0..classes-1, integers of any shape; `ignore` where a voxel is not counted.
        prediction: class indices of the same shape.
        classes: K, background included.
        ignore: the reference value left out, or None to leave nothing out.

    Returns:
        ``(K, K)`` int64, reference along rows, prediction along columns.

    Raises:
        GridMismatchError: the shapes differ.
        LabelError: values that are not whole numbers, or outside 0..classes-1 where they count.
    """
    pairs = count_values(reference, prediction)
    counted = np.full(len(pairs.reference), True) if ignore is None else pairs.reference != ignore
    occurs = pairs.matrix[counted].any(axis=0)
    rows, columns = pairs.reference[counted], pairs.prediction[occurs]
    _check_range(rows, classes, "reference")
    _check_range(columns, classes, "prediction")
    matrix = np.zeros((classes, classes), dtype=np.int64)
    matrix[np.ix_(rows, columns)] = pairs.matrix[np.ix_(counted, occurs)]
    return matrix


def paired_chunks(reference: NDArray[Any], prediction: NDArray[Any]) -> Iterator[tuple[Counts, Counts]]:
    """Iterate over two label arrays together in small pieces.

    Args:
        reference: integers (or booleans) of any shape and memory order.
        prediction: integers (or booleans) of the same shape.

    Yields:
        Two ``(n,)`` int64 arrays with the values of the same voxels, n <= `CHUNK_VOXELS`; valid until the next step.

    Raises:
        GridMismatchError: the shapes differ.
        LabelError: the values are not whole numbers.
    """
    check_pair(reference, prediction)
    pieces = np.nditer(
        [reference, prediction],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_dtypes=[np.int64, np.int64],
        casting="same_kind",
        order="K",
        buffersize=CHUNK_VOXELS,
    )
    with pieces:
        yield from pieces


def check_pair(reference: NDArray[Any], prediction: NDArray[Any]) -> None:
    """Refuse arrays that differ in shape or are not whole numbers."""
    if reference.shape != prediction.shape:
        raise GridMismatchError(
            f"a reference of shape {reference.shape} cannot be compared with a prediction of shape {prediction.shape}",
            remedy="Bring both onto one grid first.",
        )
    for array, name in ((reference, "reference"), (prediction, "prediction")):
        if array.dtype.kind not in "uib":
            raise LabelError(f"{name}: labels are whole numbers, not {array.dtype}", remedy="Convert class indices to integers.")


def _check_range(indices: Counts, classes: int, name: str) -> None:
    """Refuse class indices outside 0..classes - 1."""
    if indices.size and (indices.min() < 0 or indices.max() >= classes):
        wrong = np.unique(indices[(indices < 0) | (indices >= classes)])
        raise LabelError(
            f"{name}: class indices {wrong[:8].tolist()} are outside 0..{classes - 1}",
            remedy="Turn stored values into class indices with LabelTable.to_classes.",
        )


def dice_of_confusion(matrix: Counts) -> Values:
    """Dice coefficient (Dice 1945, Sorensen 1948) of every class: 2 TP / (2 TP + FP + FN), no unit, 0..1.

    Args:
        matrix: ``(..., K, K)`` confusion matrices.

    Returns:
        ``(..., K)`` float64, class 0 the background; NaN for a class in neither map, 0 for one in only one of them.
    """
    shared, reference, prediction = _margins(matrix)
    return _ratio(2 * shared, reference + prediction)


def iou_of_confusion(matrix: Counts) -> Values:
    """Intersection over union (Jaccard 1901) of every class: TP / (TP + FP + FN), no unit, 0..1.

    Args:
        matrix: ``(..., K, K)`` confusion matrices.

    Returns:
        ``(..., K)`` float64, class 0 the background; NaN for a class in neither map, 0 for one in only one of them.
    """
    shared, reference, prediction = _margins(matrix)
    return _ratio(shared, reference + prediction - shared)


def _margins(matrix: Counts) -> tuple[Counts, Counts, Counts]:
    """Voxels of each class in both maps, in the reference, in the prediction."""
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2)


def _ratio(numerator: Counts, denominator: Counts) -> Values:
    result: Values = np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0)
    return result
