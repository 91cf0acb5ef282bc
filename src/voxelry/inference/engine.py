"""Inference engine: runs patches in slice order, sums them in a ring buffer, and passes finished slices on.

Sums are linear, so every copy of a patch (mirrored, or of another member of an ensemble) goes straight into the ring buffer with
its share: nothing is kept per copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from voxelry.base.malloc import give_back_freed_memory
from voxelry.errors import ModelError
from voxelry.inference.cascade import PreviousLabels
from voxelry.inference.forward import Batches, Forward, swap_sides
from voxelry.inference.pass_agreement import PassAgreement
from voxelry.inference.patches import PatchGrid, Start, upload
from voxelry.inference.ring_buffer import RingBuffer
from voxelry.preparation.slice_stream import SliceStream

REORDERED, DEVICE_REORDERED = 1 << 21, 1 << 23
"""Numbers brought to streaming order at a time; on a GPU more, since each step costs it the same few launches."""

_REORDER_COPIES = 6
"""Copies of these in float32: reordered, mirrored and weighted logits, and the values gathered to restore slices."""


def reorder_bytes(on_device: bool) -> int:
    """Bytes that logits take on their way from the network into the ring buffer, and out of it."""
    return _REORDER_COPIES * 4 * (DEVICE_REORDERED if on_device else REORDERED)


@dataclass(frozen=True, eq=False)
class Member:
    """A network of an ensemble and its input.

    Attributes:
        forward: the network.
        image: the prepared scan; members that prepare alike share it.
        previous: of the second stage of a cascade the labels of the first: one more channel, of class indices.
    """

    forward: Forward
    image: SliceStream
    previous: PreviousLabels | None = None

    def patch(self, grid: PatchGrid, start: Start, mirrored: bool = False) -> Tensor:
        """The network's input at a patch, ``(C, *patch)``; `mirrored` where left and right are to be swapped."""
        patch_C = grid.cut(self.image, start)
        if self.previous is not None:
            patch_C = np.concatenate([patch_C, self.previous.patch(grid, start, mirrored)])
        return torch.from_numpy(patch_C)


@dataclass(frozen=True)
class TestTimeAugmentation:
    """Copies of each patch whose logits or probabilities are averaged: members of an ensemble, mirrored along axes.

    Attributes:
        members: members of an ensemble; one for a single model.
        mirrors: sets of axes to mirror a patch along; the empty set is the patch itself.
        mirror_map: channel that each channel of the networks becomes when left and right are swapped.
        side_axis: the axis from one side of the body to the other.
        head: channels of the networks' instance head, behind the classes.
        distance: whether the last of them, the distance, is averaged too; border and core have taught the network and go.
        probabilities: average probabilities; else logits.
        regions: whether classes are regions, whose probabilities are averaged less one half.
    """

    __test__ = False  # for pytest

    members: Sequence[Member]
    mirrors: Sequence[tuple[int, ...]]
    mirror_map: tuple[int, ...]
    side_axis: int
    probabilities: bool = False
    regions: bool = False
    head: int = 0
    distance: bool = False

    @property
    def share(self) -> float:
        """Of one copy in the mean."""
        return 1 / (len(self.members) * len(self.mirrors))


@dataclass(frozen=True)
class _PatchCopy:
    """A patch as a network gets it: where it begins, and along which axes it is mirrored."""

    start: Start
    mirror: tuple[int, ...]


class SliceSink(Protocol):
    """Takes finished slices: `slice_writer.SliceWriter` as labels, `multi_plan.ProbabilitySink` as probabilities."""

    def advance(self, stop: int) -> None:
        """Slices below `stop` are finished."""


def stream(
    grid: PatchGrid,
    augmentation: TestTimeAugmentation,
    ring: RingBuffer,
    sink: SliceSink,
    batches: Batches,
    device: torch.device,
    keeps: Callable[[Start], bool] = lambda _: True,
    agreement: PassAgreement | None = None,
) -> Iterator[int]:
    """Run every patch through the networks and pass finished slices on, sheet by sheet as it is iterated over.

    Args:
        grid: the patches.
        augmentation: the copies of each patch.
        ring: ring buffer of `grid`, empty.
        sink: of `ring`.
        batches: runs patches through a network.
        device: where the networks are.
        keeps: which patches are run; the others are background.
        agreement: compares the copies of each patch with each other.

    Yields:
        The number of patches done, after each sheet, whose finished slices have been passed on.

    Raises:
        ModelError: a network gave a number that is not finite.
        BudgetError: the device's memory does not hold one patch.
    """
    depth, size = grid.patch_shape[0], grid.shape[0]
    cleared, done = 0, 0
    for number, along in enumerate(grid.sheets):
        ring.clear(cleared, along[-1] + depth)
        cleared = along[-1] + depth
        starts = [start for s in along for start in grid.sheet(s) if keeps(start)]
        batched = _batched(starts, augmentation.mirrors, batches)
        finite = [_run(grid, augmentation, ring, batches, device, copies, agreement) for copies in batched]
        if finite and not bool(torch.stack(finite).all()):
            raise ModelError(
                "the network gave a number that is not finite", remedy="Switch mixed precision off, or train the model again."
            )
        done += grid.count * len(along) // len(grid.starts[0])
        sink.advance(grid.sheets[number + 1][0] if number + 1 < len(grid.sheets) else size)
        give_back_freed_memory()
        yield done


def _batched(starts: Sequence[Start], mirrors: Sequence[tuple[int, ...]], batches: Batches) -> Iterator[list[_PatchCopy]]:
    """Copies of patches in batches, those of one patch beside each other."""
    copies = [_PatchCopy(start, mirror) for start in starts for mirror in mirrors]
    while copies:
        size = batches.size  # it may shrink from one batch to the next
        yield copies[:size]
        copies = copies[size:]


def _run(
    grid: PatchGrid,
    augmentation: TestTimeAugmentation,
    ring: RingBuffer,
    batches: Batches,
    device: torch.device,
    copies: list[_PatchCopy],
    agreement: PassAgreement | None,
) -> Tensor:
    """Add a batch to the ring buffer; whether every number was finite, as a tensor, since asking a GPU is waiting for it."""
    finite = []
    for copy in copies:
        if not copy.mirror:
            ring.add_weights(copy.start)
    for member in augmentation.members:
        patches = [member.patch(grid, copy.start, augmentation.side_axis in copy.mirror) for copy in copies]
        patches_BC = upload([_mirrored(patch_C, copy.mirror) for patch_C, copy in zip(patches, copies, strict=True)], device)
        for first, logits_BK in batches.run(member.forward, patches_BC):
            batch = copies[first : first + len(logits_BK)]
            for start in dict.fromkeys(copy.start for copy in batch):
                own = [(logits_BK[n], copy.mirror) for n, copy in enumerate(batch) if copy.start == start]
                finite.append(_add(grid, augmentation, ring, start, own, agreement))
                del own  # the logits go before the next batch comes
            del logits_BK
    return torch.stack(finite).all()


def _add(
    grid: PatchGrid,
    augmentation: TestTimeAugmentation,
    ring: RingBuffer,
    start: Start,
    logits: list[tuple[Tensor, tuple[int, ...]]],
    agreement: PassAgreement | None,
) -> Tensor:
    """Add the copies of one patch, with their mirrored axes, to the ring buffer; whether they were finite."""
    if augmentation.probabilities:
        logits = [(_probabilities(logits_K.float(), augmentation), mirror) for logits_K, mirror in logits]
    depth = grid.patch_shape[0]
    count = REORDERED if logits[0][0].device.type == "cpu" else DEVICE_REORDERED
    step = max(1, count * depth // logits[0][0].numel())
    sums = []
    with torch.inference_mode():
        for dz in range(0, depth, step):
            last = min(dz + step, depth)
            total: Tensor | None = None
            for logits_K, mirror in logits:
                slices = _upright(logits_K, mirror, grid, augmentation, dz, last)
                if agreement is not None:
                    agreement.add(start, dz, slices)
                total = slices if total is None else total + slices
            assert total is not None
            sums.append(total.sum())
            ring.add(start, dz, total, augmentation.share)
        return torch.isfinite(torch.stack(sums)).all()


def _probabilities(logits_C: Tensor, augmentation: TestTimeAugmentation) -> Tensor:
    """Probabilities of the classes; the channels of an instance head stay as they are."""
    classes = len(logits_C) - augmentation.head
    logits_K = logits_C[:classes]
    probabilities = logits_K.sigmoid() - 0.5 if augmentation.regions else logits_K.softmax(0)
    return torch.cat([probabilities, logits_C[classes:]]) if augmentation.head else probabilities


def _averaged(values_C: Tensor, augmentation: TestTimeAugmentation) -> Tensor:
    """The classes, and the distance of an instance head where that is wanted."""
    if not augmentation.head:
        return values_C
    classes = values_C[: len(values_C) - augmentation.head]
    return torch.cat([classes, values_C[-1:]]) if augmentation.distance else classes


def _mirrored(patch_C: Tensor, mirror: tuple[int, ...]) -> Tensor:
    return patch_C.flip([axis + 1 for axis in mirror]) if mirror else patch_C


def _upright(
    values_K: Tensor, mirror: tuple[int, ...], grid: PatchGrid, augmentation: TestTimeAugmentation, dz: int, last: int
) -> Tensor:
    """Slices `dz` to `last` of a patch, no longer mirrored: classes and perhaps the distance ``(C, n, q, r)`` float32."""
    view, axes = grid.streaming_view(values_K, mirror), grid.streamed_axes(mirror)
    depth = view.shape[1]
    slices = view[:, depth - last : depth - dz] if 1 in axes else view[:, dz:last]
    slices = _averaged(slices, augmentation).to(torch.float32, memory_format=torch.contiguous_format)
    if augmentation.side_axis in mirror:
        slices = swap_sides(slices, augmentation.mirror_map)
    return slices.flip(axes) if axes else slices
