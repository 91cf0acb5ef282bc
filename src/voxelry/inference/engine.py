"""The window engine: windows in slice order, sums in a ring, finished slices out as labels.

Sums are linear, so every copy of a window (mirrored, or of another member of an ensemble) goes straight into the ring with its
share: nothing is kept per copy.
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
from voxelry.inference.cascade import Found
from voxelry.inference.forward import Batches, Forward, swapped
from voxelry.inference.patches import Layout, Start, upload
from voxelry.inference.ring_buffer import Ring
from voxelry.preparation.slice_stream import SliceStream

SLICED, DEVICE_SLICED = 1 << 21, 1 << 23
"""Numbers turned into streaming order at a time; on a GPU more, since each step costs it the same few launches."""


@dataclass(frozen=True, eq=False)
class Member:
    """A network and what it sees.

    Attributes:
        forward: the network.
        slabs: the scan, prepared; members that prepare alike share it.
        found: of the second stage of a cascade what the first one found: one more channel, of class indices.
    """

    forward: Forward
    slabs: SliceStream
    found: Found | None = None

    def window(self, layout: Layout, start: Start, mirrored: bool = False) -> Tensor:
        """What the network sees of a window, ``(C, *window)``; `mirrored` where left and right are to be swapped."""
        window_C = layout.cut(self.slabs, start)
        if self.found is not None:
            window_C = np.concatenate([window_C, self.found.window(layout, start, mirrored)])
        return torch.from_numpy(window_C)


@dataclass(frozen=True)
class Copies:
    """In how many ways each window is seen.

    Attributes:
        members: of an ensemble; one for a single model.
        mirrors: sets of axes to mirror a window along; the empty set is the window itself.
        twins: class that each class becomes when left and right are swapped.
        side_axis: the axis from one side of the body to the other.
        probabilities: average probabilities; else logits.
        regions: whether classes are regions, whose probabilities are averaged less one half.
    """

    members: Sequence[Member]
    mirrors: Sequence[tuple[int, ...]]
    twins: tuple[int, ...]
    side_axis: int
    probabilities: bool = False
    regions: bool = False

    @property
    def share(self) -> float:
        """Of one copy in the sum."""
        return 1 / (len(self.members) * len(self.mirrors))


@dataclass(frozen=True)
class _Seen:
    """A window as the network sees it: where it begins, and along which axes it is mirrored."""

    start: Start
    mirror: tuple[int, ...]


class Exit(Protocol):
    """Where finished slices leave: `outlet.Outlet` as labels, `mixed.Shares` as probabilities."""

    def advance(self, upto: int) -> None:
        """Slices below `upto` are finished."""


def stream(
    layout: Layout,
    copies: Copies,
    ring: Ring,
    outlet: Exit,
    batches: Batches,
    device: torch.device,
    kept: Callable[[Start], bool] = lambda _: True,
) -> Iterator[int]:
    """Run every window through the networks and let finished slices leave, sheet by sheet as it is iterated over.

    Args:
        layout: the windows.
        copies: how each is seen.
        ring: of `layout`, empty.
        outlet: of `ring`.
        batches: how many at a time.
        device: where the networks are.
        kept: which windows are looked at; the others are background.

    Yields:
        How many windows are done, after each sheet, whose finished slices have left.

    Raises:
        ModelError: a network gave a number that is not finite.
        BudgetError: the device's memory does not hold one window.
    """
    depth, size = layout.reach[0], layout.shape[0]
    filled, done = 0, 0
    for number, along in enumerate(layout.sheets):
        ring.clear(filled, along[-1] + depth)
        filled = along[-1] + depth
        starts = [start for s in along for start in layout.sheet(s) if kept(start)]
        finite = [_run(layout, copies, ring, batches, device, seen) for seen in _grouped(starts, copies.mirrors, batches)]
        if finite and not bool(torch.stack(finite).all()):
            raise ModelError(
                "the network gave a number that is not finite", remedy="Switch mixed precision off, or train the model anew."
            )
        done += layout.count * len(along) // len(layout.starts[0])
        outlet.advance(layout.sheets[number + 1][0] if number + 1 < len(layout.sheets) else size)
        give_back_freed_memory()
        yield done


def _grouped(starts: Sequence[Start], mirrors: Sequence[tuple[int, ...]], batches: Batches) -> Iterator[list[_Seen]]:
    """Copies of windows in batches, those of one window beside each other."""
    every = [_Seen(start, mirror) for start in starts for mirror in mirrors]
    while every:
        size = batches.size  # it may shrink from one batch to the next
        yield every[:size]
        every = every[size:]


def _run(layout: Layout, copies: Copies, ring: Ring, batches: Batches, device: torch.device, seen: list[_Seen]) -> Tensor:
    """A batch into the ring; whether every number was finite, as a tensor, since asking a GPU is waiting for it."""
    finite = []
    for one in seen:
        if not one.mirror:
            ring.weigh(one.start)
    for member in copies.members:
        cut = [member.window(layout, one.start, copies.side_axis in one.mirror) for one in seen]
        windows_BC = upload([_mirrored(window_C, one.mirror) for window_C, one in zip(cut, seen, strict=True)], device)
        for first, logits_BK in batches.run(member.forward, windows_BC):
            part = seen[first : first + len(logits_BK)]
            for start in dict.fromkeys(one.start for one in part):
                mine = [(logits_BK[n], one.mirror) for n, one in enumerate(part) if one.start == start]
                finite.append(_add(layout, copies, ring, start, mine))
                del mine  # the logits go before the next batch comes
            del logits_BK
    return torch.stack(finite).all()


def _add(layout: Layout, copies: Copies, ring: Ring, start: Start, mine: list[tuple[Tensor, tuple[int, ...]]]) -> Tensor:
    """Add the copies of one window to the ring, some slices at a time; whether they were finite."""
    if copies.probabilities:
        mine = [(_probabilities(logits_K.float(), copies.regions), mirror) for logits_K, mirror in mine]
    depth = layout.reach[0]
    step = max(1, (SLICED if mine[0][0].device.type == "cpu" else DEVICE_SLICED) * depth // mine[0][0].numel())
    sums = []
    with torch.inference_mode():
        for dz in range(0, depth, step):
            last = min(dz + step, depth)
            total = _upright(*mine[0], layout, copies, dz, last)
            for logits_K, mirror in mine[1:]:
                total = total + _upright(logits_K, mirror, layout, copies, dz, last)
            sums.append(total.sum())
            ring.add(start, dz, total, copies.share)
        return torch.isfinite(torch.stack(sums)).all()


def _probabilities(logits_K: Tensor, regions: bool) -> Tensor:
    return logits_K.sigmoid() - 0.5 if regions else logits_K.softmax(0)


def _mirrored(window_C: Tensor, mirror: tuple[int, ...]) -> Tensor:
    return window_C.flip([axis + 1 for axis in mirror]) if mirror else window_C


def _upright(values_K: Tensor, mirror: tuple[int, ...], layout: Layout, copies: Copies, dz: int, last: int) -> Tensor:
    """Slices `dz` to `last` of a window, ``(K, n, q, r)`` float32 in streaming order, no longer mirrored."""
    view, axes = layout.turned(values_K, mirror), layout.streamed_axes(mirror)
    depth = view.shape[1]
    part = view[:, depth - last : depth - dz] if 1 in axes else view[:, dz:last]
    part = part.to(torch.float32, memory_format=torch.contiguous_format)
    if copies.side_axis in mirror:
        part = swapped(part, copies.twins)
    return part.flip(axes) if axes else part
