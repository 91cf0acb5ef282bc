"""Compiled loops of the inference engine for the distance of an instance head (`voxelry.core.instance_plan.HEAD_CHANNELS`).

Ring buffers hold it behind the classes; shapes and arguments are as in `blending_kernels`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, readonly
from voxelry.inference.blending_kernels import HALF, INTERP, ONE, STORED_TYPES, ZERO, interpolate_row
from voxelry.inference.half import loaded, stored

DISTANCE_ZERO, DISTANCE_UNIT = 128, 126
"""A level is ``DISTANCE_ZERO + DISTANCE_UNIT * distance``: 2..254 for a distance of -1..1."""

_f, _i = numba.float32, numba.int64
_SUMS = numba.types.Array(_f, 3, "A")


@compiled(*(numba.void(s[:, :, :, ::1], readonly(_f, 3), _i, _i, _i) for s in STORED_TYPES))
def finish_distance(ring: Any, weights: Any, z: int, first: int, last: int) -> None:
    """Divide rows `first` to `last` of the finished slices from `z` on by their weights; 0 where no patch came."""
    depth, height, width = ring.shape[1], ring.shape[2], ring.shape[3]
    for index in range(first, last):
        slot, y = (z + index // height) % depth, index % height
        weight, row = weights[slot, y], ring[0, slot, y]
        for n in range(width):
            row[n] = stored(loaded(row[n]) * (ONE / weight[n]) if weight[n] > ZERO else ZERO, row[n])


@compiled(*(numba.void(s[:, :, :, ::1], INTERP, _i, _i, _f, _SUMS) for s in STORED_TYPES))
def add_distance(ring: Any, interp: Any, first: int, last: int, share: Any, sums: Any) -> None:
    """Add the distance of every voxel of the finer grid to sums.

    Args:
        ring: ``(1, depth, Y, X)``, means of the distance.
        interp: `SlabInterp` to ``(n, r, m)`` new voxels.
        first: the first row to work on, of ``n * r``.
        last: the row to stop before.
        share: factor.
        sums: ``(n, r, m)`` float32, raised.
    """
    rows, columns = len(interp.rows), interp.columns.shape[1]
    line, row = np.empty(ring.shape[3], np.float32), np.empty(columns, np.float32)
    for index in range(first, last):
        a, b = index // rows, index % rows
        distance = sums[a, b]
        interpolate_row(ring, 0, interp, a, b, line, row)
        for n in range(columns):
            distance[n] += share * row[n]


@compiled(numba.void(readonly(_f), numba.uint8[::1], _i, _i))
def quantise(distances: Any, levels: Any, first: int, last: int) -> None:
    """Quantise distances, voxels `first` to `last` of ``(N,)``, to levels."""
    for n in range(first, last):
        level = np.floor(min(max(distances[n], -ONE), ONE) * np.float32(DISTANCE_UNIT) + HALF)
        levels[n] = np.uint8(np.int16(level) + DISTANCE_ZERO)
