"""Corruptions of validation scans (noise, grey values, blur, a cut, a flip), so that calibration sees low Dice too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from voxelry.core.geometry import Geometry
from voxelry.core.volume import LabelMap, Volume

Pair = tuple[Volume, LabelMap]


def corrupted(volume: Volume, reference: LabelMap, kind: str, seed: int) -> Pair:
    """A corrupted copy of a case.

    Args:
        volume: the scan.
        reference: on its grid; cut and flipped with it.
        kind: one of `CORRUPTIONS`.
        seed: of strength and place.

    Returns:
        Scan, float32, and reference on one grid.
    """
    copy = replace(volume, pixels=volume.array.astype(np.float32), outside=None)
    return CORRUPTIONS[kind](copy, reference, np.random.default_rng((seed, *kind.encode())))


def _noise(volume: Volume, reference: LabelMap, rng: np.random.Generator) -> Pair:
    """Gaussian noise of a tenth to half of the range of grey values."""
    grey = volume.array
    sigma = rng.uniform(0.1, 0.5) * _width(grey)
    return _with(volume, grey + sigma * rng.standard_normal(grey.shape, dtype=np.float32)), reference


def _grey(volume: Volume, reference: LabelMap, rng: np.random.Generator) -> Pair:
    """A power of the grey values, and a shift by up to half of their range."""
    grey, width = volume.array, _width(volume.array)
    low = float(grey.min())
    power = np.exp(rng.choice((-1, 1)) * rng.uniform(0.5, 1.2))
    shifted = low + width * ((grey - low) / width) ** power + rng.uniform(-0.5, 0.5) * width
    return _with(volume, shifted), reference


def _blur(volume: Volume, reference: LabelMap, rng: np.random.Generator) -> Pair:
    """A Gaussian of 1.5 to 4 voxels."""
    sigma = rng.uniform(1.5, 4.0)
    return _with(volume, np.stack([gaussian_filter(channel, sigma) for channel in volume.array])), reference


def _cut(volume: Volume, reference: LabelMap, rng: np.random.Generator) -> Pair:
    """Half to four fifths of the scan along one axis."""
    shape = volume.geometry.shape
    axis = int(rng.integers(len(shape)))
    kept = max(1, round(rng.uniform(0.5, 0.8) * shape[axis]))
    start = [0] * len(shape)
    start[axis] = int(rng.choice((0, shape[axis] - kept)))
    sizes = [kept if other == axis else n for other, n in enumerate(shape)]
    box = (slice(None), *(slice(first, first + size) for first, size in zip(start, sizes, strict=True)))
    return _placed(volume, reference, volume.geometry.cropped(start, sizes), lambda array: array[box])


def _flip(volume: Volume, reference: LabelMap, _: np.random.Generator) -> Pair:
    """Head and feet swapped, or top and bottom of a picture, under the same header."""
    axis = _head_axis(volume.geometry)
    return _placed(volume, reference, volume.geometry, lambda array: np.flip(array, axis + 1))


CORRUPTIONS: dict[str, Callable[[Volume, LabelMap, np.random.Generator], Pair]] = {
    "noise": _noise,
    "flip": _flip,
    "grey": _grey,
    "cut": _cut,
    "blur": _blur,
}


def _head_axis(geometry: Geometry) -> int:
    codes = geometry.orientation
    return 0 if codes is None else next(axis for axis, code in enumerate(codes) if code in "SI")


def _width(grey: NDArray[Any]) -> float:
    low, high = np.percentile(grey, (1, 99))
    return float(high - low) or 1.0


def _with(volume: Volume, grey: NDArray[Any]) -> Volume:
    return replace(volume, pixels=grey.astype(np.float32))


def _placed(volume: Volume, reference: LabelMap, geometry: Geometry, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Pair:
    """Scan and reference changed alike, on a grid."""
    ids = None if reference.instances is None else np.ascontiguousarray(change(reference.instances))
    source = replace(volume.source, instances=())
    layers = np.ascontiguousarray(change(reference.layers))
    scan = replace(volume, pixels=np.ascontiguousarray(change(volume.array)), geometry=geometry, source=source)
    return scan, replace(reference, layers=layers, geometry=geometry, instances=ids)
