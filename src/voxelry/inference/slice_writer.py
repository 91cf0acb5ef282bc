"""Labels on the output grid, slab by slab: from a ring buffer (`SliceWriter`) or from arrays of logits (`restore_logits`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelry.errors import UsageError
from voxelry.inference.linear_interpolation import Interp1d, Interp3d, interp3d
from voxelry.inference.patches import Start
from voxelry.inference.ring_buffer import HostRingBuffer, RingBuffer, levels_of
from voxelry.inference.ring_buffer_torch import DeviceRingBuffer


@dataclass(frozen=True, eq=False)
class NewSlices:
    """New slices on the output grid, in streaming order.

    Attributes:
        first: number of the first.
        labels: ``(L, n, Y', X')`` class indices on each layer.
        confidence: ``(n, Y', X')``, 0..255, if a map of confidence was asked for.
        levels: ``(n, Y', X')`` levels of the distance (`head_kernels`), if objects are to be told apart by it.
    """

    first: int
    labels: NDArray[np.uint16]
    confidence: NDArray[np.uint8] | None = None
    levels: NDArray[np.uint8] | None = None


SliceCallback = Callable[[NewSlices], None]
"""Takes new slices."""

CHUNK_BYTES = 48 << 20


class SliceWriter:
    """Turns the finished slices of a ring buffer into labels, in order.

    Args:
        ring: where sums lie.
        interp: to the new grid, along S, Y and X.
        slab: new slices at a time.
        write: where they go.
        confidence: ``probability`` or ``entropy`` for a map beside the labels; empty for none.
        head: whether the distance of an instance head is wanted too.
    """

    def __init__(
        self, ring: RingBuffer, interp: Interp3d, slab: int, write: SliceCallback, confidence: str = "", head: bool = False
    ) -> None:
        self.ring, self.interp, self.slab, self.write, self.confidence = ring, interp, slab, write, confidence
        self.head = head
        self.finished, self.written = 0, 0

    def advance(self, stop: int) -> None:
        """Slices below `stop` are finished: every new slice that lies between them is written."""
        if stop > self.finished:
            self.ring.finish(self.finished, stop)
            self.finished = stop
        ready = int(np.searchsorted(self.interp[0].above, stop))
        for first in range(self.written, ready, self.slab):
            last = min(first + self.slab, ready)
            entropy = self.confidence == "entropy"
            self.write(
                NewSlices(
                    first,
                    self.ring.labels(self.interp, first, last),
                    self.ring.confidence(self.interp, first, last, entropy) if self.confidence else None,
                    self._levels(first, last) if self.head else None,
                )
            )
        self.written = ready

    def _levels(self, first: int, last: int) -> NDArray[np.uint8]:
        sums = np.zeros((last - first, len(self.interp[1]), len(self.interp[2])), np.float32)
        self.ring.add_distance(self.interp, first, last, 1.0, sums)
        return levels_of(sums)


def make_ring_buffer(
    classes: int,
    shape: Start,
    weights: torch.Tensor | None,
    *,
    half: bool,
    logits: bool = True,
    device: torch.device | None = None,
    regions: bool = False,
    distance: bool = False,
    layers: Sequence[int] = (),
) -> RingBuffer:
    """A ring buffer of ``(C, depth, Y, X)``: compiled loops in the host's memory, torch operations on another device."""
    if device is None or device.type == "cpu":
        return HostRingBuffer(classes, shape, weights, half, logits, regions, distance, layers)
    return DeviceRingBuffer(classes, shape, weights, half, logits, device, regions, distance, layers)


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
        logits: ``(K, *spatial)`` floats, two or three spatial axes, e.g. a memory map; or chunks of it along the first spatial
            axis, in order.
        shape: new spatial shape.
        size: ``(K, *spatial)`` of the whole, where chunks are given.
        regions: class 0 is the background and ignored, the others are regions that decide each for itself.

    Returns:
        ``shape`` class indices, uint8 where they fit, else uint16.

    Raises:
        UsageError: shapes that do not fit each other.

    Example:
        >>> import numpy as np
        >>> from voxelry.inference import restore_logits
        >>> logits = np.array([[[1, 0], [1, 0]], [[0, 3], [0, 3]]], np.float32)
        >>> restore_logits(logits, (2, 4)).tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    whole = np.shape(logits) if isinstance(logits, np.ndarray) else tuple(size or ())
    if len(whole) != len(shape) + 1 or len(shape) not in (2, 3):
        raise UsageError(
            f"logits of shape {whole} cannot become {tuple(shape)}", remedy="Give (K, *spatial) and as many new sizes."
        )
    classes, spatial, target = whole[0], _three(whole[1:]), _three(shape)
    step = max(1, CHUNK_BYTES // (4 * classes * spatial[1] * spatial[2]))
    chunks = (
        _chunks(logits, step) if isinstance(logits, np.ndarray) else (piece for chunk in logits for piece in _chunks(chunk, step))
    )
    ring = make_ring_buffer(classes, (min(step, spatial[0]) + 1, *spatial[1:]), None, half=False, regions=regions)
    result = np.empty(target, np.uint8 if classes <= 256 else np.uint16)

    def write(new: NewSlices) -> None:
        result[new.first : new.first + new.labels.shape[1]] = new.labels[0]

    writer = SliceWriter(ring, interp3d([Interp1d.of(n, m) for n, m in zip(spatial, target, strict=True)]), 8, write)
    for chunk in chunks:
        values = chunk if chunk.ndim == 4 else chunk[:, :, None]
        if (values.shape[0], *values.shape[2:]) != (classes, *spatial[1:]):
            raise UsageError(f"a chunk of shape {chunk.shape} does not fit logits of shape {whole}")
        ring.fill(writer.finished, values)
        writer.advance(writer.finished + values.shape[1])
    if writer.finished != spatial[0]:
        raise UsageError(f"chunks hold {writer.finished} slices of {spatial[0]}")
    return result.reshape(tuple(shape))


def _chunks(logits: NDArray[np.floating], step: int) -> Iterator[NDArray[np.floating]]:
    for first in range(0, logits.shape[1], step):
        yield logits[:, first : first + step]


def _three(shape: Sequence[int]) -> Start:
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, shape[1])
