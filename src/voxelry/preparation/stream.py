"""The scan as the network sees it, some slices at a time: what `Preparation.image` gives whole, without holding it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import Volume
from voxelry.preparation.interpolation import Taps, taps
from voxelry.preparation.normalise import scaling_of
from voxelry.preparation.preparation import Preparation
from voxelry.preparation.resample import LARGE_VOXELS
from voxelry.preparation.slices import DEPTH, SliceResampler


class Slabs(Protocol):
    """A prepared scan whose slices along one axis are asked for in order."""

    def slab(self, first: int, last: int) -> NDArray[np.float32]:
        """Slices `first` to `last`, ``(C, *spatial)`` in the network's order; valid until the next call."""


class HeldSlabs:
    """A prepared scan that is held whole.

    Args:
        image_C: ``(C, *spatial)``.
        axis: along which its slices are asked for.
    """

    def __init__(self, image_C: NDArray[np.float32], axis: int) -> None:
        self._image, self._axis = image_C, axis

    def slab(self, first: int, last: int) -> NDArray[np.float32]:
        """A view of slices `first` to `last`."""
        return self._image[(slice(None),) * (self._axis + 1) + (slice(first, last),)]


class StreamedSlabs:
    """A prepared scan whose slices are made when they are asked for; the last `depth` of them are kept.

    Schemes that scale by the image's own mean and deviation cost a first pass. Slices are made in order; asking for an earlier
    one starts anew. Not for several threads at once; the work itself is done by the shared pool.

    Args:
        preparation: how the scan is prepared, in three dimensions.
        volume: the scan.
        axis: along which slices are asked for.
        depth: of them at a time, at most.
    """

    def __init__(self, preparation: Preparation, volume: Volume, axis: int, depth: int) -> None:
        order, operators = _streamed(preparation, axis)
        box = preparation.box(volume.array)
        self._channels = [SliceResampler(array.transpose(order), operators) for array in box]
        made = self._channels[0].axes
        order = tuple(order[one] for one in made)
        self._size, *plane = (preparation.shape[one] for one in order)
        self._turned_back = (0, *(one + 1 for one in np.argsort(order)))
        self._made = made
        self._kept = np.empty((len(box), min(depth, self._size), *plane), np.float32)
        self._first, self._last = 0, 0
        schemes = preparation.plan.normalisation
        inside = preparation.inside(volume)
        self._inside = [inside.transpose(order) if inside is not None and one.scheme == "mask" else None for one in schemes]
        self._scalings = [scaling_of(one, self._raw(channel)) for channel, one in enumerate(schemes)]

    @staticmethod
    def needed(preparation: Preparation, channels: int, itemsize: int, axis: int, depth: int) -> int:
        """Bytes held meanwhile.

        Args:
            preparation: of a scan.
            channels: C.
            itemsize: bytes of its voxels.
            axis: along which slices are asked for.
            depth: of them at a time.
        """
        order, operators = _streamed(preparation, axis)
        kept = 4 * math.prod(preparation.shape) // preparation.shape[axis] * min(depth, preparation.shape[axis])
        by_mask = any(one.scheme == "mask" for one in preparation.plan.normalisation)
        work = SliceResampler.needed([preparation.extent[one] for one in order], operators, itemsize)
        return channels * (kept + work) + by_mask * math.prod(preparation.shape)

    def slab(self, first: int, last: int) -> NDArray[np.float32]:
        """Slices `first` to `last`, at most `depth`: a view, valid until the next call."""
        if not self._first <= first <= self._last:
            self._first = self._last = first
        if last > self._last:
            for here, old in enumerate(range(first, self._last)):
                self._kept[:, here] = self._kept[:, old - self._first]
            self._make(self._last, last, self._kept[:, self._last - first : last - first])
            self._first, self._last = first, last
        view = self._kept[:, first - self._first : last - self._first]
        return view.transpose(self._turned_back)

    def _make(self, first: int, last: int, out_C: NDArray[np.float32]) -> None:
        """New slices of all channels, scaled."""
        for channel, scaling in enumerate(self._scalings):
            self._fill(channel, first, last, out_C[channel])
            scaling.apply(out_C[channel].reshape(-1), self._content(channel, first, last))

    def _fill(self, channel: int, first: int, last: int, out: NDArray[np.float32]) -> None:
        self._channels[channel].fill(first, last, out.transpose(self._made))  # the order of making is its own inverse

    def _content(self, channel: int, first: int, last: int) -> NDArray[np.bool_] | None:
        inside = self._inside[channel]
        return None if inside is None else inside[first:last].reshape(-1)

    def _raw(self, channel: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]:
        """A channel's grey values before they are scaled, and where they are content."""
        step = min(DEPTH, self._kept.shape[1])
        for first in range(0, self._size, step):
            last = min(first + step, self._size)
            part = self._kept[channel, : last - first]
            self._fill(channel, first, last, part)
            yield part.reshape(-1), self._content(channel, first, last)


def prepared_slabs(preparation: Preparation, volume: Volume, axis: int, depth: int) -> Slabs:
    """The scan as the network sees it, to be asked for in order; pictures and small scans are simply held.

    Args:
        preparation: of the scan.
        volume: the scan.
        axis: of the network's grid, along which slices are asked for.
        depth: slices at a time, at most.
    """
    if _is_held(preparation):
        return HeldSlabs(preparation.image(volume), axis)
    return StreamedSlabs(preparation, volume, axis, depth)


def slabs_bytes(preparation: Preparation, channels: int, itemsize: int, axis: int, depth: int) -> int:
    """Bytes that `prepared_slabs` holds; see `StreamedSlabs.needed`."""
    if _is_held(preparation):
        return 4 * channels * math.prod(preparation.shape)
    return StreamedSlabs.needed(preparation, channels, itemsize, axis, depth)


def _is_held(preparation: Preparation) -> bool:
    return len(preparation.shape) == 2 or max(math.prod(preparation.extent), math.prod(preparation.shape)) < LARGE_VOXELS


def _streamed(preparation: Preparation, axis: int) -> tuple[tuple[int, ...], list[Taps]]:
    """The network's axes with `axis` first, and their operators."""
    order = (axis, *(one for one in range(len(preparation.shape)) if one != axis))
    orders = preparation.plan.image_orders
    return order, [taps(preparation.extent[one], preparation.shape[one], orders[one]) for one in order]
