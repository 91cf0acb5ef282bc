"""The stored values of a label map in the type that files hold them in."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import ExportError
from voxelry.volume import LabelMap


def stored_values(labels: LabelMap, path: str | os.PathLike[str]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The single layer's stored values in the smallest unsigned type that holds them and the table.

    Args:
        labels: one layer.
        path: the file they go to, for messages.

    Returns:
        ``(*spatial)`` uint8 or uint16.

    Raises:
        ExportError: values outside 0..65535.
    """
    array = labels.array
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ExportError(
            f"{path}: label values {low}..{high} do not fit 0..65535", remedy="Give the ignore value a number from 1 to 65535."
        )
    high = max(high, *(label.value for label in labels.table.labels), 0)
    return array.astype(np.uint8, copy=False) if high < 256 else array.astype(np.uint16, copy=False)
