"""Resamples planes linearly onto an evenly spaced, upright grid, plane by plane, with the result and a few planes in memory.

Every plane is parallel to the slices of the grid. A slice is one plane, or the weighted mean of the two planes next to it, pixel
by pixel; it is moved within its plane where planes are displaced. A grey value that is a linear function of the position is
reproduced exactly. Voxels that no plane covers get the lowest value of the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.formats.dicom.header import DicomHeader

PlaneDecoder = Callable[[Sequence[DicomHeader]], NDArray[Any]]
"""Decodes planes of one size to grey values ``(planes, rows, columns)``, int16 or float32."""

PLANES_AT_ONCE = 8
"""Planes decoded together: enough for a pool of threads, few compared with a scan."""

_WHOLE_PIXEL = 1e-4
_PADDING = np.int16(10_000)


@dataclass(frozen=True, eq=False)
class SliceResampling:
    """A mapping from planes to slices.

    Attributes:
        planes: the planes to decode, in slice order.
        levels: ``(planes,)`` slice index of each plane, ascending from 0; fractions lie between slices.
        shifts: ``(planes, 2)`` position of each plane's first pixel on the slice: rows and columns, not negative.
        shape: ``(slices, rows, columns)`` of the result.
    """

    planes: tuple[DicomHeader, ...]
    levels: NDArray[np.float64]
    shifts: NDArray[np.float64]
    shape: tuple[int, int, int]

    def neighbours(self, level: int) -> tuple[int, float]:
        """The plane at or below a slice, and the weight (0 to 1) of the plane above it."""
        below = int(np.searchsorted(self.levels, level, side="right")) - 1
        if self.levels[below] == level:
            return below, 0.0
        gap = self.levels[below + 1] - self.levels[below]
        return below, float((level - self.levels[below]) / gap)

    def shift(self, level: int) -> NDArray[np.float64]:
        """Rows and columns by which a slice is moved: the shift of its plane, or interpolated from the two planes next to it."""
        below, weight = self.neighbours(level)
        above = below + 1 if weight else below
        return round_to_pixels((1 - weight) * self.shifts[below] + weight * self.shifts[above])

    @property
    def slices(self) -> tuple[DicomHeader | None, ...]:
        """The plane that each slice holds unchanged; None for a slice that is interpolated, moved or padded."""
        return tuple(self._unchanged(level) for level in range(self.shape[0]))

    def _unchanged(self, level: int) -> DicomHeader | None:
        below, weight = self.neighbours(level)
        plane = self.planes[below]
        same = weight == 0 and self.shape[1:] == (plane.rows, plane.columns) and not self.shifts[below].any()
        return plane if same else None


def resample_planes(plan: SliceResampling, decode: PlaneDecoder) -> NDArray[Any]:
    """Decode and resample planes.

    Args:
        plan: the mapping from planes to slices.
        decode: decodes planes to grey values.

    Returns:
        ``(slices, rows, columns)``: int16 where all planes are, interpolated values rounded; else float32.

    Raises:
        ReadError: a plane cannot be decoded.
    """
    result: NDArray[Any] = np.empty(plan.shape, dtype=np.int16)
    below: NDArray[Any] | None = None
    level, lowest = 0, np.inf
    for index, plane in _decoded(plan.planes, decode):
        lowest = min(lowest, float(plane.min()))
        if plane.dtype != np.int16 and result.dtype == np.int16:
            result = result.astype(np.float32)
        while level < plan.shape[0] and level <= plan.levels[index]:
            _fill(result[level], plan, level, index, below, plane)
            level += 1
        below = plane
    for level in range(plan.shape[0]):
        _pad(result[level], plan, level, lowest)
    return result


def resample_outside(plan: SliceResampling, decode: Callable[[Sequence[DicomHeader]], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Find the voxels of a resampled scan that hold no measured value.

    Args:
        plan: the mapping from planes to slices.
        decode: decodes planes to a mask of their padding, ``(planes, rows, columns)``.

    Returns:
        ``(slices, rows, columns)``: True where no plane covers the voxel, or padding contributes to its value.
    """
    outside = resample_planes(plan, lambda planes: decode(planes).astype(np.int16) * _PADDING) > 0
    for level in range(plan.shape[0]):
        _pad(outside[level], plan, level, True)
    return outside


def _decoded(planes: Sequence[DicomHeader], decode: PlaneDecoder) -> Iterator[tuple[int, NDArray[Any]]]:
    """Plane by plane. Padding gets the lowest value of the planes decoded together: the darkest plane is always one."""
    darkest = []
    if len(planes) > PLANES_AT_ONCE and any(plane.padding[0] is not None for plane in planes):
        darkest = [min(planes, key=lambda plane: float(decode([plane]).min()))]
    for first in range(0, len(planes), PLANES_AT_ONCE):
        batch = planes[first : first + PLANES_AT_ONCE]
        block = decode([*batch, *darkest])[: len(batch)]
        yield from enumerate(block if block.dtype == np.int16 else block.astype(np.float32, copy=False), first)


def _fill(
    target: NDArray[Any], plan: SliceResampling, level: int, index: int, below: NDArray[Any] | None, plane: NDArray[Any]
) -> None:
    """Fill one slice, at or below plane `index`, from that plane, or from it and the plane before."""
    if plan.levels[index] != level:
        assert below is not None
        _, weight = plan.neighbours(level)
        plane = below + np.float32(weight) * (plane.astype(np.float32) - below)
    _store(target, _moved(plane, plan.shift(level), target.shape))


def _store(target: NDArray[Any], values: NDArray[np.float32]) -> None:
    if target.dtype == np.int16:
        values = np.rint(np.nan_to_num(values))
    target[...] = values


def _moved(plane: NDArray[Any], shift: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float32]:
    """A plane moved by any number of pixels, fractions included, onto a canvas of NaN."""
    values = plane.astype(np.float32)
    if values.shape == tuple(shape):
        return values
    begin = []
    for axis, amount in enumerate(shift):
        first = int(np.ceil(amount))
        back = first - amount
        if back:
            size = values.shape[axis]
            low, high = (np.take(values, range(start, size - 1 + start), axis=axis) for start in (0, 1))
            values = low + np.float32(back) * (high - low)
        begin.append(first)
    canvas = np.full(shape, np.nan, dtype=np.float32)
    canvas[begin[0] : begin[0] + values.shape[0], begin[1] : begin[1] + values.shape[1]] = values
    return canvas


def _pad(target: NDArray[Any], plan: SliceResampling, level: int, value: float) -> None:
    """Set the pixels of a slice that no plane covers to one value."""
    size = (plan.planes[0].rows, plan.planes[0].columns)
    rows, columns = (
        slice(int(np.ceil(at)), int(np.floor(at)) + length) for at, length in zip(plan.shift(level), size, strict=True)
    )
    empty = np.ones(target.shape, dtype=bool)
    empty[rows, columns] = False
    target[empty] = value


def round_to_pixels(shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shifts in pixels, rounded where they are nearly integers, so that such planes are copied exactly."""
    whole = np.rint(shifts)
    return np.where(np.abs(shifts - whole) < _WHOLE_PIXEL, whole, shifts)
