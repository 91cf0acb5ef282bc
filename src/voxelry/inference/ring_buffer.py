"""The ring: sums of windows over as many slices as a window is deep, which leave as labels once no window can change them.

Two of one kind, chosen by device: `HostRing` works with compiled loops, `DeviceRing` (`ring_torch`) with torch. Both give the
same labels.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from voxelry.base.threads import run_slabs
from voxelry.inference import blending_kernels as kernels
from voxelry.inference import mixed_kernels, region_kernels
from voxelry.inference.cells import Cells
from voxelry.inference.half import LARGEST_HALF
from voxelry.inference.patches import Start

LIMIT = 0.9 * LARGEST_HALF
"""Logits are held within plus and minus this, so that sums and means of halves stay finite (weights sum to at most 1)."""

Cube = tuple[Cells, Cells, Cells]


class Ring(Protocol):
    """What the engine asks of a ring. Shapes are in streaming order: K classes, S slices, Y, X.

    Attributes:
        depth: slices it holds; slice z lies in slot ``z % depth``.
        total: ``(K,)`` float64, summed probabilities of voxels that each class won; background is left out.
        won: ``(K,)`` int64, how many those were.
    """

    depth: int

    @property
    def total(self) -> NDArray[np.float64]: ...  # noqa: D102

    @property
    def won(self) -> NDArray[np.int64]: ...  # noqa: D102

    def clear(self, first: int, last: int) -> None:
        """Make room for slices `first` to `last`."""

    def add(self, start: Start, dz: int, values: Tensor, scale: float) -> None:
        """Add slices `dz` and on of a window, ``(K, n, q, r)`` float32, times their weights and `scale`."""

    def weigh(self, start: Start) -> None:
        """Count the weights of a window, once for all its copies."""

    def fill(self, first: int, values: NDArray[np.floating]) -> None:
        """Put in finished slices ``(K, n, Y, X)`` from slice `first` on."""

    def finish(self, first: int, last: int) -> None:
        """No window comes for slices `first` to `last` any more: sums become means, winners are found."""

    def labels(self, cube: Cube, first: int, last: int) -> NDArray[np.uint16]:
        """``(last - first, Y', X')`` class indices of new slices."""

    def trust(self, cube: Cube, first: int, last: int, entropy: bool) -> NDArray[np.uint8]:
        """``(last - first, Y', X')``: probability of the winner, or entropy, of new slices; 0..255 for 0..1."""

    def spread(self, cube: Cube, first: int, last: int, share: float, sums: NDArray[np.float32]) -> None:
        """Add `share` times the probabilities of new slices to ``(K, last - first, Y', X')``, of any memory order."""


class HostRing:
    """A ring in the host's memory; see `Ring`.

    Args:
        classes: K.
        shape: ``(depth, Y, X)``.
        weights: ``(p, q, r)`` of a window; None where only whole slices are filled in.
        half: keep sums as half floats.
        logits: whether sums are of logits; else of probabilities.
        regions: whether classes are regions, which decide each for itself.
    """

    def __init__(
        self, classes: int, shape: Start, weights: Tensor | None, half: bool, logits: bool, regions: bool = False
    ) -> None:
        self.depth = shape[0]
        self.sums = np.zeros((classes, *shape), np.uint16 if half else np.float32)
        self.weights = np.zeros(shape, np.float32)
        self.winners = np.zeros(shape, np.uint16)
        self.window = None if weights is None else weights.numpy()
        self.logits, self.regions = logits, regions
        self.total, self.won = np.zeros(classes), np.zeros(classes, np.int64)

    def clear(self, first: int, last: int) -> None:
        """Make room for slices `first` to `last`."""
        for z in range(first, last):
            self.sums[:, z % self.depth] = 0
            self.weights[z % self.depth] = 0

    def add(self, start: Start, dz: int, values: Tensor, scale: float) -> None:
        """Add slices of a window; see `Ring.add`."""
        assert self.window is not None
        array, (z, y, x) = values.contiguous().cpu().numpy(), start
        weights = self.window[dz : dz + array.shape[1]]
        share, limit = np.float32(scale), np.float32(LIMIT)
        run_slabs(lambda low, high: kernels.blend(self.sums, array, weights, z + dz, y, x, low, high, share, limit), len(array))

    def weigh(self, start: Start) -> None:
        """Count the weights of a window."""
        assert self.window is not None
        z, y, x = start
        depth, height, width = self.window.shape
        for dz in range(depth):
            self.weights[(z + dz) % self.depth, y : y + height, x : x + width] += self.window[dz]

    def fill(self, first: int, values: NDArray[np.floating]) -> None:
        """Put in finished slices ``(K, n, Y, X)``."""
        for n in range(values.shape[1]):
            slot = (first + n) % self.depth
            self.sums[:, slot] = (
                values[:, n] if self.sums.dtype == np.float32 else values[:, n].astype(np.float16).view(np.uint16)
            )
            self.weights[slot] = 1

    def finish(self, first: int, last: int) -> None:
        """Sums become means, winners are found."""
        parts: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
        loops = region_kernels if self.regions else kernels

        def work(low: int, high: int) -> None:
            total, won = np.zeros_like(self.total), np.zeros_like(self.won)
            loops.finish(self.sums, self.weights, self.winners, first, low, high, total, won, self.logits)
            parts.append((total, won))

        run_slabs(work, (last - first) * self.sums.shape[2])
        for total, won in parts:
            self.total += total
            self.won += won

    def labels(self, cube: Cube, first: int, last: int) -> NDArray[np.uint16]:
        """Class indices of new slices."""
        out = np.empty((last - first, len(cube[1]), len(cube[2])), np.uint16)
        taken = self._taken(cube, first, last)
        run_slabs(
            lambda low, high: kernels.interpolate_rows(self.sums, self.winners, *taken, low, high, self.regions, out),
            math.prod(out.shape[:2]),
        )
        return out

    def trust(self, cube: Cube, first: int, last: int, entropy: bool) -> NDArray[np.uint8]:
        """Probability or entropy of new slices."""
        out = np.empty((last - first, len(cube[1]), len(cube[2])), np.uint8)
        taken, loops = self._taken(cube, first, last), region_kernels if self.regions else kernels
        run_slabs(
            lambda low, high: loops.trust_rows(self.sums, *taken, low, high, entropy, self.logits, out),
            math.prod(out.shape[:2]),
        )
        return out

    def spread(self, cube: Cube, first: int, last: int, share: float, sums: NDArray[np.float32]) -> None:
        """Add the probabilities of new slices."""
        taken, part = self._taken(cube, first, last), np.float32(share)
        run_slabs(
            lambda low, high: mixed_kernels.spread_rows(self.sums, *taken, low, high, self.logits, self.regions, part, sums),
            math.prod(sums.shape[1:3]),
        )

    def _taken(self, cube: Cube, first: int, last: int) -> tuple[Any, Any, Any, Any, Any, Any]:
        along_z, along_y, along_x = cube
        rows = along_y.slots(0, len(along_y), self.sums.shape[2])
        return (along_z.slots(first, last, self.depth), along_z.part[first:last], rows, along_y.part, along_x.pairs, along_x.part)
