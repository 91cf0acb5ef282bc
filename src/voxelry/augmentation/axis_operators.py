"""What augmentation does along one axis, as rows of weights: blur, a coarser grid and back, lost and mixed lines of k-space.

A row says how one new voxel is summed up from the old ones. Few taps are given as places and weights, all of them as a matrix;
CPU and GPU apply the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Taps = tuple[NDArray[np.int64], NDArray[np.float32]]
"""``(n, taps)`` places and weights."""

TRUNCATE = 3.0
"""Standard deviations at which a Gaussian ends."""
KEPT_CENTRE = 0.02
"""Share of k-space about its centre in which ghosting loses nothing: without it the whole window would only get darker."""


def blur_taps(size: int, sigma: float) -> Taps:
    """A Gaussian, mirrored about the centres of the first and the last voxel.

    Args:
        size: of the axis.
        sigma: in voxels.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    steps = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (steps / max(sigma, 1e-6)) ** 2)
    weights /= weights.sum()
    period = max(1, 2 * size - 2)
    place = (np.arange(size)[:, None] + steps) % period
    place = np.where(place < size, place, period - place)
    return place, np.broadcast_to(weights.astype(np.float32), place.shape).copy()


def coarse_taps(size: int, coarse: int) -> Taps:
    """The nearest voxels of a grid of `coarse` voxels, then linear interpolation back to `size`.

    Args:
        size: of the axis.
        coarse: voxels of the coarser grid.
    """
    picked = ((np.arange(coarse) + 0.5) * size / coarse).astype(np.int64)
    place = np.clip((np.arange(size) + 0.5) * coarse / size - 0.5, 0, coarse - 1)
    first = np.minimum(place.astype(np.int64), max(coarse - 2, 0))
    share = (place - first).astype(np.float32)
    both = np.stack([first, np.minimum(first + 1, coarse - 1)], axis=1)
    return picked[both], np.stack([1 - share, share], axis=1)


def as_matrix(taps: Taps, size: int) -> NDArray[np.float32]:
    """Taps as a matrix ``(n, size)``."""
    place, weights = taps
    matrix = np.zeros((len(place), size), dtype=np.float32)
    np.add.at(matrix, (np.arange(len(place))[:, None], place), weights)
    return matrix


def ghosting(size: int, ghosts: int, lost: float) -> NDArray[np.float32]:
    """Every `ghosts`-th line of k-space weakened: as many faint copies along the axis.

    Args:
        size: of the axis.
        ghosts: number of copies.
        lost: share of those lines' strength.
    """
    line = np.abs(np.fft.fftfreq(size, 1 / size)).round()
    kept = np.where((line % ghosts == 0) & (line > KEPT_CENTRE * size / 2), 1 - lost, 1.0)
    return _filter(kept)


def late_lines(size: int, share: float) -> NDArray[np.float32]:
    """What the lines of k-space contribute that are filled after `share` of them, from one end to the other.

    Args:
        size: of the axis.
        share: filled before.
    """
    return _filter((np.fft.fftfreq(size) + 0.5 >= share).astype(np.float64))


def _filter(kept: NDArray[np.float64]) -> NDArray[np.float32]:
    """The real part of what comes of multiplying a real signal's spectrum, as a circulant matrix."""
    answer = np.fft.ifft(kept).real
    size = len(kept)
    place = (np.arange(size)[:, None] - np.arange(size)) % size
    result: NDArray[np.float32] = answer[place].astype(np.float32)
    return result
