"""What is unusual about a scan beside the model's training set, and about its labels: sentences for the user."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.model import Model
from voxelry.core.volume import Volume
from voxelry.planning.fingerprint import CANONICAL, grey_medians, tilt
from voxelry.preparation.preparation import reordering

SPACING_FACTOR = 1.5
"""How far outside the training set's range a spacing may lie before a prediction says so."""

EXTENT_FACTOR = 1.5
"""The same for the millimetres (for pictures of unknown size: pixels) that a scan covers."""

GREY_WIDTHS = 2.0
"""How many widths of the training set's range (at least its labels' deviation) a median grey value may lie outside."""

TILT_DEGREES = 15.0
"""How much more oblique than anything in training a scan may be: preparation never rotates, so the network sees it turned."""


def unlike_training(volume: Volume, model: Model) -> list[str]:
    """In what a scan is unlike the training set.

    Args:
        volume: the scan.
        model: with the fingerprint of its training set.

    Returns:
        A sentence each for spacing, size, orientation and grey values that lie outside the fingerprint's range; grey values only
        where they are absolute (CT), since others are brought to a common scale.
    """
    oriented = volume.geometry.reindexed(reordering(volume.geometry, CANONICAL))
    return [*_spacing(oriented, model), *_size(oriented, model), *_orientation(volume.geometry, model), *_grey(volume, model)]


def at_border(labels: NDArray[Any], names: dict[int, str]) -> list[str]:
    """Which labels reach a face of the scan, and may go on beyond it.

    Args:
        labels: ``(*spatial)`` stored values.
        names: of stored values.

    Returns:
        A sentence a label; an axis of a single voxel has no faces.
    """
    touching: set[int] = set()
    for axis in range(labels.ndim):
        for end in (0, -1) if labels.shape[axis] > 1 else ():
            touching |= set(np.unique(np.take(labels, end, axis)).tolist())
    return [f"{names[value]} reaches the border of the scan" for value in sorted(touching - {0})]


def _spacing(oriented: Geometry, model: Model) -> list[str]:
    seen = model.card.fingerprint.spacing_range
    if seen is None or oriented.spacing is None:
        return []
    outside = _outside(oriented.spacing, seen, SPACING_FACTOR)
    return [f"spacing unlike the training set: {', '.join(outside)}"] if outside else []


def _size(oriented: Geometry, model: Model) -> list[str]:
    seen, shapes = model.card.fingerprint.extent_range, model.card.fingerprint.shapes
    if seen is not None and oriented.spacing is not None:
        extent = tuple(n * s for n, s in zip(oriented.shape, oriented.spacing, strict=True))
        outside = _outside(extent, seen, EXTENT_FACTOR)
    elif oriented.spacing is None and model.plan.long_side is None:
        outside = _outside(oriented.shape, (shapes[0], shapes[2]), EXTENT_FACTOR, "voxels")
    else:
        return []
    return [f"size unlike the training set: {', '.join(outside)}"] if outside else []


def _outside(
    values: tuple[float, ...], seen: tuple[tuple[float, ...], tuple[float, ...]], factor: float, unit: str = "mm"
) -> list[str]:
    return [
        f"{now:.3g} {unit} (trained on {low:.3g} to {high:.3g})"
        for now, low, high in zip(values, *seen, strict=True)
        if not low / factor <= now <= high * factor
    ]


def _orientation(geometry: Geometry, model: Model) -> list[str]:
    seen = model.card.fingerprint
    found = []
    if model.plan.orientation is None and geometry.orientation is not None and geometry.orientation not in seen.orientations:
        found.append(f"orientation unlike the training set: {geometry.orientation} (trained on {', '.join(seen.orientations)})")
    if seen.tilt is not None and tilt(geometry) > seen.tilt + TILT_DEGREES:
        found.append(f"more oblique than the training set: {tilt(geometry):.0f} degrees (trained on up to {seen.tilt:.0f})")
    return found


def _grey(volume: Volume, model: Model) -> list[str]:
    seen = model.card.fingerprint
    if seen.grey_range is None:
        return []
    found = []
    parts = zip(seen.channels, grey_medians(volume), seen.grey_range, seen.statistics, model.plan.normalisation, strict=True)
    for name, now, (low, high), labelled, scheme in parts:
        width = GREY_WIDTHS * max(high - low, labelled.std)
        if scheme.scheme == "global" and not low - width <= now <= high + width:
            found.append(f"grey values of {name} unlike the training set: median {now:.4g} (trained on {low:.4g} to {high:.4g})")
    return found
