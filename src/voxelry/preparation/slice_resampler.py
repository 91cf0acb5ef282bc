"""Resamples a large image some slices at a time, so that neither it nor the result is held whole in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.memory import Footprint
from voxelry.base.threads import THREADS, run_slabs
from voxelry.preparation.interpolation import ResamplingOperator
from voxelry.preparation.normalisation import Scaling

DEPTH = 16
"""New slices summed at a time: a cache line, where the result's fastest axis in memory is the one across."""


class SliceResampler:
    """Resamples one channel along all three axes; its new slices are requested in order.

    Input slices are resampled in their plane and kept in a ring buffer, as many as `DEPTH` new slices need; new slices are sums
    across them, clipped to the input's own range. Both run on the shared pool. Requesting an earlier slice starts over.

    Args:
        array: ``(S, n1, n2)`` of any number type and memory order; new slices come along S.
        operators: operators of its axes.
        scaling: of the input's values, before they are resampled; None resamples them as they are.
        inside: ``(S, n1, n2)`` bool, the content, outside which scaled values are 0.
    """

    def __init__(
        self,
        array: NDArray[Any],
        operators: Sequence[ResamplingOperator],
        scaling: Scaling | None = None,
        inside: NDArray[np.bool_] | None = None,
    ) -> None:
        strides = [abs(stride) for stride in array.strides]
        self.axes = (0, 2, 1) if strides[1] >= strides[2] else (0, 1, 2)
        """Axes of `array` in the order in which new slices are computed; results C-contiguous in it need no copy."""
        along, down = self.axes[1:]
        self._array = array.transpose(0, down, along)
        self._across, self._down, self._along = operators[0], operators[down], operators[along]
        self._columns, self._rows = len(self._along.start), len(self._down.start)
        self._stays = all(
            len(operator.start) == n and operator.weights.shape[1] == 1
            for operator, n in zip(operators, array.shape, strict=True)
        )
        self._scaling, self._inside = scaling, None if inside is None else inside.transpose(0, down, along)
        self._limits = None if self._stays else _limits(array) if scaling is None else _scaled_limits(array, scaling, inside)
        self._ends = self._across.start + self._across.weights.shape[1]
        self._gathers = array.shape[0] > 1 and strides[0] < min(strides[1:])  # else slices are read one by one
        self._depth = _ring_depth(self._across)
        self._ring = np.empty((0, 0), np.float32)
        self._low, self._ready = 0, 0

    @staticmethod
    def footprint(shape: Sequence[int], operators: Sequence[ResamplingOperator], itemsize: int) -> Footprint:
        """Memory of one channel's resampler, an upper bound.

        Args:
            shape: shape of the array.
            operators: operators of its axes.
            itemsize: bytes of a voxel.
        """
        new = len(operators[1].start) * len(operators[2].start)
        depth = _ring_depth(operators[0])
        scratch = 4 * (shape[1] * shape[2] + (shape[1] + shape[2]) * max(len(operator.start) for operator in operators[1:]))
        return Footprint(
            {
                "resampled input slices": 4 * new * depth,
                "input slices": itemsize * shape[1] * shape[2] * DEPTH,
                "planes of each thread": scratch * THREADS,
                "new slices": 4 * new * DEPTH,
            }
        )

    def fill(self, first: int, last: int, out: NDArray[np.float32]) -> None:
        """New slices `first` to `last`.

        Args:
            first: not below that of the previous call, or the work starts over.
            last: behind the last new slice.
            out: ``(last - first, m1, m2)`` float32, written to.
        """
        if self._stays:
            source, target = self._array[first:last], out.transpose(0, *reversed(self.axes[1:]))
            run_slabs(lambda low, high: _copy_rows(source, target, low, high), source.shape[1])
            if self._scaling is not None:
                run_slabs(lambda low, high: self._scale_slices(target, first, low, high), len(target))
            return
        if not self._ring.size:
            self._ring = np.empty((self._depth, self._columns * self._rows), np.float32)
        turned = out.transpose(self.axes)
        for begin in range(first, last, DEPTH):
            stop = min(begin + DEPTH, last)
            self._keep(int(self._across.start[begin]), int(self._ends[stop - 1]))
            self._add_up(begin, stop, turned[begin - first : stop - first])

    def _keep(self, low: int, high: int) -> None:
        """Put the input's slices `low` to `high`, resampled in their plane, into the ring buffer."""
        first = max(low, self._ready) if low >= self._low else low
        self._low, self._ready = low, high
        for begin in range(first, high, DEPTH):
            self._flatten(begin, min(begin + DEPTH, high))

    def _flatten(self, first: int, last: int) -> None:
        """Resample slices `first` to `last` of the input in their plane."""
        from voxelry.preparation.resampling_kernels import sum_rows, transpose

        n1, n2 = self._array.shape[1:]
        source = self._gathered(first, last) if self._gathers else self._array[first:last]

        def work(begin: int, stop: int) -> None:
            plane, half = np.empty((n1, n2), np.float32), np.empty((self._rows, n2), np.float32)
            turned = np.empty((n2, self._rows), np.float32)
            for index in range(begin, stop):
                np.copyto(plane, source[index], casting="unsafe")
                self._scale(plane, first + index)
                sum_rows(plane, *self._down, 0, n2, half)
                transpose(half, turned)
                slot = self._ring[(first + index) % self._depth].reshape(self._columns, self._rows)
                sum_rows(turned, *self._along, 0, self._rows, slot)

        run_slabs(work, last - first)

    def _scale(self, plane: NDArray[np.float32], index: int) -> None:
        """Scale the values of an input slice, C-contiguous, in place."""
        if self._scaling is not None:
            inside = None if self._inside is None else np.ascontiguousarray(self._inside[index]).reshape(-1)
            self._scaling.apply(plane.reshape(-1), inside)

    def _scale_slices(self, slices: NDArray[np.float32], first: int, low: int, high: int) -> None:
        """Scale slices `low` to `high` of those that begin at input slice `first`, in place."""
        for index in range(low, high):
            plane = np.array(slices[index], order="C")
            self._scale(plane, first + index)
            slices[index] = plane

    def _gathered(self, first: int, last: int) -> NDArray[Any]:
        """A copy of input slices that are interleaved in memory, read a row of all slices at a time."""
        copy = np.empty((last - first, *self._array.shape[1:]), self._array.dtype)
        run_slabs(lambda begin, stop: _copy_rows(self._array[first:last], copy, begin, stop), copy.shape[1])
        return copy

    def _add_up(self, begin: int, stop: int, turned: NDArray[np.float32]) -> None:
        """Sums across the slices in the ring buffer, ``(stop - begin, columns, rows)``."""
        from voxelry.preparation.resampling_kernels import sum_rows

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


def _copy_rows(source: NDArray[Any], out: NDArray[Any], first: int, last: int) -> None:
    """Copy rows `first` to `last` of all slices."""
    for row in range(first, last):
        out[:, row] = source[:, row]


def _ring_depth(across: ResamplingOperator) -> int:
    """The largest number of input slices that `DEPTH` new ones are sums of."""
    last = np.minimum(np.arange(len(across.start)) + DEPTH, len(across.start)) - 1
    deepest = np.max(across.start[last] - across.start)
    return int(deepest) + int(across.weights.shape[1])


def _limits(array: NDArray[Any]) -> tuple[np.float32, np.float32]:
    """The smallest and the largest value, searched on the pool along the axis that is slowest in memory."""
    array = np.moveaxis(array, max(range(array.ndim), key=lambda axis: abs(array.strides[axis])), 0)
    extremes: list[tuple[Any, Any]] = []
    run_slabs(lambda first, last: extremes.append((array[first:last].min(), array[first:last].max())), len(array))
    return np.float32(min(low for low, _ in extremes)), np.float32(max(high for _, high in extremes))


def _scaled_limits(array: NDArray[Any], scaling: Scaling, inside: NDArray[np.bool_] | None) -> tuple[np.float32, np.float32]:
    """The smallest and the largest scaled value, 0 included where some lie outside the content."""
    if inside is None:
        low, high = _limits(array)
    else:
        chosen = [plane[mask] for plane, mask in zip(array, inside, strict=True)]
        filled = [values for values in chosen if values.size]
        if not filled:
            return np.float32(0), np.float32(0)
        low, high = min(np.float32(each.min()) for each in filled), max(np.float32(each.max()) for each in filled)
    values = np.array([low, high], np.float32)
    scaling.apply(values)
    outside = inside is not None and not inside.all()
    return (min(values[0], np.float32(0)), max(values[1], np.float32(0))) if outside else (values[0], values[1])
