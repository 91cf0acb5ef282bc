"""Streams a prepared scan slice by slice: the image of `Preparation.image`, without holding it whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from voxelry.base.memory import Footprint
from voxelry.core.volume import Volume
from voxelry.preparation.interpolation import ResamplingOperator, resampling_operator
from voxelry.preparation.normalisation import Scaling, scaling_of
from voxelry.preparation.preparation import Preparation
from voxelry.preparation.resampling import LARGE_VOXELS
from voxelry.preparation.slice_resampler import DEPTH, SliceResampler


class SliceStream(Protocol):
    """A prepared scan whose slices along one axis are requested in order."""

    def slices(self, first: int, last: int) -> NDArray[np.float32]:
        """Slices `first` to `last`, ``(C, *spatial)`` in the network's order; valid until the next call."""


class InMemorySlices:
    """A prepared scan that is held in memory.

    Args:
        image_C: ``(C, *spatial)``.
        axis: axis along which slices are requested.
    """

    def __init__(self, image_C: NDArray[np.float32], axis: int) -> None:
        self._image, self._axis = image_C, axis

    def slices(self, first: int, last: int) -> NDArray[np.float32]:
        """A view of slices `first` to `last`."""
        return self._image[(slice(None),) * (self._axis + 1) + (slice(first, last),)]


class StreamedSlices:
    """A prepared scan whose slices are computed when they are requested; the last `depth` of them are kept.

    Schemes that normalise by the image's own mean and deviation cost a first pass. Slices are computed in order; requesting an
    earlier one starts over. Not thread-safe; the work itself is done by the shared pool.

    Args:
        preparation: how the scan is prepared, in three dimensions.
        volume: the scan.
        axis: axis along which slices are requested.
        depth: most slices of one request.
    """

    def __init__(self, preparation: Preparation, volume: Volume, axis: int, depth: int) -> None:
        order, operators = _operators(preparation, axis)
        box = [array.transpose(order) for array in preparation.box(volume.array)]
        schemes = preparation.plan.normalisation
        inside, first = preparation.inside(volume), preparation.normalises_first
        masks = [inside if each.scheme == "mask" else None for each in schemes]
        if first:
            sources = zip(box, schemes, [None if mask is None else mask.transpose(order) for mask in masks], strict=True)
            self._channels = [SliceResampler(a, operators, scaling_of(scheme, _slices(a, m)), m) for a, scheme, m in sources]
        else:
            self._channels = [SliceResampler(array, operators) for array in box]
        self._computed_axes = self._channels[0].axes
        order = tuple(order[axis] for axis in self._computed_axes)
        self._size, *plane = (preparation.shape[axis] for axis in order)
        self._network_axes = (0, *(axis + 1 for axis in np.argsort(order)))
        self._kept = np.empty((len(box), min(depth, self._size), *plane), np.float32)
        self._first, self._last = 0, 0
        self._inside = [None if mask is None or first else mask.transpose(order) for mask in masks]
        self._scalings: list[Scaling] = []
        if not first:
            self._scalings = [scaling_of(scheme, self._raw(channel)) for channel, scheme in enumerate(schemes)]

    @staticmethod
    def footprint(preparation: Preparation, channels: int, itemsize: int, axis: int, depth: int) -> Footprint:
        """Memory that the stream holds.

        Args:
            preparation: preparation of a scan.
            channels: C.
            itemsize: bytes of its voxels.
            axis: axis along which slices are requested.
            depth: most slices of one request.
        """
        order, operators = _operators(preparation, axis)
        slices = 4 * math.prod(preparation.shape) // preparation.shape[axis] * min(depth, preparation.shape[axis])
        by_mask = any(scheme.scheme == "mask" for scheme in preparation.plan.normalisation)
        resampler = SliceResampler.footprint([preparation.extent[other] for other in order], operators, itemsize)
        masked = preparation.extent if preparation.normalises_first else preparation.shape
        mask = Footprint({"content mask": by_mask * math.prod(masked)})
        return (Footprint({"prepared slices": slices}) + resampler) * channels + mask

    def slices(self, first: int, last: int) -> NDArray[np.float32]:
        """Slices `first` to `last`, at most `depth`: a view, valid until the next call."""
        if not self._first <= first <= self._last:
            self._first = self._last = first
        if last > self._last:
            for index, old in enumerate(range(first, self._last)):
                self._kept[:, index] = self._kept[:, old - self._first]
            self._compute(self._last, last, self._kept[:, self._last - first : last - first])
            self._first, self._last = first, last
        view = self._kept[:, first - self._first : last - self._first]
        return view.transpose(self._network_axes)

    def _compute(self, first: int, last: int, out_C: NDArray[np.float32]) -> None:
        """New slices of all channels, normalised."""
        for channel, out in enumerate(out_C):
            self._fill(channel, first, last, out)
        for channel, scaling in enumerate(self._scalings):
            scaling.apply(out_C[channel].reshape(-1), self._content(channel, first, last))

    def _fill(self, channel: int, first: int, last: int, out: NDArray[np.float32]) -> None:
        self._channels[channel].fill(first, last, out.transpose(self._computed_axes))  # this order is its own inverse

    def _content(self, channel: int, first: int, last: int) -> NDArray[np.bool_] | None:
        inside = self._inside[channel]
        return None if inside is None else inside[first:last].reshape(-1)

    def _raw(self, channel: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]:
        """A channel's grey values before they are normalised, and their content mask, in chunks."""
        step = min(DEPTH, self._kept.shape[1])
        for first in range(0, self._size, step):
            last = min(first + step, self._size)
            chunk = self._kept[channel, : last - first]
            self._fill(channel, first, last, chunk)
            yield chunk.reshape(-1), self._content(channel, first, last)


def open_slice_stream(preparation: Preparation, volume: Volume, axis: int, depth: int) -> SliceStream:
    """The scan as the network sees it, in slices; pictures and small scans are held in memory.

    Args:
        preparation: preparation of the scan.
        volume: the scan.
        axis: axis of the network's grid, along which slices are requested.
        depth: most slices of one request.
    """
    if _fits_in_memory(preparation):
        return InMemorySlices(preparation.image(volume), axis)
    return StreamedSlices(preparation, volume, axis, depth)


def slice_stream_footprint(preparation: Preparation, channels: int, itemsize: int, axis: int, depth: int) -> Footprint:
    """Memory that `open_slice_stream` holds; see `StreamedSlices.footprint`."""
    if _fits_in_memory(preparation):
        return Footprint({"prepared scan": 4 * channels * math.prod(preparation.shape)})
    return StreamedSlices.footprint(preparation, channels, itemsize, axis, depth)


def _slices(
    array: NDArray[Any], inside: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]:
    """Grey values of an image before it is resampled, and their content mask, slice by slice."""
    for index, plane in enumerate(array):
        yield plane.astype(np.float32).reshape(-1), None if inside is None else inside[index].reshape(-1)


def _fits_in_memory(preparation: Preparation) -> bool:
    return len(preparation.shape) == 2 or max(math.prod(preparation.extent), math.prod(preparation.shape)) < LARGE_VOXELS


def _operators(preparation: Preparation, axis: int) -> tuple[tuple[int, ...], list[ResamplingOperator]]:
    """The network's axes with `axis` first, and their operators."""
    order = (axis, *(other for other in range(len(preparation.shape)) if other != axis))
    splines = preparation.image_orders
    return order, [resampling_operator(preparation.extent[each], preparation.shape[each], splines[each]) for each in order]
