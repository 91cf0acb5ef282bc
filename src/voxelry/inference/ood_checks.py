"""Out-of-distribution checks: warnings where a scan is blank or differs from the training set, or a label reaches its border."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.model import Model
from voxelry.core.volume import LabelMap, Volume
from voxelry.planning.fingerprint import CANONICAL, grey_medians, tilt
from voxelry.preparation.dominant_value import dominant_value
from voxelry.preparation.preparation import reordering

SPACING_FACTOR = 1.5
"""Factor by which a spacing may lie outside the training set's range without a warning."""

EXTENT_FACTOR = 1.5
"""The same for the millimetres that a scan covers (pixels, for pictures of unknown size)."""

GREY_WIDTHS = 2.0
"""Widths of the training set's range (at least its labels' standard deviation) that a median grey value may lie outside."""

BLANK = 0.999
"""Share of voxels with one grey value from which a scan counts as blank."""

TILT_DEGREES = 15.0
"""Degrees by which a scan may be more oblique than any training case; preparation never rotates."""


def out_of_distribution(volume: Volume, model: Model) -> list[str]:
    """Warnings where a scan lies outside the training set's distribution.

    Args:
        volume: the scan.
        model: with the fingerprint of its training set.

    Returns:
        A sentence for each channel that is blank, or holds two grey values only, and for spacing, size, orientation and grey
        values that lie outside the fingerprint's range; grey values only where they are absolute (CT), since others are brought
        to a common scale.
    """
    oriented = volume.geometry.reindexed(reordering(volume.geometry, CANONICAL))
    return [
        *_blank(volume, model),
        *_spacing(oriented, model),
        *_size(oriented, model),
        *_orientation(volume.geometry, model),
        *_grey(volume, model),
    ]


def at_border(labels: LabelMap) -> list[str]:
    """Labels that reach a face of the scan, and may go on beyond it.

    Args:
        labels: on any number of layers.

    Returns:
        A sentence a label; an axis of a single voxel has no faces.
    """
    sentences = []
    for number, layer in enumerate(labels.layers):
        names = {label.value: label.name for label in labels.table.labels if label.layer == number}
        touching: set[int] = set()
        for axis in range(layer.ndim):
            for end in (0, -1) if layer.shape[axis] > 1 else ():
                touching |= set(np.unique(np.take(layer, end, axis)).tolist())
        sentences += [f"{names[value]} reaches the border of the scan" for value in sorted(touching - {0})]
    return sentences


def _blank(volume: Volume, model: Model) -> list[str]:
    warnings = []
    for name, channel in zip(model.plan.channels, volume.array, strict=True):
        where = f" of {name}" if volume.channels > 1 else ""
        value, share = dominant_value(channel)
        if share == 1:
            warnings.append(f"blank scan: every voxel{where} has the same grey value ({value:g})")
        elif share >= BLANK:
            warnings.append(f"almost blank scan: {share:.2%} of the voxels{where} have the same grey value ({value:g})")
        elif _holds_two_values(channel):
            warnings.append(f"the voxels{where} hold two grey values only, as those of a mask")
    return warnings


def _holds_two_values(channel: NDArray[Any]) -> bool:
    low, high = channel.min(), channel.max()
    return all(bool(((plane == low) | (plane == high)).all()) for plane in channel)


def _spacing(oriented: Geometry, model: Model) -> list[str]:
    trained = model.card.fingerprint.spacing_range
    if trained is None or oriented.spacing is None:
        return []
    outside = _outside(oriented.spacing, trained, SPACING_FACTOR)
    return [f"spacing unlike the training set: {', '.join(outside)}"] if outside else []


def _size(oriented: Geometry, model: Model) -> list[str]:
    trained, shapes = model.card.fingerprint.extent_range, model.card.fingerprint.shapes
    if trained is not None and oriented.spacing is not None:
        extent = tuple(n * s for n, s in zip(oriented.shape, oriented.spacing, strict=True))
        outside = _outside(extent, trained, EXTENT_FACTOR)
    elif oriented.spacing is None and model.plan.long_side is None:
        outside = _outside(oriented.shape, (shapes[0], shapes[2]), EXTENT_FACTOR, "voxels")
    else:
        return []
    return [f"size unlike the training set: {', '.join(outside)}"] if outside else []


def _outside(
    values: tuple[float, ...], trained: tuple[tuple[float, ...], tuple[float, ...]], factor: float, unit: str = "mm"
) -> list[str]:
    return [
        f"{value:.3g} {unit} (trained on {low:.3g} to {high:.3g})"
        for value, low, high in zip(values, *trained, strict=True)
        if not low / factor <= value <= high * factor
    ]


def _orientation(geometry: Geometry, model: Model) -> list[str]:
    trained, warnings = model.card.fingerprint, []
    kept = model.plan.orientation is None and geometry.orientation is not None and bool(trained.orientations)
    if kept and geometry.orientation not in trained.orientations:
        codes = ", ".join(trained.orientations)
        warnings.append(f"orientation unlike the training set: {geometry.orientation} (trained on {codes})")
    if trained.tilt is not None and tilt(geometry) > trained.tilt + TILT_DEGREES:
        degrees = f"{tilt(geometry):.0f} degrees (trained on up to {trained.tilt:.0f})"
        warnings.append(f"more oblique than the training set: {degrees}")
    return warnings


def _grey(volume: Volume, model: Model) -> list[str]:
    trained = model.card.fingerprint
    if trained.grey_range is None:
        return []
    warnings = []
    schemes = model.plan.normalisation
    channels = zip(trained.channels, grey_medians(volume), trained.grey_range, trained.statistics, schemes, strict=True)
    for name, median, (low, high), labelled, scheme in channels:
        width = GREY_WIDTHS * max(high - low, labelled.std)
        if scheme.scheme == "global" and not low - width <= median <= high + width:
            values = f"median {median:.4g} (trained on {low:.4g} to {high:.4g})"
            warnings.append(f"grey values of {name} unlike the training set: {values}")
    return warnings
