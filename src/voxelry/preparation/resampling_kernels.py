"""Compiled loops of resampling, for large arrays; several threads run them on slabs (`voxelry.base.threads`).

Small arrays are faster in plain numpy than loading the compiler.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, readonly

_f4, _i2, _i8 = numba.float32, numba.int16, numba.int64
_CHUNK = 1024  # float32 values that stay in the first-level cache while weighted rows are added
_TILE = 16


@compiled(numba.void(readonly(_f4, 2), readonly(_i8, 1), readonly(_f4, 2), _i8, _i8, _f4[:, ::1]), fastmath=True)
def sum_rows(rows: Any, start: Any, weights: Any, first: int, last: int, out: Any) -> None:
    """``out[j] = sum_t weights[j, t] * rows[(start[j] + t) % len(rows)]``, ``(n, c)`` to ``(m, c)``, c from `first` to `last`.

    The remainder lets `rows` be a ring buffer.
    """
    n = len(rows)
    count = weights.shape[1]
    for low in range(first, last, _CHUNK):
        high = min(low + _CHUNK, last)
        for j in range(out.shape[0]):
            total = out[j, low:high]
            total[:] = 0
            t = 0
            while t + 4 <= count:
                u, v, w, x = weights[j, t], weights[j, t + 1], weights[j, t + 2], weights[j, t + 3]
                a, b = rows[(start[j] + t) % n, low:high], rows[(start[j] + t + 1) % n, low:high]
                d, e = rows[(start[j] + t + 2) % n, low:high], rows[(start[j] + t + 3) % n, low:high]
                for c in range(total.size):
                    total[c] += u * a[c] + v * b[c] + w * d[c] + x * e[c]
                t += 4
            while t < count:
                u, a = weights[j, t], rows[(start[j] + t) % n, low:high]
                for c in range(total.size):
                    total[c] += u * a[c]
                t += 1


@compiled(numba.void(readonly(_f4, 2), _f4[:, ::1]))
def transpose(plane: Any, out: Any) -> None:
    """``out[c, r] = plane[r, c]``, tile by tile."""
    rows, columns = plane.shape
    for top in range(0, rows, _TILE):
        for left in range(0, columns, _TILE):
            for c in range(left, min(left + _TILE, columns)):
                for r in range(top, min(top + _TILE, rows)):
                    out[c, r] = plane[r, c]


_AXIS = (readonly(_i8, 1), readonly(_f4, 2))
_PLANE = readonly(_i2, 2)


@compiled(_i2(_i2[::1], numba.float64[::1], numba.float64))
def _winner(value: Any, share: Any, tie: float) -> Any:
    """The lowest class whose share is within `tie` of the largest."""
    least, winner = share.max() - tie, np.int16(32767)
    for slot in range(value.size):
        if share[slot] >= least:
            winner = min(winner, value[slot])
    return winner


@compiled(numba.void(_PLANE, _PLANE, readonly(_f4, 1), *_AXIS, *_AXIS, _i2[:, ::1], numba.float64))
def vote(near: Any, far: Any, across: Any, start1: Any, weights1: Any, start2: Any, weights2: Any, out: Any, tie: float) -> None:
    """The class with the largest share of each output voxel that lies between two planes, of at most 2 weights along each axis.

    Where all corners agree nothing is summed; among shares within `tie` of the largest the lowest class wins. `near` and
    `far` are ``(n1, n2)``, the same plane where the axis across has one weight, `across` their weights, `out` is ``(m1, m2)``.
    """
    next1, next2 = weights1.shape[1] - 1, weights2.shape[1] - 1
    agree = np.empty(near.shape[1], np.uint8)
    value, share = np.empty(8, np.int16), np.empty(8, np.float64)
    for j in range(out.shape[0]):
        rows = near[start1[j]], near[start1[j] + next1], far[start1[j]], far[start1[j] + next1]
        a, b, c, d = rows
        if j == 0 or start1[j] != start1[j - 1]:
            for k in range(agree.size - next2):
                same = (a[k] == b[k]) & (a[k] == c[k]) & (a[k] == d[k]) & (a[k] == a[k + next2])
                agree[k] = same & (b[k] == b[k + next2]) & (c[k] == c[k + next2]) & (d[k] == d[k + next2])
        for k in range(out.shape[1]):
            first = start2[k]
            if agree[first]:
                out[j, k] = a[first]
                continue
            count = 0
            for p in range(across.size):
                for q in range(next1 + 1):
                    for r in range(next2 + 1):
                        label = rows[2 * p + q][first + r]
                        slot = 0
                        while slot < count and value[slot] != label:
                            slot += 1
                        if slot == count:
                            value[slot], share[slot] = label, 0.0
                            count += 1
                        share[slot] += np.float64(across[p]) * weights1[j, q] * weights2[k, r]
            out[j, k] = _winner(value[:count], share[:count], tie)
