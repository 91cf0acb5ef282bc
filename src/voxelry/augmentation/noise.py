"""Gaussian noise that follows from a key and the voxel's number, the same on every device."""

from __future__ import annotations

import math
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

_MASK = 0xFFFFFFFF


class NoiseSettings(Frozen):
    """Keys of noise."""

    noise_p: Probability = Field(default=0.1, description="probability of Gaussian noise")
    noise_sigma: float = Field(default=0.1, ge=0, description="largest standard deviation, in normalised grey values")


class NoiseParams(NamedTuple):
    """The noise that was drawn.

    Attributes:
        sigma: standard deviation in normalised grey values.
        key: key that the noise of each voxel follows from.
    """

    sigma: float
    key: int


class Noise(IntensityAugmentation[NoiseSettings, NoiseParams]):
    """Adds Gaussian noise, of one strength for the patch, independent in each channel.

    Noise is not drawn voxel by voxel: it is hashed from a key and the voxel's number (Box and Muller,
    doi:10.1214/aoms/1177706645), so it is the same on every device.
    """

    name = "noise"
    settings = NoiseSettings

    def draw_params(self, context: DrawContext[NoiseSettings]) -> NoiseParams:
        """Draw the strength and a key."""
        return NoiseParams(float(context.random.uniform(0, context.settings.noise_sigma)), context.key())

    def draw_channels(self, context: DrawContext[NoiseSettings]) -> Iterator[tuple[int, NoiseParams]]:
        """One strength, and a key for each channel."""
        params = self.draw_params(context)
        for channel in range(context.geometry.channels):
            yield channel, params if channel == 0 else params._replace(key=context.key())

    def apply(self, image: NDArray[np.float32], params: NoiseParams) -> None:
        """Add the noise."""
        from voxelry.augmentation.intensity_kernels import add_noise

        add_noise(image.reshape(-1), params.sigma, params.key)

    def apply_batch(self, rows_R: Tensor, params: Sequence[NoiseParams]) -> Tensor:
        """Add the noise of `intensity_kernels.add_noise`: 32-bit arithmetic within 64 bits, whose overflow is cut off."""
        import torch

        from voxelry.augmentation.tensors import column, to_device

        count = rows_R[0].numel()
        keys = to_device([noise.key for noise in params], torch.int64, rows_R.device)[:, None]
        state = _hashed(torch.arange((count + 1) // 2, device=rows_R.device)) ^ keys
        a = (_hashed(state) >> 8).float() + 0.5
        b = (_hashed((state + 0x9E3779B9) & _MASK) >> 8).float()
        radius = (-2 * (a * 2.0**-24).log()).sqrt()
        angle = b * (2 * math.pi * 2.0**-24)
        normal = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(1)[:, :count]
        return rows_R + normal.view(rows_R.shape) * column([noise.sigma for noise in params], rows_R)


def _hashed(x: Tensor) -> Tensor:
    """The hash of `intensity_kernels`, of 32-bit numbers held in 64 bits."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _MASK
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)
