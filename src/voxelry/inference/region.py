"""Which windows are worth looking at: a map of blocks where something is, made before the windows are run."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.inference.engine import Member
from voxelry.inference.forward import Batches
from voxelry.inference.patches import Layout, Start, upload
from voxelry.preparation.slice_stream import SliceStream

BLOCK = 8
"""Voxels along the edge of a block of the map."""

MARGIN = 2
"""Blocks around what the coarse pass found that are looked at too."""

AIR = 0.02
"""What lies within this share of the range above a channel's smallest value is taken for air."""

Blocks = NDArray[np.bool_]


class Region:
    """Blocks of a prepared scan where something is.

    Args:
        blocks: ``(*blocks)`` bool, in the network's order, each for `BLOCK` voxels along every axis.
        layout: the windows.
    """

    def __init__(self, blocks: Blocks, layout: Layout) -> None:
        self.blocks, self.layout = blocks, layout

    def keeps(self, start: Start) -> bool:
        """Whether a window holds any such block, or a part of one."""
        order = self.layout.order
        placed = dict(zip(order, start if len(order) == 3 else (start[0], start[2]), strict=True))
        inside = tuple(
            slice(placed[axis] // BLOCK, -(-(placed[axis] + size) // BLOCK)) for axis, size in enumerate(self.layout.window)
        )
        return bool(self.blocks[inside].any())

    @property
    def is_empty(self) -> bool:
        """Nothing was found anywhere."""
        return not self.blocks.any()


def body(slabs: SliceStream, layout: Layout) -> Region:
    """Where any channel is more than air.

    After clipping (CT) air has one value, the smallest; elsewhere it is noise just above it. A window is left out only if not a
    single voxel of it is more, so that every other voxel is seen by all the windows that would see it.

    Args:
        slabs: the scan, prepared.
        layout: the windows.
    """
    depth = layout.shape[0]
    found = [_extremes(slabs.slices(first, min(first + BLOCK, depth))) for first in range(0, depth, BLOCK)]
    low = np.min([one for one, _ in found], axis=0)
    peaks_C = np.concatenate([one for _, one in found], axis=1 + layout.axis)
    high = peaks_C.max(axis=tuple(range(1, peaks_C.ndim)))
    limits = (low + AIR * (high - low)).reshape(-1, *(1,) * (peaks_C.ndim - 1))
    return Region((peaks_C > limits).any(axis=0), layout)


def coarse(
    member: Member,
    layout: Layout,
    batches: Batches,
    device: torch.device,
    progress: ProgressCallback = no_progress,
) -> Region:
    """Where windows that lie side by side, without overlap and not mirrored, find any label, and `MARGIN` blocks around it.

    Args:
        member: the network and what it sees, the first of an ensemble.
        layout: the windows of the pass that follows.
        batches: how many at a time.
        device: where it is.
        progress: called as patches are done.
    """
    wide = Layout(layout.size, layout.window, 1.0, layout.axis, layout.weighting)
    blocks = np.zeros([-(-size // BLOCK) for size in layout.size], dtype=bool)
    done = 0
    for along in wide.sheets:
        starts = [start for s in along for start in wide.sheet(s)]
        for first in range(0, len(starts), batches.size):
            some = starts[first : first + batches.size]
            windows_BC = upload([member.window(wide, start) for start in some], device)
            for begin, logits_BK in batches.run(member.forward, windows_BC):
                for start, logits_K in zip(some[begin:], logits_BK, strict=False):
                    _mark(blocks, wide, start, wide.turned(logits_K))
            done += len(some)
            progress("patches", done, wide.count)
    return Region(binary_dilation(blocks, np.ones((3,) * blocks.ndim, bool), iterations=MARGIN), layout)


def _mark(blocks: Blocks, layout: Layout, start: Start, turned_K: torch.Tensor) -> None:
    found = torch.zeros(turned_K.shape[1:], dtype=torch.bool, device=turned_K.device)
    for label in turned_K[1:]:
        found |= label > turned_K[0]
    places = found.nonzero().cpu().numpy() + np.array(start)
    keep = [0, 1, 2] if len(layout.order) == 3 else [0, 2]
    turned_back = np.argsort(layout.order)
    blocks[tuple((places[:, keep] // BLOCK).T[turned_back])] = True


def _extremes(part_C: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The smallest value of each channel, and the largest of each block of each channel."""
    low = part_C.min(axis=tuple(range(1, part_C.ndim)))
    for axis in range(1, part_C.ndim):
        part_C = np.maximum.reduceat(part_C, np.arange(0, part_C.shape[axis], BLOCK), axis=axis)
    return low, part_C
