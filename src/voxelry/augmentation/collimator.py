"""Collimator borders of X-rays: blackened edges whose labels are ignored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import DrawContext, IntensityAugmentation
from voxelry.augmentation.ranges import Probability
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor


class CollimatorSettings(Frozen):
    """Keys of the collimator."""

    collimator_p: Probability = Field(default=0.0, description="probability of blackened borders, whose pixels are ignored")
    collimator_share: float = Field(default=0.15, ge=0, le=0.4, description="largest width of a border, as a share of the edge")


class CollimatorParams(NamedTuple):
    """The opening that was drawn.

    Attributes:
        first: first open voxel along each axis.
        last: behind the last open voxel along each axis.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]


class Collimator(IntensityAugmentation[CollimatorSettings, CollimatorParams]):
    """Blackens borders of the patch, the same in all channels; each border has probability 0.5.

    The loss ignores the labels below a border, since nothing of them is left to see.
    """

    name = "collimator"
    settings = CollimatorSettings

    def draw_channels(self, context: DrawContext[CollimatorSettings]) -> Iterator[tuple[int, CollimatorParams]]:
        """One opening for all channels."""
        params = self.draw_params(context)
        for channel in range(context.geometry.channels):
            yield channel, params

    def draw_params(self, context: DrawContext[CollimatorSettings]) -> CollimatorParams:
        """Draw the width of each border."""
        first, last = [], []
        for axis, edge in enumerate(context.geometry.patch):
            widths = (
                context.random.uniform(0, context.settings.collimator_share, 2)
                * (context.random.random(2) < 0.5)
                * (axis in context.geometry.plane)
            )
            first.append(round(widths[0] * edge))
            last.append(edge - round(widths[1] * edge))
        return CollimatorParams(tuple(first), tuple(last))

    def apply(self, image: NDArray[np.float32], params: CollimatorParams) -> None:
        """Give the borders the lowest grey value."""
        image[self.ignored(params, image.shape)] = image.min()

    def apply_batch(self, rows_R: Tensor, params: Sequence[CollimatorParams]) -> Tensor:
        """Give the borders the lowest grey value of each row."""
        import torch

        from voxelry.augmentation.tensors import patch_axes, to_device

        lowest = rows_R.amin(patch_axes(rows_R), keepdim=True)
        shape = tuple(rows_R.shape[1:])
        borders = [to_device(self.ignored(opening, shape), torch.bool, rows_R.device) for opening in params]
        return torch.where(torch.stack(borders), lowest, rows_R)

    def ignored(self, params: CollimatorParams, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """``shape`` bool: the borders."""
        borders = np.ones(shape, dtype=bool)
        borders[tuple(slice(first, last) for first, last in zip(params.first, params.last, strict=True))] = False
        return borders
