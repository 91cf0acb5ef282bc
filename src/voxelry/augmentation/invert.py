"""The negative of an image, as inverted X-rays are stored."""

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


class InvertSettings(Frozen):
    """Keys of the negative."""

    invert_p: Probability = Field(default=0.0, description="probability of inverted grey values (the negative)")


class InvertParams(NamedTuple):
    """Nothing but the decision is drawn."""


class Invert(IntensityAugmentation[InvertSettings, InvertParams]):
    """Mirrors grey values within their range: the negative."""

    name = "invert"
    settings = InvertSettings

    def draw_params(self, context: DrawContext[InvertSettings]) -> InvertParams:  # noqa: ARG002
        """Nothing more is drawn."""
        return InvertParams()

    def apply(self, image: NDArray[np.float32], params: InvertParams) -> None:  # noqa: ARG002
        """Invert the channel."""
        from voxelry.augmentation.grey_statistics import grey_statistics
        from voxelry.augmentation.intensity_kernels import stretch

        grey = grey_statistics(image)
        stretch(image.reshape(-1), -1.0, grey.lowest + grey.highest)

    def apply_batch(self, rows_R: Tensor, params: Sequence[InvertParams]) -> Tensor:  # noqa: ARG002
        """Invert each row."""
        from voxelry.augmentation.tensors import patch_axes

        axes = patch_axes(rows_R)
        return rows_R.amin(axes, keepdim=True) + rows_R.amax(axes, keepdim=True) - rows_R
