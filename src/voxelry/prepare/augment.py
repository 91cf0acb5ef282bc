"""Random changes to training windows, by MONAI's transforms; each window's draw depends on its own seed alone."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.config import AugmentSettings
from voxelry.errors import ConfigError
from voxelry.labels import IGNORE_INDEX, LabelTable
from voxelry.plan import Plan

IMAGE, CLASSES = "image", "classes"


class Augmenter:
    """Changes one window at a time, repeatably.

    Voxels that a rotation brings in from beyond the window are ignored by the loss, not called background.
    """

    def __init__(self, plan: Plan, settings: AugmentSettings, table: LabelTable) -> None:
        self.transforms = _compose(plan, settings)
        self.flip_axes = settings.flip_axes
        self.twins = torch.tensor([*table.mirror_classes(), IGNORE_INDEX])
        self.side = plan.side_axis
        bad = [axis for axis in settings.flip_axes if not 0 <= axis < plan.dimensions]
        if bad:
            raise ConfigError(f"augment.flip_axes names axis {bad[0]}; the data have axes 0..{plan.dimensions - 1}")

    def __call__(self, image_C: NDArray[np.float32], classes: NDArray[np.int16], seed: int) -> tuple[Tensor, Tensor]:
        """A changed copy of a window.

        Args:
            image_C: ``(C, *patch)`` float32, normalised.
            classes: ``(*patch)`` class indices.
            seed: of this window.

        Returns:
            ``(C, *patch)`` float32 and ``(*patch)`` int64.
        """
        self.transforms.set_random_state(seed=seed & 0xFFFFFFFF)
        # outside the window, 0 is filled in: shifted by one, that is the ignore index
        shifted = torch.from_numpy(classes.astype(np.float32))[None] - IGNORE_INDEX
        changed: Mapping[Hashable, Any] = self.transforms({IMAGE: torch.from_numpy(image_C), CLASSES: shifted})
        image, labels = _plain(changed[IMAGE]), _plain(changed[CLASSES])[0].round().long() + IGNORE_INDEX
        return self._flip(image, labels, np.random.default_rng(seed))

    def _flip(self, image_C: Tensor, classes: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        for axis in self.flip_axes:
            if random.random() < 0.5:
                image_C, classes = image_C.flip(axis + 1), classes.flip(axis)
                if axis == self.side:
                    classes = self.twins[classes]
        return image_C.contiguous(), classes.contiguous()


def _plain(value: Any) -> Tensor:
    tensor: Tensor = value.as_tensor() if hasattr(value, "as_tensor") else value
    return tensor


def _compose(plan: Plan, settings: AugmentSettings) -> Any:
    from monai.transforms import (
        Compose,
        RandAdjustContrastd,
        RandAffined,
        RandGaussianNoised,
        RandGaussianSmoothd,
        RandScaleIntensityd,
        RandScaleIntensityFixedMeand,
    )

    angle = math.radians(settings.rotation)
    zoom = (1 / settings.scale[1] - 1, 1 / settings.scale[0] - 1)
    factor = (settings.factor[0] - 1, settings.factor[1] - 1)
    shift = [settings.shift * edge for edge in plan.patch_size]
    blur = dict(zip(("sigma_x", "sigma_y", "sigma_z"), (settings.blur_sigma,) * plan.dimensions, strict=False))
    return Compose(
        [
            RandAffined(
                (IMAGE, CLASSES),
                prob=settings.spatial,
                rotate_range=(angle,) * (1 if plan.dimensions == 2 else 3),
                scale_range=(zoom,) * plan.dimensions,
                translate_range=shift,
                mode=("bilinear", "nearest"),
                padding_mode=("border", "zeros"),
                cache_grid=True,
                spatial_size=plan.patch_size,
            ),
            RandGaussianNoised(IMAGE, prob=settings.noise, std=settings.noise_sigma),
            RandGaussianSmoothd(IMAGE, prob=settings.blur, **blur),
            RandScaleIntensityd(IMAGE, prob=settings.brightness, factors=factor),
            RandScaleIntensityFixedMeand(IMAGE, prob=settings.contrast, factors=factor, preserve_range=True),
            RandAdjustContrastd(IMAGE, prob=settings.gamma, gamma=settings.gamma_range, retain_stats=True),
        ]
    )
