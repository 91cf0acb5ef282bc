"""MRI ghosting artifact: every n-th line of k-space is weaker, which shows faint copies along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import DrawContext, IntensityAugmentation
from voxelry.augmentation.axis_operators import k_space_filter, multiply_along
from voxelry.augmentation.ranges import Probability, ShareRange
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor

KEPT_CENTRE = 0.02
"""Share of k-space about its centre in which nothing is lost: without it the whole patch would only get darker."""


class GhostingSettings(Frozen):
    """Keys of ghosting."""

    ghosting_p: Probability = Field(default=0.0, description="probability of MRI ghosting: faint copies along an axis")
    ghosting_strength: ShareRange = Field(default=(0.3, 0.8), description="share of every n-th line of k-space that is lost")


class GhostingParams(NamedTuple):
    """The ghosts that were drawn.

    Attributes:
        axis: axis along which they lie.
        ghosts: their number; every n-th line of k-space is weakened.
        lost: share of those lines' strength.
    """

    axis: int
    ghosts: int
    lost: float


class Ghosting(IntensityAugmentation[GhostingSettings, GhostingParams]):
    """MRI ghosting: 2 to 8 faint copies along one axis, as periodic motion or an unstable scanner leaves them."""

    name = "ghosting"
    settings = GhostingSettings

    def draw_params(self, context: DrawContext[GhostingSettings]) -> GhostingParams:
        """Draw the axis, the number of ghosts and their strength."""
        return GhostingParams(
            int(context.random.choice(context.geometry.plane)),
            int(context.random.integers(2, 9)),
            float(context.random.uniform(*context.settings.ghosting_strength)),
        )

    def apply(self, image: NDArray[np.float32], params: GhostingParams) -> None:
        """Weaken the lines of k-space."""
        image[...] = multiply_along(weakened_lines(image.shape[params.axis], params), image, params.axis)

    def apply_batch(self, rows_R: Tensor, params: Sequence[GhostingParams]) -> Tensor:
        """Weaken the lines of k-space, row by row, since each row has an axis of its own."""
        import torch

        from voxelry.augmentation.tensors import multiply_rows_along

        return torch.stack(
            [
                multiply_rows_along(row[None], [weakened_lines(row.shape[ghosts.axis], ghosts)], ghosts.axis)[0]
                for row, ghosts in zip(rows_R, params, strict=True)
            ]
        )


def weakened_lines(size: int, params: GhostingParams) -> NDArray[np.float32]:
    """The filter that weakens every n-th line of k-space along an axis of `size` voxels."""
    line = np.abs(np.fft.fftfreq(size, 1 / size)).round()
    is_weak = (line % params.ghosts == 0) & (line > KEPT_CENTRE * size / 2)
    return k_space_filter(np.where(is_weak, 1 - params.lost, 1.0))
