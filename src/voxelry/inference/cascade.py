"""The second stage of a cascade sees the labels that the first one found: one channel a label, after the image's own.

They stay class indices on the scan's grid. The slices that windows need are brought to the network's grid as training's cache
brings them there (`Preparation.classes`), and one channel becomes one a label only for a batch at hand, on its device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.inference.forward import Forward
from voxelry.inference.patches import Layout, Start
from voxelry.preparation.preparation import Preparation


class Found:
    """What the first stage found, window by window of the second.

    Args:
        classes: ``(*spatial)`` class indices on the scan's own grid.
        preparation: of the second stage.
        axis: along which windows stream.
        twins: class that each class becomes when left and right are swapped.
    """

    def __init__(self, classes: NDArray[np.unsignedinteger], preparation: Preparation, axis: int, twins: Sequence[int]) -> None:
        self._classes, self._preparation, self._axis = classes, preparation, axis
        self._twins = np.array(twins, np.float32)
        self._place = (0, 0)
        self._slab = np.empty(0, np.float32)

    @staticmethod
    def needed(layout: Layout) -> int:
        """Bytes of the slices held at a time, and of those that replace them."""
        return 2 * 4 * layout.held * math.prod(layout.shape[1:])

    def slices(self, first: int, last: int) -> NDArray[np.float32]:
        """Slices `first` to `last` on the network's grid, ``(1, *spatial)``."""
        if (first, last) != self._place:
            self._slab = self._preparation.classes(self._classes, (self._axis, first, last))[None].astype(np.float32)
            self._place = (first, last)
        return self._slab

    def window(self, layout: Layout, start: Start, mirrored: bool) -> NDArray[np.float32]:
        """The classes of a window, ``(1, *window)``; left and right change names where it is to be `mirrored` across the body."""
        window = layout.cut(self, start)
        return self._twins[window.astype(np.intp)] if mirrored else window


def spelt_out(windows_BC: Tensor, labels: int) -> Tensor:
    """The last channel, class indices, becomes one channel a label: 1 where it is, 0 elsewhere.

    Args:
        windows_BC: ``(B, C + 1, *window)``.
        labels: how many there are.

    Returns:
        ``(B, C + labels, *window)``.
    """
    numbers = torch.arange(1, labels + 1, device=windows_BC.device).reshape(-1, *(1,) * (windows_BC.ndim - 2))
    return torch.cat([windows_BC[:, :-1], (windows_BC[:, -1:] == numbers).to(windows_BC.dtype)], 1)


def spelling(forward: Forward, labels: int) -> Forward:
    """A second stage that takes class indices in its last channel."""
    return lambda windows_BC: forward(spelt_out(windows_BC, labels))
