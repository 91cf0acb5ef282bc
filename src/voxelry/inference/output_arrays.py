"""OutputArrays: class indices on each layer and the map of confidence on the scan's own grid, filled slice by slice."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import Volume
from voxelry.inference.patches import PatchGrid
from voxelry.inference.slice_writer import NewSlices, SliceCallback
from voxelry.preparation.preparation import Preparation


class OutputArrays:
    """Class indices, and a map of confidence if asked for, on the scan's own grid.

    Their memory order is the scan's own: files store their first axis closest, and labels are then written as they lie.

    Args:
        volume: the scan.
        classes: K.
        confidence: ``probability`` or ``entropy`` for a map; empty for none.
        head: whether to keep the distance of an instance head.
        layers: L.

    Attributes:
        classes: ``(L, *spatial)`` uint8, or uint16 where there are more than 256 classes; each layer in one piece of memory.
        confidence: ``(*spatial)`` uint8, 0..255 for 0..1; None where none was asked for.
        head: ``(*spatial)`` uint32, levels of the distance (`head_kernels`), as wide as the ids that take their place
            (`instance_decoder`); None where they are not kept.
    """

    def __init__(self, volume: Volume, classes: int, confidence: str, head: bool = False, layers: int = 1) -> None:
        shape, order = volume.geometry.shape, _memory_order(volume)
        kind = np.uint8 if classes <= 256 else np.uint16
        if order == "C":
            self.classes = np.zeros((layers, *shape), kind)
        else:
            self.classes = np.moveaxis(np.zeros((*shape, layers), kind, "F"), -1, 0)
        certain = 0 if confidence == "entropy" else 255
        self.confidence = np.full(shape, certain, np.uint8, order) if confidence else None
        self.head = np.zeros(shape, np.uint32, order) if head else None

    def slice_callback(self, preparation: Preparation, grid: PatchGrid) -> SliceCallback:
        """A function that puts new slices, which come in streaming order, into the arrays."""
        classes = [_content(layer, preparation, grid) for layer in self.classes]
        maps = [None if array is None else _content(array, preparation, grid) for array in (self.confidence, self.head)]

        def write(new: NewSlices) -> None:
            slices = slice(new.first, new.first + new.labels.shape[1])
            for array, values in zip([*classes, *maps], [*new.labels, new.confidence, new.levels], strict=True):
                if array is not None and values is not None:
                    array[slices] = values.reshape(array[slices].shape)

        return write

    def relabelled(self, lookup: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Class indices turned into other numbers, in place where these take as many bytes.

        Args:
            lookup: ``(K,)`` new number of each class.
        """
        if self.classes.dtype != lookup.dtype:
            return lookup[self.classes]
        if not np.array_equal(lookup, np.arange(len(lookup))):
            for layer in self.classes:
                for plane in layer.T if layer.flags.f_contiguous else layer:
                    plane[...] = lookup[plane]
        return self.classes


def _memory_order(volume: Volume) -> Literal["C", "F"]:
    """Fortran's where the scan's first axis is closer in memory than its last."""
    strides = volume.array[0].strides
    return "F" if abs(strides[0]) < abs(strides[-1]) else "C"


def _content(array: NDArray[Any], preparation: Preparation, grid: PatchGrid) -> NDArray[Any]:
    """A view of the box of content, axes in streaming order."""
    return preparation.box(array).transpose(grid.order)
