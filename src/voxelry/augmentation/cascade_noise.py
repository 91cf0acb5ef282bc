"""Cascade noise: random errors in the first stage's labels, so that the second stage of a cascade learns to correct them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelry.augmentation.augmentation import Augmentation, Change, DrawContext
from voxelry.base.schema import Frozen

OPERATION = 0.4
"""Probability that the outlines of labels change in a patch, of 1/2 each label then; nnU-Net's, as the other numbers here."""
RADIUS = (1.0, 8.0)
"""Of the ball, in voxels."""
REMOVAL = 0.2
"""Probability that labels lose a component in a patch, of 1/2 each label then."""
LARGEST_REMOVED = 0.15
"""Components that cover more of the patch are never removed."""


class CascadeNoiseSettings(Frozen):
    """Cascade noise has no keys: its numbers are nnU-Net's."""


class CascadeNoiseParams(NamedTuple):
    """Drawn parameters.

    Attributes:
        key: key that all mistakes follow from.
    """

    key: int


class CascadeNoise(Augmentation[CascadeNoiseSettings, CascadeNoiseParams]):
    """Grows, shrinks, opens or closes some labels of a cascade's first stage by a ball, and removes a component from some.

    The first stage is nearly perfect on the cases that it was trained on, and will not be on others. Only plans of configuration
    `3d_cascade` are changed.
    """

    name = "cascade_noise"
    settings = CascadeNoiseSettings

    def draw(self, context: DrawContext[CascadeNoiseSettings]) -> Iterable[Change]:
        """Draw the key."""
        return [Change(self.name, None, CascadeNoiseParams(context.key()))]

    def apply(
        self, first_stage: NDArray[np.integer], params: CascadeNoiseParams, labels: int, plane: Sequence[int]
    ) -> NDArray[np.int16]:
        """The first stage's labels with random errors.

        Args:
            first_stage: ``(*box)`` class indices.
            params: the drawn parameters.
            labels: how many there are.
            plane: axes along which outlines move.

        Returns:
            ``(*box)`` int16, a copy. Where a label grows it takes voxels from the others; where it shrinks background is left.
        """
        random = np.random.default_rng(params.key)
        classes = first_stage.astype(np.int16)
        if random.random() < OPERATION:
            for label in _half_of(labels, random):
                operation, radius = int(random.integers(4)), float(random.uniform(*RADIUS))
                mask = classes == label
                if not mask.any():
                    continue
                changed = _morphed(mask, operation, [round(radius) if axis in plane else 0 for axis in range(mask.ndim)])
                classes[mask & ~changed] = 0
                classes[changed & ~mask] = label
        if random.random() < REMOVAL:
            for label in _half_of(labels, random):
                _remove_component(classes, label, random)
        return classes


def _half_of(labels: int, random: np.random.Generator) -> list[int]:
    """Each label with probability 1/2, in random order."""
    order = random.permutation(labels) + 1
    return [int(label) for label in order if random.random() < 0.5]


def _morphed(mask: NDArray[np.bool_], operation: int, radius: list[int]) -> NDArray[np.bool_]:
    """Dilated, eroded, opened or closed by a ball."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    ball = radius[::-1], SimpleITK.sitkBall
    if operation == 0:
        morphed = SimpleITK.BinaryDilate(image, *ball)
    elif operation == 1:
        morphed = SimpleITK.BinaryErode(image, *ball)
    elif operation == 2:
        morphed = SimpleITK.BinaryMorphologicalOpening(image, *ball)
    else:
        morphed = SimpleITK.BinaryMorphologicalClosing(image, *ball)
    return np.asarray(SimpleITK.GetArrayFromImage(morphed) > 0)


def _remove_component(classes: NDArray[np.int16], label: int, random: np.random.Generator) -> None:
    """Remove one component of a label, in place."""
    import cc3d

    components = cc3d.connected_components((classes == label).astype(np.uint8), connectivity=26 if classes.ndim == 3 else 8)
    sizes = np.bincount(components.ravel())
    small = np.flatnonzero(sizes[1:] < LARGEST_REMOVED * classes.size) + 1
    if len(small):
        classes[components == random.choice(small)] = 0
