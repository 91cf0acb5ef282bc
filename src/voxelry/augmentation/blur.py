"""Gaussian blur of a channel, along each axis in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import DrawContext, IntensityAugmentation
from voxelry.augmentation.axis_operators import AxisOperator, apply_operators
from voxelry.augmentation.ranges import Probability, Range
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor

TRUNCATE = 3.0
"""Standard deviations at which the Gaussian ends."""


class BlurSettings(Frozen):
    """Keys of blur."""

    blur_p: Probability = Field(default=0.2, description="probability of a Gaussian blur of the patch")
    blur_per_channel: Probability = Field(default=0.5, description="probability of each channel to be blurred where the patch is")
    blur_sigma: Range = Field(default=(0.5, 1.0), description="sigma of the blur in voxels, drawn for each axis")


class BlurParams(NamedTuple):
    """The blur that was drawn.

    Attributes:
        sigmas: standard deviation along each axis in voxels; 0 leaves an axis alone.
    """

    sigmas: tuple[float, ...]


class Blur(IntensityAugmentation[BlurSettings, BlurParams]):
    """Blurs by a Gaussian within the planes of the patch, mirrored about the centres of the outermost voxels."""

    name = "blur"
    settings = BlurSettings

    def draw_channels(self, context: DrawContext[BlurSettings]) -> Iterator[tuple[int, BlurParams]]:
        """Only channels that are drawn are blurred."""
        for channel in range(context.geometry.channels):
            if context.random.random() < context.settings.blur_per_channel:
                yield channel, self.draw_params(context)

    def draw_params(self, context: DrawContext[BlurSettings]) -> BlurParams:
        """Draw a sigma for each axis."""
        sigmas = context.random.uniform(*context.settings.blur_sigma, len(context.geometry.patch)).tolist()
        return BlurParams(tuple(sigma if axis in context.geometry.plane else 0.0 for axis, sigma in enumerate(sigmas)))

    def apply(self, image: NDArray[np.float32], params: BlurParams) -> None:
        """Blur along each axis."""
        pairs = zip(image.shape, params.sigmas, strict=True)
        apply_operators(image, [gaussian_operator(size, sigma) if sigma else None for size, sigma in pairs])

    def apply_batch(self, rows_R: Tensor, params: Sequence[BlurParams]) -> Tensor:
        """Blur along each axis by a matrix per row."""
        from voxelry.augmentation.tensors import multiply_rows_along

        for axis, size in enumerate(rows_R.shape[1:]):
            if any(blur.sigmas[axis] for blur in params):
                matrices = [gaussian_operator(size, blur.sigmas[axis]).matrix(size) for blur in params]
                rows_R = multiply_rows_along(rows_R, matrices, axis)
        return rows_R


def gaussian_operator(size: int, sigma: float) -> AxisOperator:
    """A Gaussian, mirrored about the centres of the first and the last voxel.

    Args:
        size: size of the axis.
        sigma: in voxels.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
    weights /= weights.sum()
    period = max(1, 2 * size - 2)
    index = (np.arange(size)[:, None] + offsets) % period
    index = np.where(index < size, index, period - index)
    return AxisOperator(index, np.broadcast_to(weights.astype(np.float32), index.shape).copy())
