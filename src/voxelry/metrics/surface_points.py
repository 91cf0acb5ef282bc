"""Surface points of all labels of a map: plain numpy for small arrays, one compiled scan for large ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxelry.base.threads import pool, slabs
from voxelry.metrics.boundary import border_voxels
from voxelry.metrics.overlap import LARGE_VOXELS
from voxelry.metrics.surface_elements import surface_elements

SurfacePoints = dict[int, tuple[NDArray[np.int32], NDArray[np.uint8]]]
"""Label value -> ``(N, D)`` grid indices of its surface points, and their ``(N,)`` neighbour codes."""


def surface_points(array: NDArray[Any], labels: list[int], corners: bool) -> SurfacePoints:
    """Find the surface points of labels.

    Args:
        array: integers or booleans, ``(*spatial)``, 2D or 3D.
        labels: values other than 0.
        corners: surface elements at voxel corners (indices in the grid of corners); otherwise border voxels, whose code is 1.
    """
    large = array.ndim == 3 and array.size >= LARGE_VOXELS
    return _points_compiled(array, labels, corners) if large else _points_plain(array, labels, corners)


def _points_plain(array: NDArray[Any], labels: list[int], corners: bool) -> SurfacePoints:
    """Surface points of each label, box by box: ``(N, D)`` grid indices and ``(N,)`` codes."""
    points_of: SurfacePoints = {}
    for value in labels:
        mask = array == value
        box = next(iter(ndimage.find_objects(mask.astype(np.uint8))), None) or tuple(slice(0, 0) for _ in mask.shape)
        inside = mask[box]
        if corners:
            where, codes = surface_elements(inside)
        else:
            where = np.flatnonzero(border_voxels(inside))
            codes = np.ones(len(where), dtype=np.uint8)
        grid = tuple(size + corners for size in inside.shape)
        start = np.array([side.start for side in box])
        points_of[value] = (np.stack(np.unravel_index(where, grid), axis=-1) + start).astype(np.int32), codes
    return points_of


def _points_compiled(array: NDArray[Any], labels: list[int], corners: bool) -> SurfacePoints:
    """As `_points_plain`, for all labels in one scan of a large 3D array."""
    from voxelry.metrics.metric_kernels import scan_border, scan_elements

    bytes_or_words, slots = _as_slots(array, labels)
    flip = not bytes_or_words.flags.c_contiguous and bytes_or_words.flags.f_contiguous
    volume = np.ascontiguousarray(bytes_or_words.T if flip else bytes_or_words)
    scan = scan_elements if corners else scan_border
    grid = tuple(size + corners for size in volume.shape)
    none = np.empty(0, np.int64), np.empty(0, np.int16), np.empty(0, np.uint8)

    def read(planes: tuple[int, int]) -> tuple[NDArray[Any], ...]:
        count = scan(volume, slots, *planes, False, *none)
        outputs = np.empty(count, np.int64), np.empty(count, np.int16), np.empty(count, np.uint8)
        scan(volume, slots, *planes, True, *outputs)
        return outputs

    where, slot, codes = (np.concatenate(slabs_of) for slabs_of in zip(*pool().map(read, slabs(grid[0])), strict=True))
    order = np.argsort(slot, kind="stable")
    edges = np.searchsorted(slot[order], np.arange(len(labels) + 1))
    points_of: SurfacePoints = {}
    for number, value in enumerate(labels):
        own = order[edges[number] : edges[number + 1]]
        points = np.stack(np.unravel_index(where[own], grid), axis=-1).astype(np.int32)
        points_of[value] = (
            (points[:, ::-1], _transposed_codes()[codes[own]])
            if flip and corners
            else (points[:, ::-1] if flip else points, codes[own])
        )
    return points_of


def _transposed_codes() -> NDArray[np.uint8]:
    """The neighbour code of a cube after its axes are reversed in order."""
    table = np.zeros(256, dtype=np.uint8)
    for bit in range(8):
        mirrored = ((bit & 1) << 2) | (bit & 2) | (bit >> 2)
        table |= (((np.arange(256) >> bit) & 1) << mirrored).astype(np.uint8)
    return table


def _as_slots(array: NDArray[Any], labels: list[int]) -> tuple[NDArray[Any], NDArray[np.int16]]:
    """The array as uint8 or uint16, and the number of each of its values among the labels, -1 for none."""
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if array.dtype not in (np.uint8, np.uint16):
        numbered = np.zeros_like(array, dtype=np.uint16)
        for number, value in enumerate(labels, start=1):
            numbered[array == value] = number
        array, labels = numbered, list(range(1, len(labels) + 1))
    slots = np.full(np.iinfo(array.dtype).max + 1, -1, dtype=np.int16)
    for number, value in enumerate(labels):
        if 0 <= value < len(slots):
            slots[value] = number
    return array, slots
