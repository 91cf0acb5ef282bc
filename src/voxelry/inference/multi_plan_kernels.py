"""Compiled loops of ensembles of several plans: probabilities on the scan's grid, and the winner of their mean.

Probabilities of regions are less one half, as in `region_kernels`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, inlined
from voxelry.inference.blending_kernels import (
    BYTE,
    CLASSES,
    HALF,
    INTERP,
    LAYER,
    NO_VALUE,
    ONE,
    REGIONS,
    STORED_TYPES,
    TINY,
    ZERO,
    add_weights,
    compete_or_decide,
    interpolate_classes,
)
from voxelry.inference.region_kernels import add_decision_entropy, certainty

_f, _i, _u, _b = numba.float32, numba.int64, numba.uint16, numba.boolean
_ADD = [numba.void(s[:, :, :, ::1], INTERP, _i, _i, _b, _b, _f, numba.types.Array(_f, 4, "A")) for s in STORED_TYPES]


@compiled(*_ADD)
def add_probabilities(ring: Any, interp: Any, first: int, last: int, logits: bool, regions: bool, share: Any, sums: Any) -> None:
    """Add the probabilities of every voxel of the finer grid to sums: interpolated, then brought to 0..1.

    Args:
        ring: ``(K, depth, Y, X)``, means.
        interp: `SlabInterp` to ``(n, r, m)`` new voxels.
        first: the first row to work on, of ``n * r``.
        last: the row to stop before.
        logits: whether the ring buffer holds logits; else probabilities (of regions, less one half).
        regions: whether each class decides for itself; else they exclude each other.
        share: factor of the probabilities.
        sums: ``(K, n, r, m)`` float32, raised.
    """
    rows, columns, count = len(interp.rows), interp.columns.shape[1], ring.shape[0]
    line, values = np.empty(ring.shape[3], np.float32), np.empty((count, columns), np.float32)
    best, total = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for index in range(first, last):
        a, b = index // rows, index % rows
        interpolate_classes(ring, interp, a, b, line, values, best)
        total[:] = ZERO
        if regions:
            total[:] = ONE
        else:
            for k in range(count):
                add_weights(values[k], best, total, logits)
        for k in range(count):
            row, goal = values[k], sums[k, a, b]
            for n in range(columns):
                if regions:
                    value = ONE / (ONE + np.exp(-row[n])) - HALF if logits else row[n]
                elif logits:
                    value = np.exp(row[n] - best[n]) / total[n]
                else:
                    value = max(row[n], ZERO) / max(total[n], TINY)
                goal[n] += share * value


@inlined
def _entropy(sums: Any, regions: bool, entropy: Any) -> None:
    """Entropy of mean probabilities, as a share of the largest possible; of regions the mean of those of their decisions."""
    count = sums.shape[0]
    entropy[:] = ZERO
    for k in range(1 if regions else 0, count):
        row = sums[k]
        if regions:
            add_decision_entropy(row, entropy, False)
        else:
            for n in range(row.size):
                share = max(row[n], TINY)
                entropy[n] -= share * np.float32(np.log(share))
    most = np.float32((count - 1) * np.log(2)) if regions else np.float32(np.log(max(count, 2)))
    for n in range(entropy.size):
        entropy[n] /= max(most, TINY)


@compiled(numba.void(_f[:, ::1], _i, _i, _i, _b, _u[::1], numba.uint8[::1], numba.float64[::1], _i[::1]))
def decide_mean(
    sums: Any, first: int, last: int, rule: int, entropy: bool, labels: Any, confidence: Any, total: Any, won: Any
) -> None:
    """The winner of each voxel by mean probabilities, and its confidence.

    Args:
        sums: ``(K, N)`` float32, mean probabilities; of a layer its classes, after one more that is skipped.
        first: the first voxel to work on.
        last: the voxel to stop before.
        rule: `CLASSES`, `REGIONS` or `LAYER`.
        entropy: the map is entropy as a share of the largest possible; else the probability of the winner.
        labels: ``(N,)`` uint16, written.
        confidence: ``(N,)`` uint8, written: 0..255 for 0..1; empty for no map.
        total: ``(K,)`` float64, raised by the probabilities of voxels a class won; background is left out.
        won: ``(K,)`` int64, raised by how many it won.
    """
    count, size = sums.shape[0], last - first
    best, winner = np.full(size, -NO_VALUE if rule == REGIONS else NO_VALUE), np.zeros(size, np.int32)
    for k in range(min(rule, 1), count):
        compete_or_decide(sums[k, first:last], np.int32(k), best, winner, rule)
    for n in range(size):
        if rule == LAYER and best[n] <= ZERO:
            winner[n] = 0
        if rule != CLASSES:
            best[n] = certainty(abs(best[n]), False)
        labels[first + n] = winner[n]
        if winner[n] > 0:
            won[winner[n]] += 1
            total[winner[n]] += best[n]
    if confidence.size == 0:
        return
    if entropy:
        _entropy(sums[:, first:last], rule != CLASSES, best)
    for n in range(size):
        confidence[first + n] = np.uint8(min(max(best[n], ZERO), ONE) * BYTE + HALF)
