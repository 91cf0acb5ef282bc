"""Compiled loops that move a training window: image and classes in one pass.

A window is ``(C, n0, n1, n2)`` float32 here, pictures with n0 = 1. Sources are given flat, with the step in elements along each
axis, so that any axis may come first; so are the results, whose steps are negative where they are mirrored. Beyond the source
grey values are 0 and classes `IGNORE_INDEX`. All loops run without the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, jitable, readonly

_f4, _f8, _i2, _i8 = numba.float32, numba.float64, numba.int16, numba.int64
_FIXED, _HALF, _FRACTION = np.int64(32), np.int64(2**31), np.int64(2**32 - 1)
_UNIT = np.float32(2.0**-32)
_HAIR = 1e-4
"""Voxels that rows stay clear of a case's border by, where they are interpolated without looking at each corner."""


def _signature(*middle: Any) -> Any:
    """Of the kernels below."""
    given = (readonly(_f4), readonly(_i2), readonly(_i8), readonly(_i8), readonly(_i8))
    return numba.void(*given, *middle, _f4[::1], _i8[::1], _i8, _i8, readonly(_i8), readonly(_i8))


@jitable
def _fill(out: Any, there: Any, step: Any, low: Any, high: Any, value: Any) -> None:
    """One value over part of a row."""
    for x in range(low, high):
        out[there + x * step] = value


@jitable
def _copy(source: Any, here: Any, step: Any, out: Any, there: Any, out_step: Any, low: Any, high: Any) -> None:
    """Part of a row; steps that are known let the compiler move many values at once."""
    if step == 1 and out_step == 1:
        for x in range(low, high):
            out[there + x] = source[here + x]
    elif step == 1 and out_step == -1:
        for x in range(low, high):
            out[there - x] = source[here + x]
    else:
        for x in range(low, high):
            out[there + x * out_step] = source[here + x * step]


@jitable
def _look_up(source: Any, here: Any, step: Any, table: Any, out: Any, there: Any, out_step: Any, low: Any, high: Any) -> None:
    """What the table makes of the classes of part of a row."""
    if step == 1 and out_step == 1:
        for x in range(low, high):
            out[there + x] = table[source[here + x] + 1]
    else:
        for x in range(low, high):
            out[there + x * out_step] = table[source[here + x * step] + 1]


@compiled(_signature(readonly(_i8)), fastmath=True)
def copy_patch(
    image: Any, classes: Any, table: Any, steps: Any, shape: Any, start: Any, out: Any, moved: Any, first: Any, first_class: Any,
    out_steps: Any, out_shape: Any,
) -> None:  # fmt: skip
    """A window as it is.

    Args:
        image: flat source.
        classes: flat source of class indices.
        table: what class index -1, 0, 1... becomes.
        steps: of the source along channels and axes.
        shape: channels and sizes of the source.
        start: the window's first voxel in the source.
        out: flat grey values to write.
        moved: flat classes to write.
        first: place of the first grey value in `out`, which is that of a corner where axes are mirrored.
        first_class: the same in `moved`.
        out_steps: of `out` along channels and axes.
        out_shape: sizes of the window.
    """
    low = min(max(0, -start[2]), out_shape[2])
    high = max(low, min(out_shape[2], shape[3] - start[2]))
    for z in range(out_shape[0]):
        for y in range(out_shape[1]):
            a, b = z + start[0], y + start[1]
            inside = 0 <= a < shape[1] and 0 <= b < shape[2]
            left, right = (low, high) if inside else (out_shape[2], out_shape[2])
            row = a * steps[1] + b * steps[2] + start[2] * steps[3]
            goal = z * out_steps[1] + y * out_steps[2]
            for c in range(shape[0]):
                here, there = row + c * steps[0], first + goal + c * out_steps[0]
                _fill(out, there, out_steps[3], 0, left, np.float32(0))
                _copy(image, here, steps[3], out, there, out_steps[3], left, right)
                _fill(out, there, out_steps[3], right, out_shape[2], np.float32(0))
            there = first_class + goal
            _fill(moved, there, out_steps[3], 0, left, table[0])
            _look_up(classes, row, steps[3], table, moved, there, out_steps[3], left, right)
            _fill(moved, there, out_steps[3], right, out_shape[2], table[0])


@jitable
def _end(place: Any, size: Any) -> Any:
    """The two voxels about a place along one axis and their weights, 0 for one beyond the case."""
    whole = np.floor(place)
    i, f = np.int64(whole), np.float32(place - whole)
    near = np.float32(1) - f if 0 <= i < size else np.float32(0)
    far = f if 0 <= i + 1 < size else np.float32(0)
    return min(max(i, 0), size - 1), min(max(i + 1, 0), size - 1), near, far


@jitable
def _linear(image: Any, base: Any, steps: Any, shape: Any, z: Any, y: Any, x: Any) -> Any:
    """A grey value between voxels, those beyond the case being 0."""
    i, k, u, v = _end(z, shape[1])
    total = np.float32(0)
    if u != 0:
        total += u * _bilinear(image, base + i * steps[1], steps, shape, y, x)
    if v != 0:
        total += v * _bilinear(image, base + k * steps[1], steps, shape, y, x)
    return total


@jitable
def _bilinear(image: Any, base: Any, steps: Any, shape: Any, y: Any, x: Any) -> Any:
    """The same within a plane."""
    i, j, p, q = _end(y, shape[2])
    k, m, r, s = _end(x, shape[3])
    near, far = base + i * steps[2], base + j * steps[2]
    one = r * image[near + k * steps[3]] + s * image[near + m * steps[3]]
    two = r * image[far + k * steps[3]] + s * image[far + m * steps[3]]
    return p * one + q * two


@jitable
def _inner(image: Any, p: Any, sy: Any, sx: Any, g: Any, h: Any) -> Any:
    """A value within a plane, all four corners of which are there."""
    near, far = image[p], image[p + sy]
    near += h * (image[p + sx] - near)
    far += h * (image[p + sy + sx] - far)
    return near + g * (far - near)


@jitable
def _nearest(classes: Any, table: Any, steps: Any, shape: Any, z: Any, y: Any, x: Any) -> Any:
    """The class of the nearest voxel, `table[0]` beyond the case."""
    i, j, k = np.int64(np.floor(z + 0.5)), np.int64(np.floor(y + 0.5)), np.int64(np.floor(x + 0.5))
    if 0 <= i < shape[1] and 0 <= j < shape[2] and 0 <= k < shape[3]:
        return table[classes[i * steps[1] + j * steps[2] + k * steps[3]] + 1]
    return table[0]


@jitable
def _stretch(begin: Any, step: Any, size: Any, low: Any, high: Any) -> Any:
    """The part of ``range(low, high)`` where ``0 <= begin + x * step < size - 1``, a hair inside."""
    least, most = _HAIR, size - 1 - _HAIR
    if abs(step) < 1e-9:
        return (low, high) if least <= begin <= most else (high, high)
    one, two = (least - begin) / step, (most - begin) / step
    first = max(float(low), np.ceil(min(one, two)))
    last = min(float(high), np.floor(max(one, two)) + 1)
    return (np.int64(first), np.int64(last)) if first < last else (high, high)


@jitable
def _fixed(value: Any) -> Any:
    """A coordinate in units of 2 ** -32 voxel: adding and splitting it is exact and quick."""
    return np.int64(np.floor(value * 4294967296.0 + 0.5))


@jitable
def _part(fixed: Any) -> Any:
    """The fraction of a coordinate."""
    return np.float32(fixed & _FRACTION) * _UNIT


@compiled(_signature(readonly(_f8, 2)), fastmath=True)
def move_volume(
    image: Any, classes: Any, table: Any, steps: Any, shape: Any, matrix: Any, out: Any, moved: Any, first: Any, first_class: Any,
    out_steps: Any, out_shape: Any,
) -> None:  # fmt: skip
    """An affinely moved window: trilinear grey values, nearest classes; `matrix` is ``(3, 4)``, output to source voxel."""
    dz, dy, dx = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    sz, sy, sx = steps[1], steps[2], steps[3]
    for v in range(out_shape[0]):
        for w in range(out_shape[1]):
            z = matrix[0, 0] * v + matrix[0, 1] * w + matrix[0, 3]
            y = matrix[1, 0] * v + matrix[1, 1] * w + matrix[1, 3]
            x = matrix[2, 0] * v + matrix[2, 1] * w + matrix[2, 3]
            left, right = _stretch(z, dz, shape[1], 0, out_shape[2])
            left, right = _stretch(y, dy, shape[2], left, right)
            left, right = _stretch(x, dx, shape[3], left, right)
            goal = v * out_steps[1] + w * out_steps[2]
            a, b, d = _fixed(z + left * dz), _fixed(y + left * dy), _fixed(x + left * dx)
            for t in range(left, right):
                f, g, h = _part(a), _part(b), _part(d)
                place = (a >> _FIXED) * sz + (b >> _FIXED) * sy + (d >> _FIXED) * sx
                for c in range(shape[0]):
                    p = place + c * steps[0]
                    near, far = _inner(image, p, sy, sx, g, h), _inner(image, p + sz, sy, sx, g, h)
                    out[first + goal + c * out_steps[0] + t * out_steps[3]] = near + f * (far - near)
                place = ((a + _HALF) >> _FIXED) * sz + ((b + _HALF) >> _FIXED) * sy + ((d + _HALF) >> _FIXED) * sx
                moved[first_class + goal + t * out_steps[3]] = table[classes[place] + 1]
                a, b, d = a + _fixed(dz), b + _fixed(dy), d + _fixed(dx)
            for t in range(out_shape[2]):
                if left <= t < right:
                    continue
                for c in range(shape[0]):
                    value = _linear(image, c * steps[0], steps, shape, z + t * dz, y + t * dy, x + t * dx)
                    out[first + goal + c * out_steps[0] + t * out_steps[3]] = value
                found = _nearest(classes, table, steps, shape, z + t * dz, y + t * dy, x + t * dx)
                moved[first_class + goal + t * out_steps[3]] = found


@compiled(_signature(readonly(_f8, 2)), fastmath=True)
def move_planes(
    image: Any, classes: Any, table: Any, steps: Any, shape: Any, matrix: Any, out: Any, moved: Any, first: Any, first_class: Any,
    out_steps: Any, out_shape: Any,
) -> None:  # fmt: skip
    """`move_volume` where the first axis stays: each plane by itself, bilinear; the first axis moves by whole voxels."""
    begin = np.int64(np.floor(matrix[0, 3] + 0.5))
    dy, dx = matrix[1, 2], matrix[2, 2]
    sy, sx = steps[2], steps[3]
    for v in range(out_shape[0]):
        plane = v + begin
        there = 0 <= plane < shape[1]
        for w in range(out_shape[1]):
            y = matrix[1, 1] * w + matrix[1, 3]
            x = matrix[2, 1] * w + matrix[2, 3]
            left, right = out_shape[2], out_shape[2]
            if there:
                left, right = _stretch(y, dy, shape[2], 0, out_shape[2])
                left, right = _stretch(x, dx, shape[3], left, right)
            goal = v * out_steps[1] + w * out_steps[2]
            b, d = _fixed(y + left * dy), _fixed(x + left * dx)
            for t in range(left, right):
                g, h = _part(b), _part(d)
                place = plane * steps[1] + (b >> _FIXED) * sy + (d >> _FIXED) * sx
                for c in range(shape[0]):
                    value = _inner(image, place + c * steps[0], sy, sx, g, h)
                    out[first + goal + c * out_steps[0] + t * out_steps[3]] = value
                place = plane * steps[1] + ((b + _HALF) >> _FIXED) * sy + ((d + _HALF) >> _FIXED) * sx
                moved[first_class + goal + t * out_steps[3]] = table[classes[place] + 1]
                b, d = b + _fixed(dy), d + _fixed(dx)
            for t in range(out_shape[2]):
                if left <= t < right:
                    continue
                for c in range(shape[0]):
                    value = np.float32(0)
                    if there:
                        value = _bilinear(image, c * steps[0] + plane * steps[1], steps, shape, y + t * dy, x + t * dx)
                    out[first + goal + c * out_steps[0] + t * out_steps[3]] = value
                found = _nearest(classes, table, steps, shape, float(plane), y + t * dy, x + t * dx)
                moved[first_class + goal + t * out_steps[3]] = found


@compiled(_signature(readonly(_f8, 2), readonly(_f4, 4)), fastmath=True)
def warp_volume(
    image: Any, classes: Any, table: Any, steps: Any, shape: Any, matrix: Any, field: Any, out: Any, moved: Any, first: Any,
    first_class: Any, out_steps: Any, out_shape: Any,
) -> None:  # fmt: skip
    """`move_volume` after each output voxel is displaced by `field` ``(3, *window)``, in voxels."""
    for v in range(out_shape[0]):
        for w in range(out_shape[1]):
            goal = v * out_steps[1] + w * out_steps[2]
            for t in range(out_shape[2]):
                p, q, r = v + field[0, v, w, t], w + field[1, v, w, t], t + field[2, v, w, t]
                z = matrix[0, 0] * p + matrix[0, 1] * q + matrix[0, 2] * r + matrix[0, 3]
                y = matrix[1, 0] * p + matrix[1, 1] * q + matrix[1, 2] * r + matrix[1, 3]
                x = matrix[2, 0] * p + matrix[2, 1] * q + matrix[2, 2] * r + matrix[2, 3]
                for c in range(shape[0]):
                    value = _linear(image, c * steps[0], steps, shape, z, y, x)
                    out[first + goal + c * out_steps[0] + t * out_steps[3]] = value
                moved[first_class + goal + t * out_steps[3]] = _nearest(classes, table, steps, shape, z, y, x)
