"""Brightness: grey values multiplied by a factor."""

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


class BrightnessSettings(Frozen):
    """Keys of brightness."""

    brightness_p: Probability = Field(default=0.15, description="probability of multiplying grey values by a factor")
    brightness_factor: PositiveRange = Field(default=(0.75, 1.25), description="brightness factor; as often below 1 as above")


class BrightnessParams(NamedTuple):
    """Drawn parameters.

    Attributes:
        factor: factor of the grey values.
    """

    factor: float


class Brightness(IntensityAugmentation[BrightnessSettings, BrightnessParams]):
    """Multiplies normalised grey values by a factor, as nnU-Net does."""

    name = "brightness"
    settings = BrightnessSettings

    def draw_params(self, context: DrawContext[BrightnessSettings]) -> BrightnessParams:
        """Draw the factor."""
        return BrightnessParams(uniform_about_one(context.settings.brightness_factor, context.random))

    def apply(self, image: NDArray[np.float32], params: BrightnessParams) -> None:
        """Multiply."""
        from voxelry.augmentation.intensity_kernels import stretch

        stretch(image.reshape(-1), params.factor, 0.0)

    def apply_batch(self, rows_R: Tensor, params: Sequence[BrightnessParams]) -> Tensor:
        """Multiply each row."""
        from voxelry.augmentation.tensors import column

        return rows_R * column([brightness.factor for brightness in params], rows_R)
