"""Resampling of images and labels along their own axes: the extent of space stays, the number of voxels changes.

Each axis has its operator (`interpolation`, which states the conventions); a volume is resampled plane by plane in its own
memory order, in float32, so that only a few planes are held beside the result, never a second volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.threads import run_slabs
from voxelry.preparation.interpolation import ResamplingOperator, resampling_operator
from voxelry.preparation.slice_resampler import SliceResampler

Operators = list[ResamplingOperator]
"""One for each axis."""
LARGE_VOXELS = 2**18
"""Arrays of this size and more are resampled by compiled loops; for smaller ones loading the compiler takes longer."""

TIE = 1e-6
"""Shares of a voxel closer than this are a tie, which goes to the lower class."""

_CLASS_DEPTH = 32  # planes written at a time: a cache line, where the result's fastest axis is the one across


def resample_image(
    array: NDArray[Any], shape: Sequence[int], order: int | Sequence[int], smooth: bool = False
) -> NDArray[np.float32]:
    """Resample grey values with splines, clipped to each channel's own range.

    Memory beside the result: about 50 planes a thread. Integers are read as they are, without a float copy.

    Args:
        array: ``(C, *spatial)``, of any number type and memory order; two or three spatial axes.
        shape: target spatial shape.
        order: spline order 0, 1 or 3, or one for each axis.
        smooth: blur first where voxels become fewer, so that fine detail does not turn into noise.

    Returns:
        ``(C, *shape)`` float32, C-contiguous, never `array` itself.

    Example:
        >>> import numpy as np
        >>> resample_image(np.array([[[0, 2, 4, 6]]]), (1, 2), order=1).tolist()
        [[[1.0, 5.0]]]
    """
    if array.shape[1:] == tuple(shape):
        return array.astype(np.float32, order="C")
    operators = [
        resampling_operator(n, m, spline, smooth)
        for n, m, spline in zip(array.shape[1:], shape, _each(order, array.ndim - 1), strict=True)
    ]
    result = np.empty((len(array), *shape), dtype=np.float32)
    large = max(array[0].size, result[0].size) >= LARGE_VOXELS
    for plane, out in zip(array, result, strict=True):
        (_by_slices if large else _at_once)(plane, operators, out)
    return result


def resample_classes(
    classes: NDArray[np.integer],
    shape: Sequence[int],
    order: int | Sequence[int] = 1,
    section: tuple[int, int, int] | None = None,
) -> NDArray[np.int16]:
    """Resample class indices linearly: each class's indicator is interpolated and the largest wins.

    Where the 2 x 2 x 2 corners of an output voxel agree, interpolation cannot change the winner; only other voxels are summed.

    Args:
        classes: ``(*spatial)`` int16 or uint8, `IGNORE_INDEX` allowed, of any memory order; two or three axes.
        shape: target shape.
        order: 1, or 0 (nearest), or one for each axis.
        section: ``(axis, first, last)``: gives only the slices `first` to `last` of the result along an axis.

    Returns:
        ``shape`` int16, the same values, C-contiguous. Ties (to 1e-6) go to the lower class.

    Example:
        >>> import numpy as np
        >>> resample_classes(np.array([[0, 2, 2]], dtype=np.int16), (1, 6)).tolist()
        [[0, 0, 2, 2, 2, 2]]
    """
    operators = [
        resampling_operator(n, m, spline) for n, m, spline in zip(classes.shape, shape, _each(order, classes.ndim), strict=True)
    ]
    vote = _vote if max(classes.size, math.prod(shape)) >= LARGE_VOXELS else _vote_at_once
    same = classes.shape == tuple(shape)
    if section is not None:
        axis, first, last = section
        low, operators[axis] = operators[axis].rows(first, last)
        high = low + int(operators[axis].start[-1]) + operators[axis].weights.shape[1]
        classes = classes[(slice(None),) * axis + (slice(low, high),)]
    if same:
        return np.ascontiguousarray(classes, dtype=np.int16)
    result = np.empty([len(operator.start) for operator in operators], dtype=np.int16)
    vote(classes, operators, result)
    return result


def _each(order: int | Sequence[int], axes: int) -> tuple[int, ...]:
    return (order,) * axes if isinstance(order, int) else tuple(order)


def _at_once(array: NDArray[Any], operators: Operators, out: NDArray[np.float32]) -> None:
    """A small image whole, by one matrix per axis."""
    value = array.astype(np.float32)
    for axis, operator in enumerate(operators):
        matrix = operator.matrix(array.shape[axis])
        value = np.moveaxis(np.tensordot(matrix, value, axes=(1, axis)), 0, axis)
    np.clip(value, array.min(), array.max(), out=out)


def _memory_order(array: NDArray[Any]) -> tuple[int, ...]:
    """The axes of a two- or three-dimensional array from the slowest in memory to the fastest; long strides first."""
    return tuple(sorted(range(array.ndim), key=lambda axis: (array.shape[axis] > 1, -abs(array.strides[axis]))))


def _with_three_axes(
    array: NDArray[Any], operators: Operators, out: NDArray[Any]
) -> tuple[NDArray[Any], Operators, NDArray[Any]]:
    """Views of three axes in the input's memory order; a picture becomes one plane."""
    order = _memory_order(array)
    array, out, operators = array.transpose(order), out.transpose(order), [operators[axis] for axis in order]
    return (array, operators, out) if array.ndim == 3 else (array[None], [resampling_operator(1, 1, 0), *operators], out[None])


def _by_slices(array: NDArray[Any], operators: Operators, out: NDArray[np.float32]) -> None:
    """A large image, slice by slice as it lies in memory."""
    array, operators, out = _with_three_axes(array, operators, out)
    SliceResampler(array, operators).fill(0, len(out), out)


def _vote(classes: NDArray[np.integer], operators: Operators, out: NDArray[np.int16]) -> None:
    """A large label map: each output plane from the two planes it lies between."""
    from voxelry.preparation.resampling_kernels import vote

    classes, (across, down, along), out = _with_three_axes(classes, operators, out)
    beyond = across.weights.shape[1] - 1

    def work(first: int, last: int) -> None:
        planes: dict[int, NDArray[np.int16]] = {}
        block = np.empty((_CLASS_DEPTH, *out.shape[1:]), np.int16)
        for begin in range(first, last, _CLASS_DEPTH):
            stop = min(begin + _CLASS_DEPTH, last)
            for index in range(begin, stop):
                low = int(across.start[index])
                planes = {near: planes.get(near, classes[near]) for near in (low, low + beyond)}
                planes = {near: np.ascontiguousarray(plane, dtype=np.int16) for near, plane in planes.items()}
                vote(planes[low], planes[low + beyond], across.weights[index], *down, *along, block[index - begin], TIE)
            out[begin:stop] = block[: stop - begin]

    run_slabs(work, len(out))


def _vote_at_once(classes: NDArray[np.integer], operators: Operators, out: NDArray[np.int16]) -> None:
    """A small label map whole, class by class with a running maximum."""
    matrices = [operator.matrix(size).astype(np.float64) for operator, size in zip(operators, classes.shape, strict=True)]
    best = np.full(out.shape, -1.0)
    for value in np.unique(classes):
        share = (classes == value).astype(np.float64)
        for axis, matrix in enumerate(matrices):
            share = np.moveaxis(np.tensordot(matrix, share, axes=(1, axis)), 0, axis)
        better = share > best + TIE
        best[better] = share[better]
        out[better] = value
