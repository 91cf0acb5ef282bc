"""MRI spike artifact: one wrong point of k-space, which shows as stripes over the whole image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import DrawContext, IntensityAugmentation
from voxelry.augmentation.ranges import Probability, Range
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor


class SpikeSettings(Frozen):
    """Keys of spikes."""

    spike_p: Probability = Field(default=0.0, description="probability of an MRI spike: stripes over the image")
    spike_strength: Range = Field(default=(0.3, 1.0), description="height of the stripes in standard deviations")


class SpikeParams(NamedTuple):
    """The stripes that were drawn.

    Attributes:
        height: in standard deviations of the channel.
        phase: in radians.
        waves: number of waves along each axis.
    """

    height: float
    phase: float
    waves: tuple[int, ...]


class Spike(IntensityAugmentation[SpikeSettings, SpikeParams]):
    """MRI spike: adds one plane wave, of at most a quarter wave per voxel."""

    name = "spike"
    settings = SpikeSettings

    def draw_params(self, context: DrawContext[SpikeSettings]) -> SpikeParams:
        """Draw the point of k-space, its strength and its phase."""
        waves = tuple(
            int(context.random.integers(-(edge // 4), edge // 4 + 1)) if axis in context.geometry.plane else 0
            for axis, edge in enumerate(context.geometry.patch)
        )
        height = float(context.random.uniform(*context.settings.spike_strength))
        return SpikeParams(height, float(context.random.uniform(0, 2 * math.pi)), waves)

    def apply(self, image: NDArray[np.float32], params: SpikeParams) -> None:
        """Add the wave."""
        from voxelry.augmentation.grey_statistics import grey_statistics

        factors = wave_factors(params, image.shape)
        product = factors[0]
        for factor in factors[1:]:
            product = product[..., None] * factor
        image += params.height * grey_statistics(image).deviation * product.real

    def apply_batch(self, rows_R: Tensor, params: Sequence[SpikeParams]) -> Tensor:
        """Add each row's wave."""
        import torch

        from voxelry.augmentation.tensors import column, patch_axes, to_device

        deviation = rows_R.std(patch_axes(rows_R), correction=0, keepdim=True)
        waves = []
        for spike in params:
            factors = wave_factors(spike, tuple(rows_R.shape[1:]))
            product = to_device(factors[0], torch.complex64, rows_R.device)
            for factor in factors[1:]:
                product = product[..., None] * to_device(factor, torch.complex64, rows_R.device)
            waves.append(product.real)
        return rows_R + column([spike.height for spike in params], rows_R) * deviation * torch.stack(waves)


def wave_factors(params: SpikeParams, patch: tuple[int, ...]) -> list[NDArray[np.complex64]]:
    """One complex wave per axis; the real part of their product is the plane wave of height 1.

    Args:
        params: phase and waves.
        patch: size in voxels.
    """
    factors = [np.exp(2j * math.pi * count * np.arange(size) / size) for count, size in zip(params.waves, patch, strict=True)]
    factors[0] = factors[0] * np.exp(1j * params.phase)
    return [factor.astype(np.complex64) for factor in factors]
