"""Finished slices leave as labels on a finer (or coarser) grid, slab by slab; `restore_logits` does it for logits at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from voxelry.errors import UsageError
from voxelry.inference.cells import Cells
from voxelry.inference.patches import Start
from voxelry.inference.ring_buffer import Cube, HostRing, Ring
from voxelry.inference.ring_buffer_torch import DeviceRing

Sink = Callable[[int, NDArray[np.uint16], "NDArray[np.uint8] | None"], None]
"""Takes new slices: the number of the first, ``(n, Y', X')`` class indices, and the map of confidence if one was asked for."""

CHUNK_BYTES = 48 << 20


class Outlet:
    """Turns the finished slices of a ring into labels, in order.

    Args:
        ring: where sums lie.
        cube: cells along S, Y and X of the new grid.
        slab: new slices at a time.
        sink: where they go.
        trust: ``probability`` or ``entropy`` for a map beside the labels; empty for none.
    """

    def __init__(self, ring: Ring, cube: Cube, slab: int, sink: Sink, trust: str = "") -> None:
        self.ring, self.cube, self.slab, self.sink, self.trust = ring, cube, slab, sink, trust
        self.finished, self.left = 0, 0

    def advance(self, upto: int) -> None:
        """Slices below `upto` are finished: whatever new slice lies between them leaves."""
        if upto > self.finished:
            self.ring.finish(self.finished, upto)
            self.finished = upto
        ready = int(np.searchsorted(self.cube[0].above, upto))
        for first in range(self.left, ready, self.slab):
            last = min(first + self.slab, ready)
            labels = self.ring.labels(self.cube, first, last)
            trust = self.ring.trust(self.cube, first, last, self.trust == "entropy") if self.trust else None
            self.sink(first, labels, trust)
        self.left = ready


def make_ring(
    classes: int,
    shape: Start,
    weights: torch.Tensor | None,
    *,
    half: bool,
    logits: bool = True,
    device: torch.device | None = None,
    regions: bool = False,
) -> Ring:
    """A ring of ``(K, depth, Y, X)``: compiled loops in the host's memory, torch operations on another device."""
    if device is None or device.type == "cpu":
        return HostRing(classes, shape, weights, half, logits, regions)
    return DeviceRing(classes, shape, weights, half, logits, device, regions)


def restore_logits(
    logits: NDArray[np.floating] | Iterable[NDArray[np.floating]],
    shape: Sequence[int],
    *,
    size: Sequence[int] | None = None,
    regions: bool = False,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The winning class of logits on another number of voxels over the same space, chunk by chunk.

    Equal to interpolating every class linearly (voxel edges aligned) and taking the largest; of regions, the last above 0.
    Memory beyond logits and result is a few slices of all classes.

    Args:
        logits: ``(K, *spatial)`` floats, two or three spatial axes, a memory map for instance; or chunks of it along the first
            spatial axis, in order.
        shape: new spatial shape.
        size: ``(K, *spatial)`` of the whole, where chunks are given.
        regions: class 0 is the background and not looked at, the others are regions that decide each for itself.

    Returns:
        ``shape`` class indices, uint8 where they fit, else uint16.

    Raises:
        UsageError: shapes that do not fit each other.
    """
    whole = np.shape(logits) if isinstance(logits, np.ndarray) else tuple(size or ())
    if len(whole) != len(shape) + 1 or len(shape) not in (2, 3):
        raise UsageError(
            f"logits of shape {whole} cannot become {tuple(shape)}", remedy="Give (K, *spatial) and as many new sizes."
        )
    classes, spatial, target = whole[0], _three(whole[1:]), _three(shape)
    step = max(1, CHUNK_BYTES // (4 * classes * spatial[1] * spatial[2]))
    chunks = (
        _chunks(logits, step)
        if isinstance(logits, np.ndarray)
        else (part for whole_part in logits for part in _chunks(whole_part, step))
    )
    ring = make_ring(classes, (min(step, spatial[0]) + 1, *spatial[1:]), None, half=False, regions=regions)
    result = np.empty(target, np.uint8 if classes <= 256 else np.uint16)

    def keep(first: int, labels: NDArray[np.uint16], _: NDArray[np.uint8] | None) -> None:
        result[first : first + len(labels)] = labels

    outlet = Outlet(ring, _cube(spatial, target), 8, keep)
    for chunk in chunks:
        values = chunk if chunk.ndim == 4 else chunk[:, :, None]
        if (values.shape[0], *values.shape[2:]) != (classes, *spatial[1:]):
            raise UsageError(f"a chunk of shape {chunk.shape} is no part of logits of shape {whole}")
        ring.fill(outlet.finished, values)
        outlet.advance(outlet.finished + values.shape[1])
    if outlet.finished != spatial[0]:
        raise UsageError(f"chunks hold {outlet.finished} slices of {spatial[0]}")
    return result.reshape(tuple(shape))


def _chunks(logits: NDArray[np.floating], step: int) -> Iterator[NDArray[np.floating]]:
    for first in range(0, logits.shape[1], step):
        yield logits[:, first : first + step]


def _three(shape: Sequence[int]) -> Start:
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, shape[1])


def _cube(old: Start, new: Start) -> Cube:
    along = [Cells.of(n, m) for n, m in zip(old, new, strict=True)]
    return (along[0], along[1], along[2])
