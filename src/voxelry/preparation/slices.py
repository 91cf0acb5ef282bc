"""A large image resampled some slices at a time, so that neither it nor its result need be held in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.threads import THREADS, run_slabs
from voxelry.preparation.interpolation import Taps

DEPTH = 16
"""New slices added up at once: a cache line, where the result's fastest axis in memory is the one across."""


class SliceResampler:
    """One channel, resampled along all three axes, whose new slices are asked for in order.

    Slices of the input are resampled within themselves and kept, as many as `DEPTH` new slices need; new slices are sums across
    them, clipped to the input's own range. Both run on the shared pool. Asking again for what has passed starts anew.

    Args:
        array: ``(S, n1, n2)`` of any number type and memory order; new slices come along S.
        operators: of its axes.
    """

    def __init__(self, array: NDArray[Any], operators: Sequence[Taps]) -> None:
        strides = [abs(stride) for stride in array.strides]
        self.axes = (0, 2, 1) if strides[1] >= strides[2] else (0, 1, 2)
        """Axes of `array` in the order in which new slices are made: C-contiguous in it they are written without a detour."""
        along, down = self.axes[1:]
        self._array = array.transpose(0, down, along)
        self._across, self._down, self._along = operators[0], operators[down], operators[along]
        self._columns, self._rows = len(self._along.start), len(self._down.start)
        self._stays = all(
            len(one.start) == n and one.weights.shape[1] == 1 for one, n in zip(operators, array.shape, strict=True)
        )
        self._limits = None if self._stays else _limits(array)
        self._ends = self._across.start + self._across.weights.shape[1]
        self._gathers = array.shape[0] > 1 and strides[0] < min(strides[1:])  # else slices are read as they lie
        self._depth = _held(self._across)
        self._ring = np.empty((0, 0), np.float32)
        self._low, self._ready = 0, 0

    @staticmethod
    def needed(shape: Sequence[int], operators: Sequence[Taps], itemsize: int) -> int:
        """Bytes held meanwhile, an upper bound.

        Args:
            shape: of the array.
            operators: of its axes.
            itemsize: bytes of a voxel.
        """
        new = len(operators[1].start) * len(operators[2].start)
        depth = _held(operators[0])
        scratch = 4 * (shape[1] * shape[2] + (shape[1] + shape[2]) * max(len(one.start) for one in operators[1:]))
        return 4 * new * depth + itemsize * shape[1] * shape[2] * DEPTH + scratch * THREADS + 4 * new * DEPTH

    def fill(self, first: int, last: int, out: NDArray[np.float32]) -> None:
        """New slices `first` to `last`.

        Args:
            first: not below that of the call before, or the work starts anew.
            last: behind the last.
            out: ``(last - first, m1, m2)`` float32, written to.
        """
        if self._stays:
            given, turned = self._array[first:last], out.transpose(0, *reversed(self.axes[1:]))
            run_slabs(lambda low, high: _copy_rows(given, turned, low, high), given.shape[1])
            return
        if not self._ring.size:
            self._ring = np.empty((self._depth, self._columns * self._rows), np.float32)
        turned = out.transpose(self.axes)
        for begin in range(first, last, DEPTH):
            stop = min(begin + DEPTH, last)
            self._keep(int(self._across.start[begin]), int(self._ends[stop - 1]))
            self._add_up(begin, stop, turned[begin - first : stop - first])

    def _keep(self, low: int, high: int) -> None:
        """Have the input's slices `low` to `high`, resampled within themselves, in the ring."""
        first = max(low, self._ready) if low >= self._low else low
        self._low, self._ready = low, high
        for begin in range(first, high, DEPTH):
            self._flatten(begin, min(begin + DEPTH, high))

    def _flatten(self, first: int, last: int) -> None:
        """Resample slices `first` to `last` of the input within themselves."""
        from voxelry.preparation.resample_kernels import sum_rows, transpose

        n1, n2 = self._array.shape[1:]
        given = self._gathered(first, last) if self._gathers else self._array[first:last]

        def work(begin: int, stop: int) -> None:
            plane, half = np.empty((n1, n2), np.float32), np.empty((self._rows, n2), np.float32)
            turned = np.empty((n2, self._rows), np.float32)
            for index in range(begin, stop):
                np.copyto(plane, given[index], casting="unsafe")
                sum_rows(plane, *self._down, 0, n2, half)
                transpose(half, turned)
                place = self._ring[(first + index) % self._depth].reshape(self._columns, self._rows)
                sum_rows(turned, *self._along, 0, self._rows, place)

        run_slabs(work, last - first)

    def _gathered(self, first: int, last: int) -> NDArray[Any]:
        """The input's slices one behind the other; they lie side by side in memory, so a row of all is read at once."""
        given = np.empty((last - first, *self._array.shape[1:]), self._array.dtype)
        run_slabs(lambda begin, stop: _copy_rows(self._array[first:last], given, begin, stop), given.shape[1])
        return given

    def _add_up(self, begin: int, stop: int, turned: NDArray[np.float32]) -> None:
        """Sums across the slices kept, ``(stop - begin, columns, rows)``."""
        from voxelry.preparation.resample_kernels import sum_rows

        direct = turned if turned.flags.c_contiguous else np.empty(turned.shape, np.float32)
        flat = direct.reshape(len(direct), -1)
        start, weights = self._across.start[begin:stop], self._across.weights[begin:stop]
        limits = self._limits
        assert limits is not None

        def work(left: int, right: int) -> None:
            low, high = left * self._rows, right * self._rows
            sum_rows(self._ring, start, weights, low, high, flat)
            np.clip(flat[:, low:high], *limits, out=flat[:, low:high])
            if direct is not turned:
                turned[:, left:right] = direct[:, left:right]

        run_slabs(work, self._columns)


def _copy_rows(given: NDArray[Any], out: NDArray[Any], first: int, last: int) -> None:
    """Row by row, ``given[:, row]``, whatever lies side by side in memory."""
    for row in range(first, last):
        out[:, row] = given[:, row]


def _held(across: Taps) -> int:
    """The input's slices that `DEPTH` new ones are added up from, at most."""
    last = np.minimum(np.arange(len(across.start)) + DEPTH, len(across.start)) - 1
    deepest = np.max(across.start[last] - across.start)
    return int(deepest) + int(across.weights.shape[1])


def _limits(array: NDArray[Any]) -> tuple[np.float32, np.float32]:
    """The smallest and the largest value, sought on the pool along the axis that is slowest in memory."""
    array = np.moveaxis(array, max(range(array.ndim), key=lambda axis: abs(array.strides[axis])), 0)
    found: list[tuple[Any, Any]] = []
    run_slabs(lambda first, last: found.append((array[first:last].min(), array[first:last].max())), len(array))
    return np.float32(min(low for low, _ in found)), np.float32(max(high for _, high in found))
