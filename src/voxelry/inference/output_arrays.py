"""OutputArrays: class indices and the map of confidence on the scan's own grid, filled slice by slice."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import Volume
from voxelry.inference.patches import PatchGrid
from voxelry.inference.slice_writer import SliceCallback
from voxelry.preparation.preparation import Preparation


class OutputArrays:
    """Class indices, and a map of confidence if asked for, on the scan's own grid.

    Their memory order is the scan's own: files store their first axis closest, and labels are then written as they lie.

    Args:
        volume: the scan.
        classes: K.
        confidence: ``probability`` or ``entropy`` for a map; empty for none.

    Attributes:
        classes: ``(*spatial)`` uint8, or uint16 where there are more than 256 classes.
        confidence: ``(*spatial)`` uint8, 0..255 for 0..1; None where none was asked for.
    """

    def __init__(self, volume: Volume, classes: int, confidence: str) -> None:
        shape, order = volume.geometry.shape, _memory_order(volume)
        self.classes = np.zeros(shape, np.uint8 if classes <= 256 else np.uint16, order)
        certain = 0 if confidence == "entropy" else 255
        self.confidence = np.full(shape, certain, np.uint8, order) if confidence else None

    def slice_callback(self, preparation: Preparation, grid: PatchGrid) -> SliceCallback:
        """A function that puts new slices, which come in streaming order, into the arrays."""
        classes = _content(self.classes, preparation, grid)
        confidence = None if self.confidence is None else _content(self.confidence, preparation, grid)

        def write(first: int, labels: NDArray[np.uint16], values: NDArray[np.uint8] | None) -> None:
            slices = slice(first, first + len(labels))
            classes[slices] = labels.reshape(classes[slices].shape)
            if confidence is not None and values is not None:
                confidence[slices] = values.reshape(confidence[slices].shape)

        return write

    def relabelled(self, lookup: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Class indices turned into other numbers, in place where these take as many bytes.

        Args:
            lookup: ``(K,)`` new number of each class.
        """
        if self.classes.dtype != lookup.dtype:
            return lookup[self.classes]
        if not np.array_equal(lookup, np.arange(len(lookup))):
            for plane in self.classes.T if self.classes.flags.f_contiguous else self.classes:
                plane[...] = lookup[plane]
        return self.classes


def _memory_order(volume: Volume) -> Literal["C", "F"]:
    """Fortran's where the scan's first axis is closer in memory than its last."""
    strides = volume.array[0].strides
    return "F" if abs(strides[0]) < abs(strides[-1]) else "C"


def _content(array: NDArray[Any], preparation: Preparation, grid: PatchGrid) -> NDArray[Any]:
    """A view of the box of content, axes in streaming order."""
    return preparation.box(array).transpose(grid.order)
