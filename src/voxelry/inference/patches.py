"""Where windows lie, in which order they come, and how they are weighted.

Windows stream along one axis of the network's grid, S, chosen so that the ring of sums is smallest; Y and X are the other two. A
picture has one row of Y. Positions and weights are MONAI's (`sliding_window_inference`), which is the oracle.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.preparation.slice_stream import SliceStream

GAUSSIAN_SIGMA = 0.125
"""Width of the weights of a window, as a share of its edge (Isensee et al. 2021)."""

SMALLEST_WEIGHT = 1e-3

TOGETHER = 16
"""Sheets of windows one voxel deep that are run together: batches are full, and slices are made and restored many at a time."""

Start = tuple[int, int, int]
Weighting = Literal["gaussian", "constant"]


def margins(size: Sequence[int], window: Sequence[int]) -> list[tuple[int, int]]:
    """Voxels of a window before and behind a scan that is smaller, along each axis; the larger half of an odd number lies behind.

    Training and inference both place small scans by this: a network that was trained one voxel off loses Dice.

    Args:
        size: ``(*spatial)`` of the scan.
        window: ``(*spatial)`` of the window.
    """
    missing = [max(0, p - n) for n, p in zip(size, window, strict=True)]
    return [(m // 2, m - m // 2) for m in missing]


@dataclass(frozen=True)
class Layout:
    """Windows over one prepared scan.

    Attributes:
        size: ``(*spatial)`` of the prepared scan, in the network's order.
        window: ``(*spatial)`` of a window; where the scan is smaller, it lies in the middle of one padded window.
        step: distance of neighbouring windows, as a share of the window.
        axis: the axis along which windows stream.
        weighting: ``gaussian`` or ``constant``.
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    step: float
    axis: int
    weighting: Weighting = "gaussian"

    @classmethod
    def of(cls, size: Sequence[int], window: Sequence[int], step: float, weighting: Weighting = "gaussian") -> Layout:
        """The layout whose ring is smallest."""
        every = [cls(tuple(size), tuple(window), step, axis, weighting) for axis in range(len(size))]
        return min(every, key=lambda one: one.held * math.prod(one.shape[1:]))

    @cached_property
    def together(self) -> int:
        """Sheets of windows that are run together: several where windows are one slice deep."""
        return TOGETHER if self.window[self.axis] == 1 else 1

    @cached_property
    def held(self) -> int:
        """Slices that windows run together lie on."""
        return min(self.reach[0] + self.together - 1, self.shape[0])

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The network's axis that becomes S, then those that become Y and X (X alone for a picture)."""
        return (self.axis, *(axis for axis in range(len(self.size)) if axis != self.axis))

    @cached_property
    def shape(self) -> Start:
        """``(S, Y, X)`` of the prepared scan."""
        return self.streamed(self.size)

    @cached_property
    def reach(self) -> Start:
        """``(S, Y, X)`` of the part of a window that lies on the scan."""
        return self.streamed(tuple(min(n, p) for n, p in zip(self.size, self.window, strict=True)))

    def streamed(self, values: Sequence[int]) -> Start:
        """Numbers in the network's order as ``(S, Y, X)``; Y is 1 for a picture."""
        moved = [values[axis] for axis in self.order]
        return (moved[0], moved[1], moved[2]) if len(moved) == 3 else (moved[0], 1, moved[1])

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Where windows begin along S, Y and X."""
        along = [_starts(n, p, self.step) for n, p in zip(self.size, self.window, strict=True)]
        moved = [along[axis] for axis in self.order]
        return (moved[0], moved[1], moved[2]) if len(moved) == 3 else (moved[0], (0,), moved[1])

    @property
    def count(self) -> int:
        """How many windows there are."""
        return math.prod(len(starts) for starts in self.starts)

    @cached_property
    def sheets(self) -> tuple[tuple[int, ...], ...]:
        """Where windows begin along S, those that are run together side by side."""
        along = self.starts[0]
        return tuple(along[first : first + self.together] for first in range(0, len(along), self.together))

    def sheet(self, s: int) -> Iterator[Start]:
        """The windows that begin at `s` along S."""
        for y, x in itertools.product(*self.starts[1:]):
            yield (s, y, x)

    def cut(self, slabs: SliceStream, start: Start) -> NDArray[np.float32]:
        """A window of the scan, ``(C, *window)``, padded with 0 where the scan is smaller.

        All windows that are run together ask `slabs` for the same slices.
        """
        first = start[0] - start[0] % self.together if self.together > 1 else start[0]
        slab_C = slabs.slices(first, min(first + self.held, self.shape[0]))
        here = start[0] - first
        placed = dict(zip(self.order, (here, *start[1:]) if len(self.order) == 3 else (here, start[2]), strict=True))
        slices = tuple(slice(placed[axis], placed[axis] + p) for axis, p in enumerate(self.window))
        part = slab_C[(slice(None), *slices)]
        if part.shape[1:] == self.window:
            return np.ascontiguousarray(part)
        return np.pad(part, [(0, 0), *self._padding])

    @cached_property
    def _padding(self) -> list[tuple[int, int]]:
        return margins(self.size, self.window)

    def turned(self, values_K: Tensor, mirror: Sequence[int] = ()) -> Tensor:
        """The part of a window that lies on the scan, in streaming order.

        Args:
            values_K: ``(K, *window)`` in the network's order.
            mirror: axes (the network's) along which the window is mirrored; it stays so.

        Returns:
            A view ``(K, *reach)``.
        """
        slices = [slice(None)]
        for axis, (before, after) in enumerate(self._padding):
            first = after if axis in mirror else before
            slices.append(slice(first, first + self.window[axis] - before - after))
        view = values_K[tuple(slices)].permute(0, *(axis + 1 for axis in self.order))
        return view if view.ndim == 4 else view[:, :, None]

    def streamed_axes(self, axes: Sequence[int]) -> tuple[int, ...]:
        """The network's axes as axes of ``(K, S, Y, X)``."""
        places = (1, 2, 3) if len(self.order) == 3 else (1, 3)
        return tuple(places[self.order.index(axis)] for axis in axes)

    @cached_property
    def weights(self) -> Tensor:
        """``reach`` float32: of the voxels of a window, scaled so that no voxel's weights sum to more than 1."""
        if self.weighting == "constant":
            lines = [torch.ones(p) for p in self.window]
            whole = torch.ones(self.window)
        else:
            lines = [_bell(p) for p in self.window]
            whole = lines[0]
            for line in lines[1:]:
                whole = whole[..., None] * line
            whole = whole.clamp(min=max(float(whole.min()), SMALLEST_WEIGHT))
        bound, copies = 1.0, 1
        for line, n, p in zip(lines, self.size, self.window, strict=True):
            starts = _starts(n, p, self.step)
            total, times = torch.zeros(max(n, p)), torch.zeros(max(n, p))
            for start in starts:
                total[start : start + p] += line
                times[start : start + p] += 1
            bound, copies = bound * float(total.max()), copies * int(times.max())
        return self.turned((whole / (bound + SMALLEST_WEIGHT * copies))[None])[0].contiguous()


def _starts(size: int, window: int, step: float) -> tuple[int, ...]:
    """First voxels of windows along an axis; the last window ends at the last voxel."""
    if size <= window:
        return (0,)
    stride = max(1, int(window * step))
    return (*range(0, size - window, stride), size - window)


def _bell(window: int) -> Tensor:
    place = torch.arange(window, dtype=torch.float32) - (window - 1) / 2
    return torch.exp(-(place**2) / (2 * (GAUSSIAN_SIGMA * window) ** 2))


def upload(windows_C: Sequence[Tensor], device: torch.device) -> Tensor:
    """Windows as a batch on a device; a GPU fetches them while the processor goes on."""
    if device.type != "cuda":
        return torch.stack(list(windows_C)).to(device)
    batch_BC = torch.empty((len(windows_C), *windows_C[0].shape), pin_memory=True)
    return torch.stack(list(windows_C), out=batch_BC).to(device, non_blocking=True)


def mirrors(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Every set of axes to mirror a window along, the empty one first."""
    return [chosen for n in range(len(axes) + 1) for chosen in itertools.combinations(axes, n)]
