"""One confusion matrix, and every overlap metric from it.

Class indices: 0 is the background, 1..K-1 the labels of a table in order (`voxelry.labels.LabelTable.to_classes`).
Empty masks: a class that is in neither map has no score (NaN, "missing"); one that is in only one of them scores 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import GridMismatchError, LabelError
from voxelry.labels import IGNORE_INDEX

Counts = NDArray[np.int64]
Values = NDArray[np.float64]

CHUNK_VOXELS = 1 << 17


def confusion(reference: NDArray[Any], prediction: NDArray[Any], classes: int, ignore: int | None = IGNORE_INDEX) -> Counts:
    """Count how often each reference class was predicted as each class.

    Memory beyond the inputs is a few megabytes, whatever their size, type or memory order.

    Args:
        reference: class indices 0..classes-1, integers of any shape; `ignore` where a voxel counts nowhere.
        prediction: class indices of the same shape.
        classes: K, background included.
        ignore: the reference value left out, or None to leave nothing out.

    Returns:
        ``(K, K)`` int64, reference along rows, prediction along columns.

    Raises:
        GridMismatchError: the shapes differ.
        LabelError: values that are not whole numbers, or outside 0..classes-1 where they count.
    """
    return count_pairs(paired_chunks(reference, prediction), classes, ignore)


def paired_chunks(reference: NDArray[Any], prediction: NDArray[Any]) -> Iterator[tuple[Counts, Counts]]:
    """Walk two label arrays together, a small piece at a time.

    Args:
        reference: integers (or booleans) of any shape and memory order.
        prediction: integers (or booleans) of the same shape.

    Yields:
        Two ``(n,)`` int64 arrays with the values of the same voxels, n <= `CHUNK_VOXELS`; valid until the next step.

    Raises:
        GridMismatchError: the shapes differ.
        LabelError: the values are not whole numbers.
    """
    if reference.shape != prediction.shape:
        raise GridMismatchError(
            f"a reference of shape {reference.shape} cannot be compared with a prediction of shape {prediction.shape}",
            remedy="Bring both onto one grid first.",
        )
    for array, name in ((reference, "reference"), (prediction, "prediction")):
        if array.dtype.kind not in "uib":
            raise LabelError(f"{name}: labels are whole numbers, not {array.dtype}", remedy="Convert class indices to integers.")
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


def count_pairs(chunks: Iterable[tuple[NDArray[Any], NDArray[Any]]], classes: int, ignore: int | None = IGNORE_INDEX) -> Counts:
    """The confusion matrix of voxels that come in pieces (see `confusion`).

    Args:
        chunks: pairs of ``(n,)`` class indices, reference and prediction.
        classes: K, background included.
        ignore: the reference value left out, or None.

    Returns:
        ``(K, K)`` int64, reference along rows.

    Raises:
        LabelError: a class index outside 0..classes-1 where it counts.
    """
    total = np.zeros(classes * classes, dtype=np.int64)
    for reference, prediction in chunks:
        counted = slice(None) if ignore is None else reference != ignore
        rows, columns = reference[counted].astype(np.int64), prediction[counted].astype(np.int64)
        _check_range(rows, classes, "reference")
        _check_range(columns, classes, "prediction")
        total += np.bincount(rows * classes + columns, minlength=classes * classes)
    return total.reshape(classes, classes)


def _check_range(indices: Counts, classes: int, name: str) -> None:
    """Refuse indices that would be counted in another class's cell."""
    if indices.size and (indices.min() < 0 or indices.max() >= classes):
        wrong = np.unique(indices[(indices < 0) | (indices >= classes)])
        raise LabelError(
            f"{name}: class indices {wrong[:8].tolist()} are outside 0..{classes - 1}",
            remedy="Turn stored values into class indices with LabelTable.to_classes.",
        )


def dice(matrix: Counts) -> Values:
    """Dice coefficient (Dice 1945, Sorensen 1948) of every class: 2 TP / (2 TP + FP + FN), no unit, 0..1.

    Args:
        matrix: ``(..., K, K)`` confusion matrices.

    Returns:
        ``(..., K)`` float64, class 0 the background; NaN for a class in neither map, 0 for one in only one of them.
    """
    shared, reference, prediction = _margins(matrix)
    return _ratio(2 * shared, reference + prediction)


def iou(matrix: Counts) -> Values:
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


def _ratio(part: Counts, whole: Counts) -> Values:
    result: Values = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return result
