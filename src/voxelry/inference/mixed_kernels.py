"""Compiled loops of mixed ensembles: probabilities on a finer grid, and what their mean says.

Of regions they are less one half, as in `kernels`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, inlined, readonly
from voxelry.inference.blending_kernels import NO_VALUE, STORES, add_shares, compete, decide, mix, stretch
from voxelry.inference.region_kernels import add_doubts, certainty

_f, _i, _u, _w, _b = numba.float32, numba.int64, numba.uint16, numba.uint64, numba.boolean
_ZERO, _ONE, _BYTE, _HALF = np.float32(0), np.float32(1), np.float32(255), np.float32(0.5)
_TINY = np.float32(1e-30)

_SPREAD = [
    numba.void(
        s[:, :, :, ::1], readonly(_i, 2), readonly(_f, 1), readonly(_i, 2), readonly(_f, 1), readonly(_w, 2), readonly(_f, 1),
        _i, _i, _b, _b, _f, numba.types.Array(_f, 4, "A"),
    )
    for s in STORES
]  # fmt: skip


@compiled(*_SPREAD)
def spread_rows(
    ring: Any,
    zs: Any,
    fzs: Any,
    ys: Any,
    fys: Any,
    xs: Any,
    fxs: Any,
    first: int,
    last: int,
    logits: bool,
    regions: bool,
    share: Any,
    sums: Any,
) -> None:
    """Add the probabilities of every voxel of the finer grid to sums: interpolated, then brought to 0..1.

    Args:
        ring: as for `kernels.interpolate_rows`.
        zs: as there.
        fzs: as there.
        ys: as there.
        fys: as there.
        xs: as there.
        fxs: as there.
        first: the first row to work on, of ``n * r``.
        last: the row to stop before.
        logits: whether the ring holds logits; else probabilities (of regions, less one half).
        regions: whether each class decides for itself; else they exclude each other.
        share: what probabilities are multiplied by.
        sums: ``(K, n, r, m)`` float32, raised.
    """
    rows, columns, width, count = len(ys), xs.shape[1], ring.shape[3], ring.shape[0]
    mixed = np.empty(width, np.float32)
    values = np.empty((count, columns), np.float32)
    best, total = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for index in range(first, last):
        a, b = index // rows, index % rows
        best[:] = NO_VALUE
        for k in range(count):
            mix(ring, k, zs[a], fzs[a], ys[b], fys[b], 0, width, mixed)
            row = values[k]
            stretch(mixed, xs[0], xs[1], fxs, row)
            for n in range(columns):
                best[n] = max(best[n], row[n])
        total[:] = _ZERO
        if regions:
            total[:] = _ONE
        else:
            for k in range(count):
                add_shares(values[k], best, total, logits)
        for k in range(count):
            row, goal = values[k], sums[k, a, b]
            for n in range(columns):
                if regions:
                    value = _ONE / (_ONE + np.exp(-row[n])) - _HALF if logits else row[n]
                elif logits:
                    value = np.exp(row[n] - best[n]) / total[n]
                else:
                    value = max(row[n], _ZERO) / max(total[n], _TINY)
                goal[n] += share * value


@inlined
def _doubt(sums: Any, regions: bool, doubt: Any) -> None:
    """Entropy of mean probabilities, as a share of the largest possible; of regions the mean of those of their decisions."""
    count = sums.shape[0]
    doubt[:] = _ZERO
    for k in range(1 if regions else 0, count):
        row = sums[k]
        if regions:
            add_doubts(row, doubt, False)
        else:
            for n in range(row.size):
                share = max(row[n], _TINY)
                doubt[n] -= share * np.float32(np.log(share))
    most = np.float32((count - 1) * np.log(2)) if regions else np.float32(np.log(max(count, 2)))
    for n in range(doubt.size):
        doubt[n] /= max(most, _TINY)


@compiled(numba.void(_f[:, ::1], _i, _i, _b, _b, _u[::1], numba.uint8[::1], numba.float64[::1], _i[::1]))
def settle(sums: Any, first: int, last: int, regions: bool, entropy: bool, labels: Any, trust: Any, total: Any, won: Any) -> None:
    """The winner of each voxel by mean probabilities, and how sure it is.

    Args:
        sums: ``(K, N)`` float32, mean probabilities.
        first: the first voxel to work on.
        last: the voxel to stop before.
        regions: whether classes are regions.
        entropy: the map is entropy as a share of the largest possible; else the probability of the winner.
        labels: ``(N,)`` uint16, written.
        trust: ``(N,)`` uint8, written: 0..255 for 0..1; empty for no map.
        total: ``(K,)`` float64, raised by the probabilities of voxels a class won; background is left out.
        won: ``(K,)`` int64, raised by how many it won.
    """
    count, size = sums.shape[0], last - first
    best, winner = np.full(size, -NO_VALUE if regions else NO_VALUE), np.zeros(size, np.int32)
    for k in range(1 if regions else 0, count):
        if regions:
            decide(sums[k, first:last], np.int32(k), best, winner)
        else:
            compete(sums[k, first:last], np.int32(k), best, winner)
    for n in range(size):
        if regions:
            best[n] = certainty(best[n], False)
        labels[first + n] = winner[n]
        if winner[n] > 0:
            won[winner[n]] += 1
            total[winner[n]] += best[n]
    if trust.size == 0:
        return
    if entropy:
        _doubt(sums[:, first:last], regions, best)
    for n in range(size):
        trust[first + n] = np.uint8(min(max(best[n], _ZERO), _ONE) * _BYTE + _HALF)
