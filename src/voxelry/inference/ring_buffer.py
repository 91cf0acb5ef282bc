"""Ring buffer of the inference engine: weighted sums of overlapping patches, for the slices that are not finished yet.

`HostRingBuffer` works with compiled loops, `DeviceRingBuffer` (`ring_buffer_torch`) with torch operations on a GPU. Both give the
same labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from voxelry.base.threads import run_slabs
from voxelry.inference import blending_kernels, head_kernels, multi_plan_kernels, region_kernels
from voxelry.inference.blending_kernels import CLASSES, LAYER, REGIONS
from voxelry.inference.half import LARGEST_HALF
from voxelry.inference.linear_interpolation import Interp3d, SlabInterp
from voxelry.inference.patches import Start, summable
from voxelry.networks.classes import class_spans

LIMIT = 0.9 * LARGEST_HALF
"""Logits are clipped to plus and minus this, so that sums and means of half floats stay finite (weights sum to at most 1)."""

_WEIGHT_BYTES, _WINNER_BYTES = 4, 4

LEVEL_BYTES = 1
"""Of an instance head the distance leaves a ring buffer, as a level of so many bytes."""


def ring_bytes(channels: int, shape: Start, half: bool, layers: int = 1) -> int:
    """Bytes of a ring buffer: sums of all channels, weights and winners.

    Args:
        channels: classes, and the distance of an instance head.
        shape: ``(depth, Y, X)``.
        half: whether sums are half floats.
        layers: L.
    """
    return math.prod(shape) * (channels * (2 if half else 4) + _WEIGHT_BYTES + layers * _WINNER_BYTES)


class RingBuffer(Protocol):
    """Interface between the engine and a ring buffer. Shapes are in streaming order: K classes, L layers, S slices, Y, X.

    C channels are the classes, and the distance of an instance head where objects are told apart by it.

    Attributes:
        depth: slices it holds; slice z lies in slot ``z % depth``.
        probability_sum: ``(K,)`` float64, summed probabilities of the voxels that each class won; background is left out.
        voxel_count: ``(K,)`` int64, number of those voxels.
    """

    depth: int

    @property
    def probability_sum(self) -> NDArray[np.float64]: ...  # noqa: D102

    @property
    def voxel_count(self) -> NDArray[np.int64]: ...  # noqa: D102

    def clear(self, first: int, last: int) -> None:
        """Set the slots of slices `first` to `last` to 0."""

    def add(self, start: Start, dz: int, values: Tensor, scale: float) -> None:
        """Add slices `dz` and on of a patch, ``(C, n, q, r)`` float32, times their weights and `scale`."""

    def add_weights(self, start: Start) -> None:
        """Add the weights of a patch, once for all its copies."""

    def fill(self, first: int, values: NDArray[np.floating]) -> None:
        """Put in finished slices ``(C, n, Y, X)`` from slice `first` on."""

    def finish(self, first: int, last: int) -> None:
        """Turn the sums of slices `first` to `last`, which no further patch touches, into means, and find their winners."""

    def labels(self, interp: Interp3d, first: int, last: int) -> NDArray[np.uint16]:
        """``(L, last - first, Y', X')`` classes of new slices, 0 where a layer has none."""

    def confidence(self, interp: Interp3d, first: int, last: int, entropy: bool) -> NDArray[np.uint8]:
        """``(last - first, Y', X')``: probability of the winner, or entropy, of new slices; 0..255 for 0..1.

        Of several layers those of the least certain one.
        """

    def add_probabilities(self, interp: Interp3d, first: int, last: int, share: float, sums: NDArray[np.float32]) -> None:
        """Add `share` times the probabilities of new slices to ``(K, last - first, Y', X')``, of any memory order."""

    def add_distance(self, interp: Interp3d, first: int, last: int, share: float, sums: NDArray[np.float32]) -> None:
        """Add `share` times the distance of new slices to ``(last - first, Y', X')``."""


class HostRingBuffer:
    """A ring buffer in the host's memory; see `RingBuffer`.

    Args:
        classes: K.
        shape: ``(depth, Y, X)``.
        weights: ``(p, q, r)`` of a patch; None where only whole slices are filled in.
        half: keep sums as half floats.
        logits: whether sums are of logits; else of probabilities.
        regions: whether classes are regions, which decide each for itself.
        distance: whether the distance of an instance head lies behind the classes.
        layers: of labels on several layers, whose classes are regions too, how many lie on each.
    """

    def __init__(
        self,
        classes: int,
        shape: Start,
        weights: Tensor | None,
        half: bool,
        logits: bool,
        regions: bool = False,
        distance: bool = False,
        layers: Sequence[int] = (),
    ) -> None:
        self.depth, self.spans = shape[0], class_spans(classes, layers)
        self.rule = LAYER if layers else REGIONS if regions else CLASSES
        self.channels = np.zeros((classes + distance, *shape), np.uint16 if half else np.float32)
        self.sums, self.distance = self.channels[:classes], self.channels[classes:]
        self.weights = np.zeros(shape, np.float32)
        self.winners = np.zeros((len(self.spans), *shape), np.uint16)
        weights = summable(weights, half)
        self.patch = None if weights is None else weights.numpy()
        self.logits = logits
        self.probability_sum, self.voxel_count = np.zeros(classes), np.zeros(classes, np.int64)

    def clear(self, first: int, last: int) -> None:
        """Set the slots of slices `first` to `last` to 0."""
        for z in range(first, last):
            self.channels[:, z % self.depth] = 0
            self.weights[z % self.depth] = 0

    def add(self, start: Start, dz: int, values: Tensor, scale: float) -> None:
        """Add slices of a patch; see `RingBuffer.add`."""
        assert self.patch is not None
        array, (z, y, x) = values.contiguous().cpu().numpy(), start
        weights = self.patch[dz : dz + array.shape[1]]
        share, limit = np.float32(scale), np.float32(LIMIT)
        blend = blending_kernels.blend
        run_slabs(lambda low, high: blend(self.channels, array, weights, z + dz, y, x, low, high, share, limit), len(array))

    def add_weights(self, start: Start) -> None:
        """Add the weights of a patch."""
        assert self.patch is not None
        z, y, x = start
        depth, height, width = self.patch.shape
        for dz in range(depth):
            self.weights[(z + dz) % self.depth, y : y + height, x : x + width] += self.patch[dz]

    def fill(self, first: int, values: NDArray[np.floating]) -> None:
        """Put in finished slices ``(C, n, Y, X)``."""
        for n in range(values.shape[1]):
            slot = (first + n) % self.depth
            self.channels[:, slot] = (
                values[:, n] if self.sums.dtype == np.float32 else values[:, n].astype(np.float16).view(np.uint16)
            )
            self.weights[slot] = 1

    def finish(self, first: int, last: int) -> None:
        """Turn sums into means, and find the winners, layer by layer."""
        rows = (last - first) * self.sums.shape[2]
        for span, winners in zip(self.spans, self.winners, strict=True):
            work = partial(self._finish, self.sums[span], winners, first)
            run_and_count(work, rows, self.probability_sum[span], self.voxel_count[span])
        if len(self.distance):
            run_slabs(lambda low, high: head_kernels.finish_distance(self.distance, self.weights, first, low, high), rows)

    def _finish(
        self,
        sums: NDArray[Any],
        winners: NDArray[np.uint16],
        first: int,
        low: int,
        high: int,
        total: NDArray[np.float64],
        won: NDArray[np.int64],
    ) -> None:
        """Rows `low` to `high` of the finished slices from `first` on, of the classes of one layer."""
        if self.rule == CLASSES:
            blending_kernels.finish(sums, self.weights, winners, first, low, high, total, won, self.logits)
        else:
            region_kernels.finish(sums, self.weights, winners, first, low, high, total, won, self.logits, self.rule)

    def labels(self, interp: Interp3d, first: int, last: int) -> NDArray[np.uint16]:
        """Classes of new slices on each layer."""
        slab = self._slab(interp, first, last)
        labels = np.empty((len(self.spans), *slab.shape), np.uint16)
        for span, winners, layer in zip(self.spans, self.winners, labels, strict=True):
            kernel = partial(self._interpolate_labels, self.sums[span], winners, slab, layer)
            run_slabs(kernel, math.prod(slab.shape[:2]))
            layer[layer > 0] += span.start
        return labels

    def _interpolate_labels(
        self, sums: NDArray[Any], winners: NDArray[np.uint16], slab: SlabInterp, labels: NDArray[np.uint16], low: int, high: int
    ) -> None:
        """Rows `low` to `high` of new slices, of the classes of one layer, counted within it."""
        blending_kernels.interpolate_labels(sums, winners, slab, low, high, self.rule, labels)

    def confidence(self, interp: Interp3d, first: int, last: int, entropy: bool) -> NDArray[np.uint8]:
        """Probability or entropy of new slices."""
        slab = self._slab(interp, first, last)
        maps = np.empty((len(self.spans), *slab.shape), np.uint8)
        for span, out in zip(self.spans, maps, strict=True):
            run_slabs(partial(self._interpolate_confidence, self.sums[span], slab, entropy, out), math.prod(slab.shape[:2]))
        return least_certain(maps, entropy)

    def _interpolate_confidence(
        self, sums: NDArray[Any], slab: SlabInterp, entropy: bool, out: NDArray[np.uint8], low: int, high: int
    ) -> None:
        """Rows `low` to `high` of new slices, of the classes of one layer."""
        if self.rule == CLASSES:
            blending_kernels.interpolate_confidence(sums, slab, low, high, entropy, self.logits, out)
        else:
            region_kernels.interpolate_confidence(sums, slab, low, high, entropy, self.logits, out, self.rule)

    def add_probabilities(self, interp: Interp3d, first: int, last: int, share: float, sums: NDArray[np.float32]) -> None:
        """Add the probabilities of new slices."""
        slab, weight, kernel = self._slab(interp, first, last), np.float32(share), multi_plan_kernels.add_probabilities
        rows = math.prod(slab.shape[:2])
        regions = self.rule != CLASSES
        run_slabs(lambda low, high: kernel(self.sums, slab, low, high, self.logits, regions, weight, sums), rows)

    def add_distance(self, interp: Interp3d, first: int, last: int, share: float, sums: NDArray[np.float32]) -> None:
        """Add the distance of new slices."""
        slab, weight, kernel = self._slab(interp, first, last), np.float32(share), head_kernels.add_distance
        run_slabs(lambda low, high: kernel(self.distance, slab, low, high, weight, sums), math.prod(slab.shape[:2]))

    def _slab(self, interp: Interp3d, first: int, last: int) -> SlabInterp:
        return SlabInterp.of(interp, first, last, self.depth, self.sums.shape[2])


def least_certain(maps: NDArray[np.uint8], entropy: bool) -> NDArray[np.uint8]:
    """The map of the least certain layer, ``(...)``, of those of all layers, ``(L, ...)``."""
    result: NDArray[np.uint8] = maps.max(axis=0) if entropy else maps.min(axis=0)
    return result


def run_and_count(
    work: Callable[[int, int, NDArray[np.float64], NDArray[np.int64]], object],
    size: int,
    probability_sum: NDArray[np.float64],
    voxel_count: NDArray[np.int64],
) -> None:
    """Run stretches of ``range(size)`` on the pool, each with sums of its own, and add these up.

    Args:
        work: takes a stretch's start and stop and the two ``(K,)`` arrays that it raises.
        size: length of the range.
        probability_sum: ``(K,)``, raised.
        voxel_count: ``(K,)``, raised.
    """
    counts: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []

    def counted(low: int, high: int) -> None:
        total, won = np.zeros_like(probability_sum), np.zeros_like(voxel_count)
        work(low, high, total, won)
        counts.append((total, won))

    run_slabs(counted, size)
    for total, won in counts:
        probability_sum += total
        voxel_count += won


def levels_of(distances: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``(n, Y', X')`` levels of distances, quantised (`head_kernels.DISTANCE_UNIT`)."""
    levels = np.empty(distances.shape, np.uint8)
    flat, out = distances.reshape(-1), levels.reshape(-1)
    run_slabs(lambda low, high: head_kernels.quantise(flat, out, low, high), levels.size)
    return levels
