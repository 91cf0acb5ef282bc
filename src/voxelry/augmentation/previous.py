"""Small mistakes in what the first stage of a cascade found, so that the second stage does not trust it blindly.

On the cases that the first stage was trained on it finds nearly everything; on others it will not.
"""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
import SimpleITK
from numpy.typing import NDArray

OPERATION = 0.4
"""Probability of a window whose labels' outlines change, and of 1/2 each label then; nnU-Net's, as the other numbers here."""
RADIUS = (1.0, 8.0)
REMOVAL = 0.2
"""Probability of a window whose labels lose a component, and of 1/2 each label then."""
LARGEST_REMOVED = 0.15
"""Components that cover more of the window are never removed."""


def disturbed(previous: NDArray[np.integer], labels: int, key: int, plane: Sequence[int]) -> NDArray[np.int16]:
    """Grow, shrink, open or close some labels by a ball, and take a component from some.

    Args:
        previous: ``(*box)`` class indices.
        labels: how many there are.
        key: of everything random.
        plane: axes along which outlines move.

    Returns:
        ``(*box)`` int16, a copy. Where a label grows it takes voxels from the others; where it shrinks background is left.
    """
    random = np.random.default_rng(key)
    result = previous.astype(np.int16)
    if random.random() < OPERATION:
        for label in _some(labels, random):
            operation, radius = int(random.integers(4)), float(random.uniform(*RADIUS))
            mask = result == label
            if not mask.any():
                continue
            changed = _changed(mask, operation, [round(radius) if axis in plane else 0 for axis in range(mask.ndim)])
            result[mask & ~changed] = 0
            result[changed & ~mask] = label
    if random.random() < REMOVAL:
        for label in _some(labels, random):
            _remove(result, label, random)
    return result


def _some(labels: int, random: np.random.Generator) -> list[int]:
    """Each label with probability 1/2, in random order."""
    order = random.permutation(labels) + 1
    return [int(label) for label in order if random.random() < 0.5]


def _changed(mask: NDArray[np.bool_], operation: int, radius: list[int]) -> NDArray[np.bool_]:
    """Dilated, eroded, opened or closed by a ball."""
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    ball = radius[::-1], SimpleITK.sitkBall
    if operation == 0:
        made = SimpleITK.BinaryDilate(image, *ball)
    elif operation == 1:
        made = SimpleITK.BinaryErode(image, *ball)
    elif operation == 2:
        made = SimpleITK.BinaryMorphologicalOpening(image, *ball)
    else:
        made = SimpleITK.BinaryMorphologicalClosing(image, *ball)
    return np.asarray(SimpleITK.GetArrayFromImage(made) > 0)


def _remove(classes: NDArray[np.int16], label: int, random: np.random.Generator) -> None:
    """Take away one component of a label, in place."""
    components = cc3d.connected_components((classes == label).astype(np.uint8), connectivity=26 if classes.ndim == 3 else 8)
    sizes = np.bincount(components.ravel())
    small = np.flatnonzero(sizes[1:] < LARGEST_REMOVED * classes.size) + 1
    if len(small):
        classes[components == random.choice(small)] = 0
