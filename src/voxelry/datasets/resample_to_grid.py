"""Resamples grey values onto another grid of the same space, of any orientation and spacing.

As ITK does: an interpolating cubic spline, or linearly where slices are thick, since a cubic spline rings between them. A voxel
extends to its faces, so that up to half a voxel beyond the outermost centres the edge's value, or the mirrored spline's, is used;
farther out the lowest value of the channel.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, spline_filter

from voxelry.base.threads import run_slabs
from voxelry.core.geometry import Affine, Geometry
from voxelry.core.volume import Volume

THICK = 3.0
"""Voxels longer than this many times their shortest edge are resampled linearly."""

_EDGE = {1: "nearest", 3: "mirror"}
_FEWEST = 4  # voxels along an axis from which on a cubic spline has something to go by
_SLAB = 16  # slices sampled at once
_SAMPLES = 48  # voxels along an axis at which an overlap is looked for
_FACE = 0.5 + 1e-3  # voxels from an outermost centre to the face, and what rounding may add


def resample_to_grid(volume: Volume, grid: Geometry) -> Volume:
    """A volume on another grid, decoded and resampled when its pixels are first used.

    Args:
        volume: three-dimensional, of any grid; a sheared one too.
        grid: the target grid.

    Returns:
        A Volume ``(C, *grid.shape)`` float32, whose slices are no instances of its Source any more.
    """
    source = replace(volume.source, instances=())
    return replace(volume, pixels=partial(_sampled, volume, grid), geometry=grid, source=source, outside=None)


def covered_share(grid: Geometry, target: Geometry) -> float:
    """The share 0..1 of a grid's voxels that lie within another one, estimated from a sample of them.

    Args:
        grid: the other, such as that of a channel.
        target: the grid whose voxels are counted.
    """
    some = [np.unique(np.linspace(0, size - 1, _SAMPLES).round()) for size in target.shape]
    return 1 - float(_beyond(grid.indices_of(target), some, grid.shape).mean())


def spline_order(grid: Geometry) -> int:
    """3, or 1 where slices are thick or few."""
    spacing = grid.spacing or (1.0,)
    return 1 if max(spacing) > THICK * min(spacing) or min(grid.shape) < _FEWEST else 3


def _sampled(volume: Volume, grid: Geometry) -> NDArray[np.float32]:
    to_source, order = volume.geometry.indices_of(grid), spline_order(volume.geometry)
    result = np.empty((volume.channels, *grid.shape), np.float32)
    for channel, out in zip(replace(volume).array, result, strict=True):  # a copy, so that the decoded pixels are not kept
        values = spline_filter(channel, order, np.float32, _EDGE[order]) if order > 1 else channel
        limits = float(channel.min()), float(channel.max())
        _fill(values, to_source, order, limits, out)
    return result


def _fill(values: NDArray[Any], to_source: Affine, order: int, limits: tuple[float, float], out: NDArray[np.float32]) -> None:
    """One channel, slab by slab on the thread pool; `to_source` maps indices of `out` to those of `values`."""
    matrix = to_source[:3, :3]
    rows, columns = (np.arange(size, dtype=np.float64) for size in out.shape[1:])

    def stretch(first: int, last: int) -> None:
        for begin in range(first, last, _SLAB):
            stop = min(begin + _SLAB, last)
            slab = out[begin:stop]
            offset = to_source[:3, 3] + matrix[:, 0] * begin
            affine_transform(values, matrix, offset, slab.shape, slab, order, mode=_EDGE[order], prefilter=False)
            np.clip(slab, *limits, out=slab)
            slab[_beyond(to_source, [np.arange(begin, stop, dtype=np.float64), rows, columns], values.shape)] = limits[0]

    run_slabs(stretch, len(out))


def _beyond(to_source: Affine, indices: list[NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which voxels of these indices along each axis lie outside a grid of `shape`."""
    grids = np.ix_(*indices)
    result = np.zeros(tuple(len(index) for index in indices), np.bool_)
    for axis, size in enumerate(shape):
        place = sum((to_source[axis, k] * grids[k] for k in range(3)), start=np.full((1, 1, 1), to_source[axis, 3]))
        result |= (place < -_FACE) | (place > size - 1 + _FACE)
    return result
