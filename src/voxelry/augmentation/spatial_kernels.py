"""Compiled loops that move a training patch: image and classes in one pass, whatever spatial augmentations are drawn.

A patch is ``(C, n0, n1, n2)`` float32 here, pictures with n0 = 1. Source and result are flat arrays with strides in elements
along each axis, so that any axis may come first; strides of the result are negative where it is mirrored. Beyond the source grey
values are 0 and classes `IGNORE_INDEX`. All loops run without the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, jitable, readonly

_f4, _f8, _i2, _i8 = numba.float32, numba.float64, numba.int16, numba.int64
_FIXED, _HALF, _FRACTION = np.int64(32), np.int64(2**31), np.int64(2**32 - 1)
_UNIT = np.float32(2.0**-32)
_MARGIN = 1e-4
"""Distance from the source's border in voxels within which each corner is checked before it is read."""


def _signature(*middle: Any) -> Any:
    """The types of the kernels below."""
    source = (readonly(_f4), readonly(_i2), readonly(_i8), readonly(_i8), readonly(_i8))
    return numba.void(*source, *middle, _f4[::1], _i8[::1], _i8, _i8, readonly(_i8), readonly(_i8))


@jitable
def _fill(out: Any, out_start: Any, stride: Any, low: Any, high: Any, value: Any) -> None:
    """Fill a run of a row with one value."""
    for x in range(low, high):
        out[out_start + x * stride] = value


@jitable
def _copy(source: Any, source_start: Any, stride: Any, out: Any, out_start: Any, out_stride: Any, low: Any, high: Any) -> None:
    """Copy a run of a row; strides known at compile time let the compiler move many values at once."""
    if stride == 1 and out_stride == 1:
        for x in range(low, high):
            out[out_start + x] = source[source_start + x]
    elif stride == 1 and out_stride == -1:
        for x in range(low, high):
            out[out_start - x] = source[source_start + x]
    else:
        for x in range(low, high):
            out[out_start + x * out_stride] = source[source_start + x * stride]


@jitable
def _look_up(
    source: Any, source_start: Any, stride: Any, table: Any, out: Any, out_start: Any, out_stride: Any, low: Any, high: Any
) -> None:
    """Copy a run of class indices through the table."""
    if stride == 1 and out_stride == 1:
        for x in range(low, high):
            out[out_start + x] = table[source[source_start + x] + 1]
    else:
        for x in range(low, high):
            out[out_start + x * out_stride] = table[source[source_start + x * stride] + 1]


@compiled(_signature(readonly(_i8)), fastmath=True)
def copy_patch(
    image: Any, classes: Any, table: Any, strides: Any, shape: Any, start: Any, out: Any, out_classes: Any,
    corner: Any, class_corner: Any, out_strides: Any, out_shape: Any,
) -> None:  # fmt: skip
    """Copy a patch without interpolation.

    Args:
        image: flat source.
        classes: flat source of class indices.
        table: new class index of -1, 0, 1...
        strides: strides of the source along channels and axes, in elements.
        shape: channels and sizes of the source.
        start: the patch's first voxel in the source.
        out: flat grey values to write.
        out_classes: flat classes to write.
        corner: element of `out` that the patch's first voxel has: a corner, which depends on the mirrored axes.
        class_corner: the same in `out_classes`.
        out_strides: strides of `out` along channels and axes, in elements.
        out_shape: sizes of the patch.
    """
    low = min(max(0, -start[2]), out_shape[2])
    high = max(low, min(out_shape[2], shape[3] - start[2]))
    for z in range(out_shape[0]):
        for y in range(out_shape[1]):
            a, b = z + start[0], y + start[1]
            inside = 0 <= a < shape[1] and 0 <= b < shape[2]
            left, right = (low, high) if inside else (out_shape[2], out_shape[2])
            row = a * strides[1] + b * strides[2] + start[2] * strides[3]
            row_start = z * out_strides[1] + y * out_strides[2]
            for c in range(shape[0]):
                source_start, out_start = row + c * strides[0], corner + row_start + c * out_strides[0]
                _fill(out, out_start, out_strides[3], 0, left, np.float32(0))
                _copy(image, source_start, strides[3], out, out_start, out_strides[3], left, right)
                _fill(out, out_start, out_strides[3], right, out_shape[2], np.float32(0))
            out_start = class_corner + row_start
            _fill(out_classes, out_start, out_strides[3], 0, left, table[0])
            _look_up(classes, row, strides[3], table, out_classes, out_start, out_strides[3], left, right)
            _fill(out_classes, out_start, out_strides[3], right, out_shape[2], table[0])


@jitable
def _neighbours(position: Any, size: Any) -> Any:
    """The two voxels about a position along one axis, and their weights: 0 for a voxel beyond the source."""
    whole = np.floor(position)
    i, f = np.int64(whole), np.float32(position - whole)
    near = np.float32(1) - f if 0 <= i < size else np.float32(0)
    far = f if 0 <= i + 1 < size else np.float32(0)
    return min(max(i, 0), size - 1), min(max(i + 1, 0), size - 1), near, far


@jitable
def _trilinear(image: Any, base: Any, strides: Any, shape: Any, z: Any, y: Any, x: Any) -> Any:
    """Trilinear interpolation; grey values beyond the source are 0."""
    i, k, u, v = _neighbours(z, shape[1])
    total = np.float32(0)
    if u != 0:
        total += u * _bilinear(image, base + i * strides[1], strides, shape, y, x)
    if v != 0:
        total += v * _bilinear(image, base + k * strides[1], strides, shape, y, x)
    return total


@jitable
def _bilinear(image: Any, base: Any, strides: Any, shape: Any, y: Any, x: Any) -> Any:
    """Bilinear interpolation within a plane; grey values beyond the source are 0."""
    i, j, p, q = _neighbours(y, shape[2])
    k, m, r, s = _neighbours(x, shape[3])
    near, far = base + i * strides[2], base + j * strides[2]
    near_value = r * image[near + k * strides[3]] + s * image[near + m * strides[3]]
    far_value = r * image[far + k * strides[3]] + s * image[far + m * strides[3]]
    return p * near_value + q * far_value


@jitable
def _bilinear_inside(image: Any, p: Any, sy: Any, sx: Any, g: Any, h: Any) -> Any:
    """Bilinear interpolation within a plane where all four corners are inside the source."""
    near, far = image[p], image[p + sy]
    near += h * (image[p + sx] - near)
    far += h * (image[p + sy + sx] - far)
    return near + g * (far - near)


@jitable
def _nearest(classes: Any, table: Any, strides: Any, shape: Any, z: Any, y: Any, x: Any) -> Any:
    """The class of the nearest voxel, `table[0]` beyond the source."""
    i, j, k = np.int64(np.floor(z + 0.5)), np.int64(np.floor(y + 0.5)), np.int64(np.floor(x + 0.5))
    if 0 <= i < shape[1] and 0 <= j < shape[2] and 0 <= k < shape[3]:
        return table[classes[i * strides[1] + j * strides[2] + k * strides[3]] + 1]
    return table[0]


@jitable
def _inner_run(begin: Any, step: Any, size: Any, low: Any, high: Any) -> Any:
    """The run of ``range(low, high)`` where ``0 <= begin + x * step < size - 1``, inside by `_MARGIN`."""
    least, most = _MARGIN, size - 1 - _MARGIN
    if abs(step) < 1e-9:
        return (low, high) if least <= begin <= most else (high, high)
    enter, leave = (least - begin) / step, (most - begin) / step
    first = max(float(low), np.ceil(min(enter, leave)))
    last = min(float(high), np.floor(max(enter, leave)) + 1)
    return (np.int64(first), np.int64(last)) if first < last else (high, high)


@jitable
def _fixed(value: Any) -> Any:
    """A coordinate as a fixed-point number, in units of 2 ** -32 voxel: exact and fast to add and to split."""
    return np.int64(np.floor(value * 4294967296.0 + 0.5))


@jitable
def _fraction(fixed: Any) -> Any:
    """The fraction of a fixed-point coordinate."""
    return np.float32(fixed & _FRACTION) * _UNIT


@compiled(_signature(readonly(_f8, 2)), fastmath=True)
def move_volume(
    image: Any, classes: Any, table: Any, strides: Any, shape: Any, matrix: Any, out: Any, out_classes: Any,
    corner: Any, class_corner: Any, out_strides: Any, out_shape: Any,
) -> None:  # fmt: skip
    """Move a patch by an affine map: trilinear grey values, nearest classes; `matrix` is ``(3, 4)``, patch to source voxel."""
    dz, dy, dx = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    sz, sy, sx = strides[1], strides[2], strides[3]
    for v in range(out_shape[0]):
        for w in range(out_shape[1]):
            z = matrix[0, 0] * v + matrix[0, 1] * w + matrix[0, 3]
            y = matrix[1, 0] * v + matrix[1, 1] * w + matrix[1, 3]
            x = matrix[2, 0] * v + matrix[2, 1] * w + matrix[2, 3]
            left, right = _inner_run(z, dz, shape[1], 0, out_shape[2])
            left, right = _inner_run(y, dy, shape[2], left, right)
            left, right = _inner_run(x, dx, shape[3], left, right)
            row_start = v * out_strides[1] + w * out_strides[2]
            a, b, d = _fixed(z + left * dz), _fixed(y + left * dy), _fixed(x + left * dx)
            for t in range(left, right):
                f, g, h = _fraction(a), _fraction(b), _fraction(d)
                voxel = (a >> _FIXED) * sz + (b >> _FIXED) * sy + (d >> _FIXED) * sx
                for c in range(shape[0]):
                    p = voxel + c * strides[0]
                    near, far = _bilinear_inside(image, p, sy, sx, g, h), _bilinear_inside(image, p + sz, sy, sx, g, h)
                    out[corner + row_start + c * out_strides[0] + t * out_strides[3]] = near + f * (far - near)
                voxel = ((a + _HALF) >> _FIXED) * sz + ((b + _HALF) >> _FIXED) * sy + ((d + _HALF) >> _FIXED) * sx
                out_classes[class_corner + row_start + t * out_strides[3]] = table[classes[voxel] + 1]
                a, b, d = a + _fixed(dz), b + _fixed(dy), d + _fixed(dx)
            for t in range(out_shape[2]):
                if left <= t < right:
                    continue
                for c in range(shape[0]):
                    value = _trilinear(image, c * strides[0], strides, shape, z + t * dz, y + t * dy, x + t * dx)
                    out[corner + row_start + c * out_strides[0] + t * out_strides[3]] = value
                label = _nearest(classes, table, strides, shape, z + t * dz, y + t * dy, x + t * dx)
                out_classes[class_corner + row_start + t * out_strides[3]] = label


@compiled(_signature(readonly(_f8, 2)), fastmath=True)
def move_planes(
    image: Any, classes: Any, table: Any, strides: Any, shape: Any, matrix: Any, out: Any, out_classes: Any,
    corner: Any, class_corner: Any, out_strides: Any, out_shape: Any,
) -> None:  # fmt: skip
    """`move_volume` for maps within planes: bilinear in each plane; along the first axis by whole voxels."""
    begin = np.int64(np.floor(matrix[0, 3] + 0.5))
    dy, dx = matrix[1, 2], matrix[2, 2]
    sy, sx = strides[2], strides[3]
    for v in range(out_shape[0]):
        plane = v + begin
        is_inside = 0 <= plane < shape[1]
        for w in range(out_shape[1]):
            y = matrix[1, 1] * w + matrix[1, 3]
            x = matrix[2, 1] * w + matrix[2, 3]
            left, right = out_shape[2], out_shape[2]
            if is_inside:
                left, right = _inner_run(y, dy, shape[2], 0, out_shape[2])
                left, right = _inner_run(x, dx, shape[3], left, right)
            row_start = v * out_strides[1] + w * out_strides[2]
            b, d = _fixed(y + left * dy), _fixed(x + left * dx)
            for t in range(left, right):
                g, h = _fraction(b), _fraction(d)
                voxel = plane * strides[1] + (b >> _FIXED) * sy + (d >> _FIXED) * sx
                for c in range(shape[0]):
                    value = _bilinear_inside(image, voxel + c * strides[0], sy, sx, g, h)
                    out[corner + row_start + c * out_strides[0] + t * out_strides[3]] = value
                voxel = plane * strides[1] + ((b + _HALF) >> _FIXED) * sy + ((d + _HALF) >> _FIXED) * sx
                out_classes[class_corner + row_start + t * out_strides[3]] = table[classes[voxel] + 1]
                b, d = b + _fixed(dy), d + _fixed(dx)
            for t in range(out_shape[2]):
                if left <= t < right:
                    continue
                for c in range(shape[0]):
                    value = np.float32(0)
                    if is_inside:
                        value = _bilinear(image, c * strides[0] + plane * strides[1], strides, shape, y + t * dy, x + t * dx)
                    out[corner + row_start + c * out_strides[0] + t * out_strides[3]] = value
                label = _nearest(classes, table, strides, shape, float(plane), y + t * dy, x + t * dx)
                out_classes[class_corner + row_start + t * out_strides[3]] = label


@compiled(_signature(readonly(_f8, 2), readonly(_f4, 4)), fastmath=True)
def warp_volume(
    image: Any, classes: Any, table: Any, strides: Any, shape: Any, matrix: Any, field: Any, out: Any, out_classes: Any,
    corner: Any, class_corner: Any, out_strides: Any, out_shape: Any,
) -> None:  # fmt: skip
    """`move_volume` of voxels that are first displaced by `field` ``(3, *patch)``, in voxels."""
    for v in range(out_shape[0]):
        for w in range(out_shape[1]):
            row_start = v * out_strides[1] + w * out_strides[2]
            for t in range(out_shape[2]):
                p, q, r = v + field[0, v, w, t], w + field[1, v, w, t], t + field[2, v, w, t]
                z = matrix[0, 0] * p + matrix[0, 1] * q + matrix[0, 2] * r + matrix[0, 3]
                y = matrix[1, 0] * p + matrix[1, 1] * q + matrix[1, 2] * r + matrix[1, 3]
                x = matrix[2, 0] * p + matrix[2, 1] * q + matrix[2, 2] * r + matrix[2, 3]
                for c in range(shape[0]):
                    value = _trilinear(image, c * strides[0], strides, shape, z, y, x)
                    out[corner + row_start + c * out_strides[0] + t * out_strides[3]] = value
                out_classes[class_corner + row_start + t * out_strides[3]] = _nearest(classes, table, strides, shape, z, y, x)
