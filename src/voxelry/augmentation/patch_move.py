"""The joint move of a patch by all its spatial augmentations: one matrix, one displacement field, one set of mirrored axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.augmentation.augmentation import AugmentationParams, SpatialAugmentation
from voxelry.augmentation.patch_geometry import PatchGeometry


@dataclass(frozen=True)
class PatchMove:
    """Source positions of the voxels of a patch: displaced, then mapped by the matrix; the result is mirrored.

    Attributes:
        geometry: geometry of the patch.
        moves: the spatial augmentations that were drawn, with their parameters, in order.
    """

    geometry: PatchGeometry
    moves: tuple[tuple[SpatialAugmentation[Any, Any], Any], ...]

    @classmethod
    def of(
        cls, params: AugmentationParams, spatial: Mapping[str, SpatialAugmentation[Any, Any]], geometry: PatchGeometry
    ) -> PatchMove:
        """The move that a record describes.

        Args:
            params: the record.
            spatial: all spatial augmentations by name.
            geometry: geometry of the patch.
        """
        return cls(geometry, tuple((spatial[change.kind], change.params) for change in params.changes if change.kind in spatial))

    @cached_property
    def flips(self) -> tuple[int, ...]:
        """The mirrored axes; an axis that is mirrored twice is not."""
        axes = [axis for move, params in self.moves for axis in move.mirrored(params)]
        return tuple(axis for axis in range(len(self.geometry.patch)) if axes.count(axis) % 2)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """``(axes, axes + 1)``: the product of all maps, from voxels of the patch to voxels of the source."""
        axes = len(self.geometry.patch)
        total = np.eye(axes + 1)
        for matrix in self._matrices:
            total = total @ np.vstack([matrix, np.eye(axes + 1)[-1]])
        return total[:-1]

    @cached_property
    def margin(self) -> NDArray[np.float64] | None:
        """``(axes,)``: largest displacement in voxels; None without a displacement field."""
        margins = [margin for move, params in self.moves if (margin := move.margin(params, self.geometry)) is not None]
        return reduce(np.add, margins) if margins else None

    @property
    def interpolates(self) -> bool:
        """Whether grey values are interpolated; else the patch is copied and mirrored."""
        return bool(self._matrices) or self.margin is not None

    @cached_property
    def _matrices(self) -> list[NDArray[np.float64]]:
        matrices = (move.matrix(params) for move, params in self.moves)
        return [np.array(matrix) for matrix in matrices if matrix is not None]

    def displacement(self) -> NDArray[np.float32] | None:
        """``(axes, *patch)`` float32: the sum of all displacement fields, in voxels; None without one."""
        fields = [field for move, params in self.moves if (field := move.displacement(params, self.geometry)) is not None]
        return reduce(np.add, fields) if fields else None

    def reach(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The box of the source that the patch needs: ``(first, size)`` along each axis, from the patch's first voxel."""
        patch = np.array(self.geometry.patch)
        if not self.interpolates:
            return np.zeros(len(patch), dtype=np.int64), patch
        ends = np.stack([np.zeros(len(patch)), patch - 1.0], axis=1)
        if self.margin is not None:
            ends += np.array([-1, 1]) * self.margin[:, None]
        mapped = self.matrix[:, :-1, None] * ends[None]
        offset = self.matrix[:, -1]
        first = np.floor(mapped.min(axis=2).sum(axis=1) + offset + 1e-9).astype(np.int64)
        last = np.ceil(mapped.max(axis=2).sum(axis=1) + offset - 1e-9).astype(np.int64)
        return first, last - first + 1
