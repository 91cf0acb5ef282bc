"""Where predictions land: arrays on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import Volume
from voxelry.inference.patches import Layout
from voxelry.preparation.preparation import Preparation


class Target:
    """Class indices, and a map of confidence if asked for, on the scan's own grid.

    Memory has the order of the scan's own: files store their first axis closest, and labels are then written as they lie.

    Args:
        volume: the scan.
        classes: K.
        confidence: ``probability`` or ``entropy`` for a map; empty for none.

    Attributes:
        classes: ``(*spatial)`` uint8, or uint16 where there are more than 256 classes.
        map: ``(*spatial)`` uint8, None where none was asked for.
    """

    def __init__(self, volume: Volume, classes: int, confidence: str) -> None:
        shape, order = volume.geometry.shape, _memory_order(volume)
        self.classes = np.zeros(shape, np.uint8 if classes <= 256 else np.uint16, order)
        self.map = np.full(shape, 0 if confidence == "entropy" else 255, np.uint8, order) if confidence else None

    def sink(
        self, preparation: Preparation, layout: Layout
    ) -> Callable[[int, NDArray[np.uint16], NDArray[np.uint8] | None], None]:
        """Puts new slices, which come in streaming order, where they belong."""
        classes = _seen(self.classes, preparation, layout)
        trust = None if self.map is None else _seen(self.map, preparation, layout)

        def keep(first: int, labels: NDArray[np.uint16], some: NDArray[np.uint8] | None) -> None:
            place = slice(first, first + len(labels))
            classes[place] = labels.reshape(classes[place].shape)
            if trust is not None and some is not None:
                trust[place] = some.reshape(trust[place].shape)

        return keep

    def stored(self, lookup: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Class indices turned into other numbers, in place where these take as many bytes.

        Args:
            lookup: ``(K,)`` what each class becomes.
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


def _seen(array: NDArray[Any], preparation: Preparation, layout: Layout) -> NDArray[Any]:
    """A view of the box of content, axes in streaming order."""
    return preparation.box(array).transpose(layout.order)
