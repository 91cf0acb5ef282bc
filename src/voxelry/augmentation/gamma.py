"""Gamma curves on grey values and on their negative; mean and standard deviation stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import DrawContext, IntensityAugmentation
from voxelry.augmentation.ranges import PositiveRange, Probability, uniform_about_one
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor


class GammaSettings(Frozen):
    """Keys of both gamma curves."""

    inverted_gamma_p: Probability = Field(
        default=0.1, description="probability of a gamma curve on the negative; mean and standard deviation stay"
    )
    gamma_p: Probability = Field(default=0.3, description="probability of a gamma curve; mean and standard deviation stay")
    gamma_range: PositiveRange = Field(default=(0.7, 1.5), description="exponent of both gamma curves; as often below 1 as above")


class GammaParams(NamedTuple):
    """Drawn parameters.

    Attributes:
        exponent: exponent of the grey values brought to 0..1.
    """

    exponent: float


class Gamma(IntensityAugmentation[GammaSettings, GammaParams]):
    """Brings grey values to 0..1, raises them to a power, and restores their mean and standard deviation, as nnU-Net does."""

    name = "gamma"
    settings = GammaSettings
    sign: ClassVar[int] = 1

    def draw_params(self, context: DrawContext[GammaSettings]) -> GammaParams:
        """Draw the exponent."""
        return GammaParams(uniform_about_one(context.settings.gamma_range, context.random))

    def apply(self, image: NDArray[np.float32], params: GammaParams) -> None:
        """Raise to the power; a channel of one value stays."""
        from voxelry.augmentation.grey_statistics import FLAT, grey_statistics
        from voxelry.augmentation.intensity_kernels import power, stretch

        grey, sign = grey_statistics(image), self.sign
        width = grey.highest - grey.lowest
        if width < FLAT:
            return
        base = grey.lowest if sign > 0 else grey.highest
        flat = image.reshape(-1)
        total, squares = power(flat, sign / width, -sign * base / width, params.exponent, sign * width, base)
        mean = total / image.size
        factor = grey.deviation / max(FLAT, math.sqrt(max(0.0, squares / image.size - mean * mean)))
        stretch(flat, factor, grey.mean - mean * factor)

    def apply_batch(self, rows_R: Tensor, params: Sequence[GammaParams]) -> Tensor:
        """Raise each row to its power; rows of one value stay."""
        import torch

        from voxelry.augmentation.grey_statistics import FLAT
        from voxelry.augmentation.tensors import column, patch_axes

        axes, signed = patch_axes(rows_R), rows_R * self.sign
        lowest, highest = signed.amin(axes, keepdim=True), signed.amax(axes, keepdim=True)
        width = highest - lowest
        exponents = column([gamma.exponent for gamma in params], rows_R)
        raised = ((signed - lowest) / width.clamp_min(FLAT)).clamp(0, 1) ** exponents
        mean, deviation = signed.mean(axes, keepdim=True), signed.std(axes, correction=0, keepdim=True)
        raised_mean, raised_deviation = raised.mean(axes, keepdim=True), raised.std(axes, correction=0, keepdim=True)
        restored = (raised - raised_mean) * (deviation / raised_deviation.clamp_min(FLAT)) + mean
        return torch.where(width < FLAT, signed, restored) * self.sign


class InvertedGamma(Gamma):
    """The gamma curve of the negative: it changes bright values as `gamma` changes dark ones."""

    name = "inverted_gamma"
    sign = -1
