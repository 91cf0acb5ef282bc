"""Simulated low resolution: the nearest voxels of a coarser grid, then linear interpolation back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import DrawContext, IntensityAugmentation
from voxelry.augmentation.axis_operators import AxisOperator, apply_operators
from voxelry.augmentation.ranges import PositiveShareRange, Probability
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor


class LowResolutionSettings(Frozen):
    """Keys of low resolution."""

    low_resolution_p: Probability = Field(default=0.25, description="probability of simulated low resolution")
    low_resolution_per_channel: Probability = Field(
        default=0.5, description="probability of each channel to be changed where the patch is"
    )
    low_resolution_scale: PositiveShareRange = Field(
        default=(0.5, 1.0), description="size of the coarser grid, as a share of the patch's edge"
    )


class LowResolutionParams(NamedTuple):
    """The coarser grid that was drawn.

    Attributes:
        shape: its voxels along each axis; the patch's own size leaves an axis alone.
    """

    shape: tuple[int, ...]


class LowResolution(IntensityAugmentation[LowResolutionSettings, LowResolutionParams]):
    """Samples the channel on a coarser grid within the planes of the patch, and interpolates it linearly back."""

    name = "low_resolution"
    settings = LowResolutionSettings

    def draw_channels(self, context: DrawContext[LowResolutionSettings]) -> Iterator[tuple[int, LowResolutionParams]]:
        """Only channels that are drawn are made coarse."""
        for channel in range(context.geometry.channels):
            if context.random.random() < context.settings.low_resolution_per_channel:
                yield channel, self.draw_params(context)

    def draw_params(self, context: DrawContext[LowResolutionSettings]) -> LowResolutionParams:
        """Draw the size of the coarser grid."""
        scale = float(context.random.uniform(*context.settings.low_resolution_scale))
        patch, plane = context.geometry.patch, context.geometry.plane
        return LowResolutionParams(
            tuple(max(1, round(edge * scale)) if axis in plane else edge for axis, edge in enumerate(patch))
        )

    def apply(self, image: NDArray[np.float32], params: LowResolutionParams) -> None:
        """Make each axis coarse and fine again."""
        pairs = zip(image.shape, params.shape, strict=True)
        apply_operators(image, [coarse_operator(size, coarse) if coarse != size else None for size, coarse in pairs])

    def apply_batch(self, rows_R: Tensor, params: Sequence[LowResolutionParams]) -> Tensor:
        """Make each axis coarse and fine again by a matrix per row."""
        from voxelry.augmentation.tensors import multiply_rows_along

        for axis, size in enumerate(rows_R.shape[1:]):
            if any(grid.shape[axis] != size for grid in params):
                matrices = [coarse_operator(size, grid.shape[axis]).matrix(size) for grid in params]
                rows_R = multiply_rows_along(rows_R, matrices, axis)
        return rows_R


def coarse_operator(size: int, coarse: int) -> AxisOperator:
    """The nearest voxels of a grid of `coarse` voxels, then linear interpolation back to `size`.

    Args:
        size: size of the axis.
        coarse: voxels of the coarser grid.
    """
    nearest = ((np.arange(coarse) + 0.5) * size / coarse).astype(np.int64)
    position = np.clip((np.arange(size) + 0.5) * coarse / size - 0.5, 0, coarse - 1)
    first = np.minimum(position.astype(np.int64), max(coarse - 2, 0))
    fraction = (position - first).astype(np.float32)
    neighbours = np.stack([first, np.minimum(first + 1, coarse - 1)], axis=1)
    return AxisOperator(nearest[neighbours], np.stack([1 - fraction, fraction], axis=1))
