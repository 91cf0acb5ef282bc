"""Half floats and a fast exponential for compiled loops.

Numba has no float16 on a CPU, so a ring buffer of half floats is an array of their bits (uint16); the processor converts them.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, codegen
from numba.extending import intrinsic

from voxelry.base.compiled import compiled, inlined

_intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic  # numba passes the first argument itself
ir, _binding = cgutils.ir, codegen.ll
_f4, _u2 = numba.float32[::1], numba.uint16[::1]

LARGEST_HALF = 65504.0
"""The largest finite half float; sums are held below it."""


@cache
def has_half_floats() -> bool:
    """Whether this processor converts half floats in hardware, as tried once a process; else ring buffers are float32."""
    claimed = platform.machine().lower() in {"arm64", "aarch64"} or bool(_binding.get_host_cpu_features().get("f16c"))
    return claimed and _converts_rightly()


def _converts_rightly() -> bool:
    """Whether compiled code converts every finite half float to NumPy's float32, and rounds back as NumPy does."""

    @compiled(numba.void(_u2, _f4, _u2))
    def convert(bits: Any, wide: Any, back: Any) -> None:
        for index in range(len(bits)):
            wide[index] = loaded(bits[index])
            back[index] = stored(wide[index] * np.float32(1.0001), bits[index])

    bits = np.arange(1 << 16, dtype=np.uint16)
    bits = bits[np.abs(bits.view(np.float16)) < LARGEST_HALF / 2]  # false for NaN
    wide, back = np.empty(len(bits), np.float32), np.empty_like(bits)
    convert(bits, wide, back)
    rounded = (wide * np.float32(1.0001)).astype(np.float16)
    return np.array_equal(wide, bits.view(np.float16).astype(np.float32)) and np.array_equal(back, rounded.view(np.uint16))


@_intrinsic
def loaded(_typing: Any, value: Any) -> Any:
    """float32 of a stored number: a float32 itself, or the bits of a half."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if value == numba.float32:
            return arguments[0]
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return numba.float32(value), generate


@_intrinsic
def stored(_typing: Any, _value: Any, like: Any) -> Any:
    """A float32 as it is stored beside `like`: itself, or the bits of the nearest half."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if like == numba.float32:
            return arguments[0]
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return like(numba.float32, like), generate


@_intrinsic
def float_of_bits(_typing: Any, _bits: Any) -> Any:
    """The float32 of 32 bits."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.float32(numba.int32), generate


_PER_LN2 = np.float32(1.44269504)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_SMALLEST, _ONE, _ROUNDER = np.float32(-87.0), np.float32(1), np.float32(12582912.0)
_P0, _P1, _P2 = np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24)
_P3, _P4 = np.float32(1 / 120), np.float32(1 / 720)


@inlined
def exponential(x: Any) -> Any:
    """Exp of a float32 not above 0, to 2e-7: powers of two times a Taylor series (so that the loop is vectorised)."""
    x = max(x, _SMALLEST)
    power = (x * _PER_LN2 + _ROUNDER) - _ROUNDER  # to the nearest whole number: beyond 2**23 floats have no fraction
    r = x - power * _LN2_HIGH - power * _LN2_LOW
    series = r * r * (_P0 + r * (_P1 + r * (_P2 + r * (_P3 + r * _P4)))) + r + _ONE
    return series * float_of_bits((np.int32(power) + np.int32(127)) << np.int32(23))
