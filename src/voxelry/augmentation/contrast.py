"""Contrast: distances of grey values from their mean multiplied by a factor, within the range of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import DrawContext, IntensityAugmentation
from voxelry.augmentation.ranges import PositiveRange, Probability, uniform_about_one
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor


class ContrastSettings(Frozen):
    """Keys of contrast."""

    contrast_p: Probability = Field(
        default=0.15, description="probability of stretching grey values about their mean, within their range"
    )
    contrast_factor: PositiveRange = Field(default=(0.75, 1.25), description="contrast factor; as often below 1 as above")


class ContrastParams(NamedTuple):
    """Drawn parameters.

    Attributes:
        factor: factor of the distances from the mean.
    """

    factor: float


class Contrast(IntensityAugmentation[ContrastSettings, ContrastParams]):
    """Stretches grey values about their mean and clips them to the range that they had, as nnU-Net does."""

    name = "contrast"
    settings = ContrastSettings

    def draw_params(self, context: DrawContext[ContrastSettings]) -> ContrastParams:
        """Draw the factor."""
        return ContrastParams(uniform_about_one(context.settings.contrast_factor, context.random))

    def apply(self, image: NDArray[np.float32], params: ContrastParams) -> None:
        """Stretch and clip."""
        from voxelry.augmentation.grey_statistics import grey_statistics
        from voxelry.augmentation.intensity_kernels import stretch_within

        grey = grey_statistics(image)
        stretch_within(image.reshape(-1), params.factor, grey.mean * (1 - params.factor), grey.lowest, grey.highest)

    def apply_batch(self, rows_R: Tensor, params: Sequence[ContrastParams]) -> Tensor:
        """Stretch and clip each row."""
        from voxelry.augmentation.tensors import column, patch_axes

        axes = patch_axes(rows_R)
        mean = rows_R.mean(axes, keepdim=True)
        stretched = (rows_R - mean) * column([contrast.factor for contrast in params], rows_R) + mean
        return stretched.clamp(rows_R.amin(axes, keepdim=True), rows_R.amax(axes, keepdim=True))
