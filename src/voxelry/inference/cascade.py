"""Cascade: the second stage gets the labels of the first as input, one channel per label, after the image's own channels.

The labels stay class indices on the scan's grid. The slices that patches need are brought to the network's grid as in the
training cache (`Preparation.classes`), and become one channel per label only for the current batch, on its device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.inference.forward import Forward
from voxelry.inference.patches import PatchGrid, Start
from voxelry.preparation.preparation import Preparation


class PreviousLabels:
    """Labels of the first stage, patch by patch of the second.

    Args:
        classes: ``(*spatial)`` class indices on the scan's own grid.
        preparation: preparation of the second stage.
        axis: axis along which patches stream.
        mirror_map: class that each class becomes when left and right are swapped.
    """

    def __init__(
        self, classes: NDArray[np.unsignedinteger], preparation: Preparation, axis: int, mirror_map: Sequence[int]
    ) -> None:
        self._classes, self._preparation, self._axis = classes, preparation, axis
        self._mirror_map = np.array(mirror_map, np.float32)
        self._slices = (0, 0)
        self._slab = np.empty(0, np.float32)

    @staticmethod
    def bytes_for(grid: PatchGrid) -> int:
        """Bytes of the slices held at a time, and of those that replace them."""
        return 2 * 4 * grid.ring_plane_voxels

    def slices(self, first: int, last: int) -> NDArray[np.float32]:
        """Slices `first` to `last` on the network's grid, ``(1, *spatial)``."""
        if (first, last) != self._slices:
            self._slab = self._preparation.classes(self._classes, (self._axis, first, last))[None].astype(np.float32)
            self._slices = (first, last)
        return self._slab

    def patch(self, grid: PatchGrid, start: Start, mirrored: bool) -> NDArray[np.float32]:
        """Classes of a patch, ``(1, *patch)``; left and right labels are swapped where it is to be `mirrored` across the body."""
        patch = grid.cut(self, start)
        return self._mirror_map[patch.astype(np.intp)] if mirrored else patch


def one_hot_labels(patches_BC: Tensor, labels: int) -> Tensor:
    """Turn the last channel, class indices, into one channel per label: 1 where it is, 0 elsewhere.

    Args:
        patches_BC: ``(B, C + 1, *patch)``.
        labels: number of labels.

    Returns:
        ``(B, C + labels, *patch)``.
    """
    numbers = torch.arange(1, labels + 1, device=patches_BC.device).reshape(-1, *(1,) * (patches_BC.ndim - 2))
    return torch.cat([patches_BC[:, :-1], (patches_BC[:, -1:] == numbers).to(patches_BC.dtype)], 1)


def with_one_hot_labels(forward: Forward, labels: int) -> Forward:
    """A second stage as a function of patches whose last channel holds class indices."""
    return lambda patches_BC: forward(one_hot_labels(patches_BC, labels))
