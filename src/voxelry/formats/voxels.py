"""Conversion of stored numbers to grey values and labels, by the same rules for every format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import LabelError, NonFiniteError

WHOLE_TOLERANCE = 1e-4
"""Largest distance of a label stored as a float from a whole number."""

LARGEST_LABEL = 65535
"""The largest label value that a label table holds."""

LARGEST_ID = 2**32 - 1
"""The largest id of an object that a LabelMap holds."""

_INT16 = np.iinfo(np.int16)
_LARGEST_STEP = 2**30
"""Whole slopes and intercepts up to here are computed in int32 without overflow, given a result within int16."""


def check_finite(array: NDArray[Any], where: str) -> None:
    """Refuse NaN and infinite voxels.

    Args:
        array: an image of any shape and type; integers pass at once.
        where: the file, for the message.

    Raises:
        NonFiniteError: naming `where`, how many there are and the index of the first.
    """
    if array.dtype.kind != "f" or np.isfinite([array.min(), array.max()]).all():
        return
    bad = ~np.isfinite(array)
    first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), array.shape))
    raise NonFiniteError(
        f"{where}: {int(bad.sum())} of {array.size} voxels are NaN or infinite, the first ({array[first]}) at index {first}",
        remedy="Replace them by a background value before reading.",
    )


def fits_int16(low: float, high: float, slope: float, intercept: float) -> bool:
    """Whole stored numbers from `low` to `high` stay whole and within int16 after ``slope * stored + intercept``."""
    if not (float(slope).is_integer() and float(intercept).is_integer()):
        return False
    if max(abs(slope), abs(intercept)) > _LARGEST_STEP:
        return False
    ends = (low * slope + intercept, high * slope + intercept)
    return _INT16.min <= min(ends) and max(ends) <= _INT16.max


def rescaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """``slope * stored + intercept`` as int16 where that is lossless, else as float32.

    Args:
        stored: integer or floating array of any shape.
        slope: not 0.
        intercept: in units of the result.

    Returns:
        int16 if `stored` is of an integer type and every result is a whole number within int16, else float32.
    """
    if stored.dtype.kind in "iu" and fits_int16(int(stored.min()), int(stored.max()), slope, intercept):
        if slope == 1 and intercept == 0:
            return stored.astype(np.int16, copy=False)
        values = stored.astype(np.int32)
        values *= int(slope)
        values += int(intercept)
        return values.astype(np.int16)
    with np.errstate(over="ignore", invalid="ignore"):
        result = stored.astype(np.float32)
        if slope != 1:
            result *= np.float32(slope)
        if intercept != 0:
            result += np.float32(intercept)
    return result


def as_labels(stored: NDArray[Any], where: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Stored numbers as labels; floating-point numbers are accepted where every value is whole.

    Args:
        stored: integer, boolean or floating array of any shape.
        where: the file, for messages.

    Returns:
        The same values in uint8, or uint16 where they need it.

    Raises:
        NonFiniteError: NaN or infinite values.
        LabelError: fractions, negative values, or values above `LARGEST_LABEL`; naming the values.
    """
    whole, high = _whole(stored, where)
    if high > LARGEST_LABEL:
        raise LabelError(
            f"{where}: value {high:.0f} is above {LARGEST_LABEL}, the largest label",
            remedy="Renumber the labels; is this an image? For ids of objects give `instances: mask_ids` or `id_map`.",
        )
    return whole.astype(np.uint8) if high < 256 else whole.astype(np.uint16)


def as_ids(stored: NDArray[Any], where: str) -> NDArray[np.uint32]:
    """Stored numbers as ids of objects, in the same way; up to 2^32 - 1.

    Raises:
        NonFiniteError: NaN or infinite values.
        LabelError: fractions, negative or larger values; naming the values.
    """
    whole, high = _whole(stored, where)
    if high > LARGEST_ID:
        raise LabelError(f"{where}: value {high:.0f} is above {LARGEST_ID}, the largest id", remedy="Renumber the objects.")
    return whole.astype(np.uint32)


def _whole(stored: NDArray[Any], where: str) -> tuple[NDArray[Any], int]:
    """Stored numbers without fractions and negative ones, and the largest."""
    check_finite(stored, where)
    if stored.dtype.kind == "f":
        whole = np.rint(stored)
        off = np.abs(stored - whole) > WHOLE_TOLERANCE
        if off.any():
            raise LabelError(
                f"{where}: {int(off.sum())} voxels hold fractions ({_some(stored[off])}), which are no labels",
                remedy="Threshold a probability map first, or resample labels with nearest neighbour.",
            )
        stored = whole
    if stored.min() < 0:
        raise LabelError(
            f"{where}: negative values ({_some(stored[stored < 0])}) are no labels",
            remedy="Labels and ids are whole numbers from 0 (background) up; is this an image?",
        )
    return stored, int(stored.max())


def values_of(labels: NDArray[np.uint8] | NDArray[np.uint16]) -> tuple[int, ...]:
    """The values that occur, ascending; slab by slab, so without a sorted copy."""
    occurs = np.zeros(LARGEST_LABEL + 1, dtype=bool)
    for slab in np.atleast_2d(labels.T):
        occurs[slab] = True
    return tuple(int(value) for value in np.flatnonzero(occurs))


def _some(values: NDArray[Any]) -> str:
    """Up to five distinct values, for a message."""
    distinct = np.unique(values[:100_000])
    return ", ".join(f"{value:g}" for value in distinct[:5].tolist()) + (" ..." if len(distinct) > 5 else "")
