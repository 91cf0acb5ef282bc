"""Augments whole batches on the device that trains, with the parameters that the sampler drew."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from voxelry.augmentation.gpu_augmentation import augment_batch
from voxelry.training.sampler import Sampler


@dataclass(frozen=True)
class DeviceAugmentation:
    """Augments the batches of a sampler that leaves this to the device (`Sampler.on_device`).

    Attributes:
        sampler: sampler of the batches; a batch's number determines its draws.
    """

    sampler: Sampler

    def __call__(self, image_BC: Tensor, classes_B: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """An augmented batch.

        Args:
            image_BC: ``(B, C, *box)`` on the device, as the sampler read it.
            classes_B: ``(B, *box)`` class indices.
            number: number of the batch.

        Returns:
            ``(B, C, *patch)`` float32 and ``(B, *patch)`` int64 class indices.
        """
        assert self.sampler.augment is not None
        return augment_batch(image_BC, classes_B, self.sampler.draws(number), self.sampler.augment)
