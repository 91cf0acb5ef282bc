"""Compiled passes over the grey values of one channel of a patch, flat float32, in place where possible.

They run without the interpreter's lock, so that a thread that prepares patches does not hold up the one that trains.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, jitable, readonly

_f4, _f8, _i8, _u4 = numba.float32, numba.float64, numba.int64, numba.uint32
_LOG2 = (2.8853900817779268, 0.961796693926, 0.57707801635558, 0.41219858311113)
"""Coefficients of log2((1 + z) / (1 - z)) by powers of z squared: twice the series of the inverse hyperbolic tangent."""
_EXP = (1.0, 1.0, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720)


@compiled(numba.types.UniTuple(_f8, 4)(readonly(_f4, 1)), fastmath=True)
def moments(x: Any) -> Any:
    """Sum, sum of squares, least and largest of ``(n,)`` values."""
    total, squares = 0.0, 0.0
    least, most = x[0], x[0]
    for i in range(x.size):
        value = np.float64(x[i])
        total += value
        squares += value * value
        least, most = min(least, x[i]), max(most, x[i])
    return total, squares, np.float64(least), np.float64(most)


@compiled(numba.void(_f4[::1], _f4, _f4), fastmath=True)
def stretch(x: Any, factor: Any, offset: Any) -> None:
    """``x * factor + offset``."""
    for i in range(x.size):
        x[i] = x[i] * factor + offset


@compiled(numba.void(_f4[::1], _f4, _f4, _f4, _f4), fastmath=True)
def stretch_within(x: Any, factor: Any, offset: Any, least: Any, most: Any) -> None:
    """``x * factor + offset``, clipped to `least`..`most`."""
    for i in range(x.size):
        x[i] = min(max(x[i] * factor + offset, least), most)


@compiled(numba.types.UniTuple(_f8, 2)(_f4[::1], _f4, _f4, _f4, _f4, _f4), fastmath=True)
def power(x: Any, factor: Any, offset: Any, exponent: Any, height: Any, base: Any) -> Any:
    """``(x * factor + offset) ** exponent * height + base`` in place, the inner value in 0..1; sum and sum of squares.

    The power is ``2 ** (exponent * log2(t))`` by the bits of float32 and two short polynomials, to a relative error of 2e-6,
    which compilers turn into vector instructions.
    """
    total, squares = 0.0, 0.0
    l0, l1, l2, l3 = np.float32(_LOG2[0]), np.float32(_LOG2[1]), np.float32(_LOG2[2]), np.float32(_LOG2[3])
    e2, e3, e4 = np.float32(_EXP[2]), np.float32(_EXP[3]), np.float32(_EXP[4])
    e5, e6 = np.float32(_EXP[5]), np.float32(_EXP[6])
    unity, two, half = np.float32(1), np.float32(2), np.float32(0.5)
    for i in range(x.size):
        t = min(max(x[i] * factor + offset, np.float32(1e-30)), unity)
        bits = np.float32(t).view(np.int32)
        whole = (bits - np.int32(0x3F3504F3)) >> np.int32(23)  # leaves a mantissa between the square roots of 1/2 and 2
        f = np.int32(bits - (whole << np.int32(23))).view(np.float32) - unity
        z = f / (two + f)
        s = z * z
        y = exponent * (np.float32(whole) + z * (l0 + s * (l1 + s * (l2 + s * l3))))
        r = max(np.floor(y + half), np.float32(-126))
        u = (y - r) * np.float32(0.6931471805599453)
        raised = unity + u * (unity + u * (e2 + u * (e3 + u * (e4 + u * (e5 + u * e6)))))
        value = height * raised * np.int32((np.int32(r) + np.int32(127)) << np.int32(23)).view(np.float32) + base
        x[i] = value
        total += np.float64(value)
        squares += np.float64(value) * np.float64(value)
    return total, squares


@jitable
def _hashed(bits: Any) -> Any:
    """A hash of 32 bits (Wellons' ``lowbias32``)."""
    x = np.uint32(bits)
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@compiled(numba.void(_f4[::1], _f4, _u4), fastmath=True)
def add_noise(x: Any, sigma: Any, key: Any) -> None:
    """Add normal noise that follows from the key and each value's number alone (Box and Muller, doi:10.1214/aoms/1177706645)."""
    unit, turn = np.float32(2.0**-24), np.float32(2.0 * math.pi * 2.0**-24)
    for i in range((x.size + 1) // 2):
        state = np.uint32(_hashed(i) ^ key)
        a = np.float32(_hashed(state) >> np.uint32(8)) + np.float32(0.5)
        b = np.float32(_hashed(np.uint32(state + np.uint32(0x9E3779B9))) >> np.uint32(8))
        radius = sigma * np.sqrt(np.float32(-2) * np.log(a * unit))
        x[2 * i] += radius * np.cos(b * turn)
        if 2 * i + 1 < x.size:
            x[2 * i + 1] += radius * np.sin(b * turn)


@compiled(numba.void(readonly(_f4, 3), readonly(_i8, 2), readonly(_f4, 2), _f4[:, :, ::1]), fastmath=True)
def sum_along_middle(x: Any, index: Any, weights: Any, out: Any) -> None:
    """``out[o, j, c] = sum_t weights[j, t] * x[o, index[j, t], c]``, ``(o, n, c)`` to ``(o, m, c)``."""
    for o in range(x.shape[0]):
        for j in range(out.shape[1]):
            total = out[o, j]
            total[:] = 0
            for t in range(index.shape[1]):
                row, weight = x[o, index[j, t]], weights[j, t]
                for c in range(total.size):
                    total[c] += weight * row[c]


@compiled(numba.void(readonly(_f4, 2), readonly(_i8, 2), readonly(_f4, 2), _i8, _i8, _f4[:, ::1]), fastmath=True)
def sum_along_last(x: Any, index: Any, weights: Any, first: Any, last: Any, out: Any) -> None:
    """`sum_along_middle` along the last axis; voxels `first` to `last` are sums of neighbours by the weights of `first`."""
    count = index.shape[1]
    for r in range(x.shape[0]):
        row, total = x[r], out[r]
        if last > first:
            middle = total[first:last]
            middle[:] = 0
            for t in range(count):
                weight, shifted = weights[first, t], row[index[first, t] : index[first, t] + last - first]
                for j in range(middle.size):
                    middle[j] += weight * shifted[j]
        for j in range(total.size):
            if first <= j < last:
                continue
            value = np.float32(0)
            for t in range(count):
                value += weights[j, t] * row[index[j, t]]
            total[j] = value


@compiled(numba.void(_f4[::1], readonly(_f4, 1), _f4, _f4), fastmath=True)
def follow_curve(x: Any, knots: Any, least: Any, most: Any) -> None:
    """Grey values by a curve through evenly spaced knots 0..1 between `least` and `most`."""
    steps = knots.size - 1
    per = np.float32(steps) / (most - least)
    for i in range(x.size):
        position = min(max((x[i] - least) * per, np.float32(0)), np.float32(steps))
        k = min(np.int64(position), steps - 1)
        x[i] = least + (knots[k] + (position - np.float32(k)) * (knots[k + 1] - knots[k])) * (most - least)
