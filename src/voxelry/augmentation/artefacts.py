"""Fields that augmentation multiplies by or adds: MRI's bias field, the stripes of a spike in k-space, smooth deformations.

All are sums of products of one function an axis, so they come from small matrices on every device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxelry.augmentation.draw import CONTROL_POINTS

Array = NDArray[np.float32]


@functools.lru_cache(maxsize=64)
def legendre(size: int, count: int) -> Array:
    """The first `count` Legendre polynomials from -1 to 1, ``(size, count)``."""
    places = np.linspace(-1, 1, size) if size > 1 else np.zeros(1)
    return np.polynomial.legendre.legvander(places, count - 1).astype(np.float32)


def bias_factors(numbers: Sequence[float], patch: tuple[int, ...]) -> tuple[Array, list[Array]]:
    """Coefficients and the polynomials along each axis; `summed` makes the logarithm of a bias field of them.

    Args:
        numbers: how many polynomials each axis has, then their coefficients.
        patch: window in voxels.
    """
    counts = [int(number) for number in numbers[: len(patch)]]
    weights = np.array(numbers[len(patch) :], dtype=np.float32).reshape(counts)
    return weights, [legendre(size, count) for size, count in zip(patch, counts, strict=True)]


def spike_factors(numbers: Sequence[float], patch: tuple[int, ...]) -> list[NDArray[np.complex64]]:
    """One complex wave an axis; the real part of their product are stripes of height 1.

    Args:
        numbers: height, phase, then waves along each axis.
        patch: window in voxels.
    """
    waves = [np.exp(2j * math.pi * count * np.arange(size) / size) for count, size in zip(numbers[2:], patch, strict=True)]
    waves[0] = waves[0] * np.exp(1j * numbers[1])
    return [wave.astype(np.complex64) for wave in waves]


@functools.lru_cache(maxsize=64)
def splines(size: int) -> Array:
    """Uniform cubic B-splines about `CONTROL_POINTS` control points, ``(size, CONTROL_POINTS)``; each row sums to 1."""
    segments = CONTROL_POINTS - 3
    place = (np.arange(size) + 0.5) / size * segments
    first = np.minimum(place.astype(np.int64), segments - 1)
    t = place - first
    four = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    result = np.zeros((size, CONTROL_POINTS), dtype=np.float32)
    for step in range(4):
        result[np.arange(size), first + step] = four[:, step]
    return result


def control_points(elastic: tuple[float, int], plane: Sequence[int], axes: int) -> Array:
    """Displacements in voxels of the control points, ``(axes, points...)``; 0 along axes outside the plane.

    Args:
        elastic: the largest displacement, and the key that they follow from.
        plane: axes that are changed.
        axes: of the window.
    """
    size, key = elastic
    drawn = np.random.default_rng(key).uniform(-size, size, (axes, *(CONTROL_POINTS,) * axes)).astype(np.float32)
    drawn[[axis for axis in range(axes) if axis not in plane]] = 0
    return drawn


def summed(weights: Array, factors: Sequence[Array]) -> Array:
    """``sum_ijk weights[i, j, k] * f0[:, i] * f1[:, j] * f2[:, k]``, of as many axes as there are factors."""
    result = weights
    for factor in factors:  # each takes the first axis away and puts its own last
        result = np.tensordot(result, factor, axes=(0, 1))
    return np.ascontiguousarray(result)
