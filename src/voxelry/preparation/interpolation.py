"""Interpolation along one axis as a banded operator: each output voxel is a weighted sum of a few neighbouring input voxels.

Resampling by splines is linear and separable, so a volume is resampled by applying one such operator to each axis, whatever
the order of the axes. Conventions, named once:

* Voxel *edges* of the two grids are aligned (the half-voxel convention of `Geometry.zoomed`): output voxel j lies at input
  position ``(j + 0.5) * n_in / n_out - 0.5``.
* Beyond the outermost voxel centres the edge value holds.
* Order 3 is the interpolating cubic B-spline: the prefilter (Unser 1999, doi:10.1109/79.799930), an infinite filter that decays
  by 0.27 a voxel, is included in the weights, which are cut where they fall below `CUT`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CUT = 1e-6
"""Weights smaller than this are dropped; the others are scaled to sum 1, so that a constant image stays constant."""

_POLE = math.sqrt(3.0) - 2.0
_REACH = 12  # of the prefilter: 0.268**12 * sqrt(3) = 2e-7, below CUT
_TRUNCATE = 4.0  # standard deviations at which the Gaussian ends

Weights = NDArray[np.float64]


class ResamplingOperator(NamedTuple):
    """Resampling of one axis: ``out[j] = sum(weights[j, t] * in[start[j] + t] for t in range(k))``.

    Attributes:
        start: ``(n_out,)`` int64, the first input voxel of each output voxel, not decreasing; ``start + k <= n_in``, so that
            no index needs a check.
        weights: ``(n_out, k)`` float32; each row sums to 1. Both arrays are shared and read-only.
    """

    start: NDArray[np.int64]
    weights: NDArray[np.float32]

    def rows(self, first: int, last: int) -> tuple[int, ResamplingOperator]:
        """The operator of output voxels `first` to `last` alone, and the input voxel that it then begins at."""
        low = int(self.start[first])
        return low, ResamplingOperator(self.start[first:last] - low, self.weights[first:last])

    def matrix(self, n_in: int) -> NDArray[np.float32]:
        """The same operator as a ``(n_out, n_in)`` matrix, for small axes and for tests."""
        matrix = np.zeros((len(self.start), n_in), dtype=np.float32)
        columns = self.start[:, None] + np.arange(self.weights.shape[1])
        np.put_along_axis(matrix, columns, self.weights, axis=1)
        return matrix


@lru_cache(maxsize=256)
def resampling_operator(n_in: int, n_out: int, order: int, smooth: bool = False) -> ResamplingOperator:
    """The operator that brings an axis of `n_in` voxels to `n_out` voxels over the same extent of space.

    Args:
        n_in: voxels before.
        n_out: voxels after.
        order: order of the spline: 0 (nearest; halves go up), 1 (linear, 2 weights) or 3 (cubic, about 20 weights).
        smooth: where voxels become fewer, first blur by a Gaussian of sigma ``(n_in / n_out - 1) / 2`` input voxels, so
            that fine detail does not turn into noise.

    Returns:
        First input voxels and weights; a single weight of 1 where ``n_in == n_out``.
    """
    position: Weights = (np.arange(n_out, dtype=np.float64) + 0.5) * (n_in / n_out) - 0.5
    index, weights = _SPLINES[order](position)
    index = np.clip(index, 0, n_in - 1)
    sigma = (n_in / n_out - 1) / 2
    if smooth and sigma > 0:
        index, weights = _after_gaussian(index, weights, sigma)
        index = np.clip(index, 0, n_in - 1)
    return _banded(index, weights, n_in)


def _nearest(position: Weights) -> tuple[NDArray[np.int64], Weights]:
    return np.floor(position + 0.5).astype(np.int64)[:, None], np.ones((len(position), 1))


def _linear(position: Weights) -> tuple[NDArray[np.int64], Weights]:
    below = np.floor(position)
    fraction = position - below
    return below.astype(np.int64)[:, None] + np.arange(2), np.stack([1 - fraction, fraction], axis=1)


def _cubic(position: Weights) -> tuple[NDArray[np.int64], Weights]:
    """B-spline weights of four coefficients, each coefficient a decaying sum of voxels."""
    below = np.floor(position)
    t = (position - below)[:, None]
    spline = np.concatenate([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3], axis=1) / 6
    prefilter = math.sqrt(3.0) * _POLE ** np.abs(np.arange(-_REACH, _REACH + 1))
    weights = np.zeros((len(position), 4 + 2 * _REACH))
    for offset in range(4):
        weights[:, offset : offset + len(prefilter)] += spline[:, offset : offset + 1] * prefilter
    return below.astype(np.int64)[:, None] - 1 - _REACH + np.arange(weights.shape[1]), weights


_SPLINES = {0: _nearest, 1: _linear, 3: _cubic}


def _after_gaussian(index: NDArray[np.int64], weights: Weights, sigma: float) -> tuple[NDArray[np.int64], Weights]:
    """The same sums over an axis that is first blurred by a Gaussian."""
    radius = int(_TRUNCATE * sigma + 0.5)
    offset = np.arange(-radius, radius + 1)
    gaussian = np.exp(-0.5 * (offset / sigma) ** 2)
    gaussian /= gaussian.sum()
    rows = len(index)
    return (index[:, :, None] + offset).reshape(rows, -1), (weights[:, :, None] * gaussian).reshape(rows, -1)


def _banded(index: NDArray[np.int64], weights: Weights, n_in: int) -> ResamplingOperator:
    """Add the weights that fall on the same voxel, drop small ones, and align each row's first weight."""
    first = index.min(axis=1)
    band = np.zeros((len(index), int((index.max(axis=1) - first).max()) + 1))
    np.add.at(band, (np.arange(len(index))[:, None], index - first[:, None]), weights)
    is_large = np.abs(band) >= CUT
    begin = first + is_large.argmax(axis=1)
    end = first + band.shape[1] - is_large[:, ::-1].argmax(axis=1)
    start = np.minimum.accumulate(begin[::-1])[::-1]  # an output voxel on an input voxel has one weight, its neighbours many
    width = int((end - start).max())
    start = np.minimum(start, n_in - width)
    row, column = np.nonzero(is_large)
    result = np.zeros((len(index), width), dtype=np.float64)
    result[row, column + first[row] - start[row]] = band[row, column]
    result /= result.sum(axis=1, keepdims=True)
    narrow = result.astype(np.float32)
    for array in (start, narrow):
        array.setflags(write=False)
    return ResamplingOperator(start, narrow)
