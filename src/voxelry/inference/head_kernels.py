"""Compiled loops of the inference engine for the channels of an instance head (`voxelry.core.instance_plan.HEAD_CHANNELS`).

Ring buffers hold them behind the classes; shapes and arguments are as in `blending_kernels`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, inlined, readonly
from voxelry.core.instance_plan import HEAD_CHANNELS
from voxelry.inference.blending_kernels import BYTE, HALF, INTERP, ONE, STORED_TYPES, ZERO, interpolate_row
from voxelry.inference.half import exponential, loaded, stored

BORDER, CORE, DISTANCE = (HEAD_CHANNELS.index(name) for name in ("border", "core", "distance"))

CORE_UNIT, DISTANCE_ZERO, DISTANCE_UNIT = 256, 128, 126
"""A packed voxel is ``CORE_UNIT * core + distance``: how much it is core rather than border, 0..255, and 2..254 for a distance of
-1..1."""

_f, _i = numba.float32, numba.int64
_SUMS = numba.types.Array(_f, 4, "A")


@inlined
def _sigmoid(x: Any) -> Any:
    odds = exponential(-abs(x))
    return ONE / (ONE + odds) if x >= ZERO else odds / (ONE + odds)


@compiled(*(numba.void(s[:, :, :, ::1], readonly(_f, 3), _i, _i, _i) for s in STORED_TYPES))
def finish_head(ring: Any, weights: Any, z: int, first: int, last: int) -> None:
    """Divide rows `first` to `last` of the finished slices from `z` on by their weights; 0 where no patch came."""
    depth, height, width = ring.shape[1], ring.shape[2], ring.shape[3]
    for index in range(first, last):
        slot, y = (z + index // height) % depth, index % height
        weight = weights[slot, y]
        for k in range(ring.shape[0]):
            row = ring[k, slot, y]
            for n in range(width):
                row[n] = stored(loaded(row[n]) * (ONE / weight[n]) if weight[n] > ZERO else ZERO, row[n])


@compiled(*(numba.void(s[:, :, :, ::1], INTERP, _i, _i, numba.boolean, _f, _SUMS) for s in STORED_TYPES))
def add_head(ring: Any, interp: Any, first: int, last: int, logits: bool, share: Any, sums: Any) -> None:
    """Add how much every voxel of the finer grid is core rather than border, and its distance, to sums.

    The two are weighed against each other: where a network is not sure, both of their own probabilities flicker about a half.

    Args:
        ring: ``(H, depth, Y, X)``, means of the head's channels.
        interp: `SlabInterp` to ``(n, r, m)`` new voxels.
        first: the first row to work on, of ``n * r``.
        last: the row to stop before.
        logits: whether the ring buffer holds logits of border and core; else probabilities.
        share: factor.
        sums: ``(2, n, r, m)`` float32, raised.
    """
    rows, columns = len(interp.rows), interp.columns.shape[1]
    line, row, edge = np.empty(ring.shape[3], np.float32), np.empty(columns, np.float32), np.empty(columns, np.float32)
    for index in range(first, last):
        a, b = index // rows, index % rows
        core, distance = sums[0, a, b], sums[1, a, b]
        interpolate_row(ring, BORDER, interp, a, b, line, edge)
        interpolate_row(ring, CORE, interp, a, b, line, row)
        for n in range(columns):
            if logits:
                core[n] += share * _sigmoid(row[n] - edge[n])
            elif row[n] > ZERO:
                core[n] += share * (row[n] / (row[n] + edge[n]))
        interpolate_row(ring, DISTANCE, interp, a, b, line, row)
        for n in range(columns):
            distance[n] += share * row[n]


@compiled(numba.void(readonly(_f, 2), numba.uint16[::1], _i, _i))
def pack(sums: Any, packed: Any, first: int, last: int) -> None:
    """Quantise shares of core and distances, voxels `first` to `last` of ``(2, N)``, to ``(N,)`` uint16."""
    for n in range(first, last):
        core = np.uint16(min(max(sums[0, n], ZERO), ONE) * BYTE + HALF)
        distance = np.int16(np.floor(min(max(sums[1, n], -ONE), ONE) * np.float32(DISTANCE_UNIT) + HALF))
        packed[n] = core * CORE_UNIT + distance + DISTANCE_ZERO
