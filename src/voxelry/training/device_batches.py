"""Random changes to whole batches on the device that trains, as the sampler drew them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from voxelry.augmentation.gpu_augmentation import augment_batch
from voxelry.training.sampler import Sampler


@dataclass(frozen=True)
class OnDevice:
    """Changes the batches of a `boxed` sampler.

    Attributes:
        sampler: whose batches they are; a batch's number says what it drew.
    """

    sampler: Sampler

    def __call__(self, image_BC: Tensor, classes_B: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step with its changes.

        Args:
            image_BC: ``(B, C, *box)`` on the device, as the sampler read it.
            classes_B: ``(B, *box)`` class indices.
            step: its number.

        Returns:
            ``(B, C, *patch)`` float32 and ``(B, *patch)`` int64 class indices.
        """
        assert self.sampler.augment is not None
        return augment_batch(image_BC, classes_B, self.sampler.draws(step), self.sampler.augment)
