"""Random rising grey value curves, as the look-up tables of X-ray manufacturers differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import DrawContext, IntensityAugmentation
from voxelry.augmentation.ranges import Probability
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor

KNOTS = 6
"""Of the curve, evenly spaced over the range of grey values."""


class HistogramSettings(Frozen):
    """Keys of the grey value curve."""

    histogram_p: Probability = Field(default=0.0, description="probability of a random monotone grey value curve")


class HistogramParams(NamedTuple):
    """The curve that was drawn.

    Attributes:
        knots: rising from 0 to 1, the shares of the range that evenly spaced grey values become.
    """

    knots: tuple[float, ...]


class Histogram(IntensityAugmentation[HistogramSettings, HistogramParams]):
    """Maps grey values by a random rising curve of 6 knots, linear in between; the range stays."""

    name = "histogram"
    settings = HistogramSettings

    def draw_params(self, context: DrawContext[HistogramSettings]) -> HistogramParams:
        """Move each inner knot by less than half the way to its neighbours, so that the curve rises."""
        knots = np.linspace(0, 1, KNOTS)
        knots[1:-1] += context.random.uniform(-0.45, 0.45, KNOTS - 2) / (KNOTS - 1)
        return HistogramParams(tuple(knots.tolist()))

    def apply(self, image: NDArray[np.float32], params: HistogramParams) -> None:
        """Follow the curve; a channel of one value stays."""
        from voxelry.augmentation.grey_statistics import FLAT, grey_statistics
        from voxelry.augmentation.intensity_kernels import follow_curve

        grey = grey_statistics(image)
        if grey.highest - grey.lowest >= FLAT:
            follow_curve(image.reshape(-1), np.array(params.knots, dtype=np.float32), grey.lowest, grey.highest)

    def apply_batch(self, rows_R: Tensor, params: Sequence[HistogramParams]) -> Tensor:
        """Follow the curve of each row; rows of one value stay."""
        import torch

        from voxelry.augmentation.grey_statistics import FLAT
        from voxelry.augmentation.tensors import patch_axes, to_device

        axes = patch_axes(rows_R)
        knots = to_device(np.array([curve.knots for curve in params]), torch.float32, rows_R.device)
        segments = knots.shape[1] - 1
        lowest = rows_R.amin(axes, keepdim=True)
        width = rows_R.amax(axes, keepdim=True) - lowest
        position = ((rows_R - lowest) / width.clamp_min(FLAT) * segments).clamp(0, segments)
        first = position.floor().clamp_max(segments - 1)
        below = knots.gather(1, first.long().flatten(1)).view(rows_R.shape)
        above = knots.gather(1, first.long().flatten(1) + 1).view(rows_R.shape)
        return torch.where(width < FLAT, rows_R, lowest + (below + (position - first) * (above - below)) * width)
