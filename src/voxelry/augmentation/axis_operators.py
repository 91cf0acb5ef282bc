"""Linear operators along one axis of a patch: a few neighbours with weights, or a filter of k-space as a matrix."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class AxisOperator(NamedTuple):
    """Each new voxel of an axis as a weighted sum of a few old ones.

    Attributes:
        voxels: ``(n, k)`` int64, the old voxels.
        weights: ``(n, k)`` float32.
    """

    voxels: NDArray[np.int64]
    weights: NDArray[np.float32]

    def matrix(self, size: int) -> NDArray[np.float32]:
        """The same operator as a matrix ``(n, size)``."""
        matrix = np.zeros((len(self.voxels), size), dtype=np.float32)
        np.add.at(matrix, (np.arange(len(self.voxels))[:, None], self.voxels), self.weights)
        return matrix


def apply_operators(image: NDArray[np.float32], operators: list[AxisOperator | None]) -> None:
    """Apply an operator along each axis in turn, in place.

    Args:
        image: ``(*patch)`` float32, C-contiguous.
        operators: one for each axis, of as many voxels as the axis has; None leaves an axis alone.
    """
    from voxelry.augmentation.intensity_kernels import sum_along_last, sum_along_middle

    source, spare = image, np.empty_like(image)
    for axis, operator in enumerate(operators):
        if operator is None:
            continue
        size, (voxels, weights) = image.shape[axis], operator
        if axis == image.ndim - 1:
            first, last = _even_stretch(operator, size)
            sum_along_last(source.reshape(-1, size), voxels, weights, first, last, spare.reshape(-1, size))
        else:
            shape = (math.prod(image.shape[:axis]), size, math.prod(image.shape[axis + 1 :]))
            sum_along_middle(source.reshape(shape), voxels, weights, spare.reshape(shape))
        source, spare = spare, source
    if source is not image:
        image[...] = source


def _even_stretch(operator: AxisOperator, size: int) -> tuple[int, int]:
    """The voxels ``first`` to ``last`` whose sums have the same weights of neighbours; none where weights differ."""
    voxels, weights = operator
    reach = voxels.shape[1] // 2
    is_even = size > 2 * reach and bool((voxels[size // 2] == size // 2 + np.arange(-reach, voxels.shape[1] - reach)).all())
    return (reach, size - reach) if is_even and bool((weights == weights[0]).all()) else (0, 0)


def k_space_filter(gain: NDArray[np.float64]) -> NDArray[np.float32]:
    """The circulant matrix that multiplies a real signal's spectrum and keeps the real part.

    Args:
        gain: ``(n,)`` of each frequency, in NumPy's order.

    Returns:
        ``(n, n)`` float32.
    """
    response = np.fft.ifft(gain).real
    size = len(gain)
    matrix: NDArray[np.float32] = response[(np.arange(size)[:, None] - np.arange(size)) % size].astype(np.float32)
    return matrix


def multiply_along(matrix: NDArray[np.float32], image: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """A matrix ``(n, n)`` times every line of ``(*patch)`` along an axis of n voxels."""
    return np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)
