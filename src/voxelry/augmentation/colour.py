"""Mixed channels of colour pictures: dyes differ, and so do cameras; some pictures have no colour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import Augmentation, Change, DrawContext
from voxelry.augmentation.ranges import Probability
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor

GREY = 0.5
"""Share of mixed patches that lose their colour; the others have their channels permuted and partly mixed."""


class ColourSettings(Frozen):
    """Keys of mixed channels."""

    colour_p: Probability = Field(
        default=0.0, description="probability of mixed channels: half of the patches become grey, half get other colours"
    )


class ColourParams(NamedTuple):
    """The mixture that was drawn.

    Attributes:
        weights: for each new channel the weights of the old ones, which add up to 1.
    """

    weights: tuple[tuple[float, ...], ...]


class Colour(Augmentation[ColourSettings, ColourParams]):
    """Makes each channel a weighted mean of all: the same mean (a grey picture), or another channel with a part of a third.

    Only images of several channels are changed.
    """

    name = "colour"
    settings = ColourSettings

    def draw(self, context: DrawContext[ColourSettings]) -> Iterable[Change]:
        """Draw whether the patch is changed, whether it becomes grey, and the weights."""
        random, channels = context.random, context.geometry.channels
        if random.random() >= context.settings.colour_p or channels == 1:
            return []
        if random.random() < GREY:
            weights = np.tile(random.dirichlet(np.ones(channels)), (channels, 1))
        else:
            share = random.uniform(0, 0.5)
            weights = (1 - share) * np.eye(channels)[random.permutation(channels)] + share * random.dirichlet(
                np.ones(channels), channels
            )
        return [Change(self.name, None, ColourParams(tuple(map(tuple, weights.tolist()))))]

    def apply(self, image_C: NDArray[np.float32], params: ColourParams) -> None:
        """Mix the channels of a patch on the CPU, in place.

        Args:
            image_C: ``(C, *patch)`` float32.
            params: the drawn weights.
        """
        image_C[...] = np.tensordot(np.array(params.weights, np.float32), image_C, 1)

    def apply_patch(self, image_C: Tensor, params: ColourParams) -> Tensor:
        """What `apply` makes of a patch, on its device."""
        import torch

        from voxelry.augmentation.tensors import to_device

        weights = to_device(np.array(params.weights), torch.float32, image_C.device)
        mixed: Tensor = torch.tensordot(weights, image_C, 1)
        return mixed
