"""Region of interest: selects the patches to run by a map of blocks that hold the body, or labels of a coarse pass."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.inference.engine import Member
from voxelry.inference.forward import Batches
from voxelry.inference.patches import PatchGrid, Start, upload
from voxelry.preparation.slice_stream import SliceStream

BLOCK = 8
"""Voxels along the edge of a block of the map."""

MARGIN = 2
"""Blocks around those that the coarse pass labelled that are run too."""

AIR = 0.02
"""Values within this share of the range above a channel's smallest value are taken for air."""

Blocks = NDArray[np.bool_]


class RoiBlocks:
    """Blocks of a prepared scan that are of interest.

    Args:
        blocks: ``(*blocks)`` bool, in the network's axis order, each for `BLOCK` voxels along every axis.
        grid: the patches.
    """

    def __init__(self, blocks: Blocks, grid: PatchGrid) -> None:
        self.blocks, self.grid = blocks, grid

    def keeps(self, start: Start) -> bool:
        """Whether a patch holds any such block, or a part of one."""
        corner = self.grid.corner(start)
        inside = tuple(slice(corner[axis] // BLOCK, -(-(corner[axis] + p) // BLOCK)) for axis, p in enumerate(self.grid.patch))
        return bool(self.blocks[inside].any())

    @property
    def is_empty(self) -> bool:
        """Whether no block is of interest."""
        return not self.blocks.any()


def body_roi(image: SliceStream, grid: PatchGrid) -> RoiBlocks:
    """Blocks where any channel is more than air.

    After clipping (CT) air has one value, the smallest; elsewhere it is noise just above it. A patch is left out only if not a
    single voxel of it is more, so that every other voxel gets all the patches that it would get without a region of interest.

    Args:
        image: the scan, prepared.
        grid: the patches.
    """
    depth = grid.shape[0]
    extremes = [_extremes(image.slices(first, min(first + BLOCK, depth))) for first in range(0, depth, BLOCK)]
    low = np.min([low_C for low_C, _ in extremes], axis=0)
    peaks_C = np.concatenate([peak_C for _, peak_C in extremes], axis=1 + grid.axis)
    high = peaks_C.max(axis=tuple(range(1, peaks_C.ndim)))
    limits = (low + AIR * (high - low)).reshape(-1, *(1,) * (peaks_C.ndim - 1))
    return RoiBlocks((peaks_C > limits).any(axis=0), grid)


def coarse_roi(
    member: Member,
    grid: PatchGrid,
    batches: Batches,
    device: torch.device,
    progress: ProgressCallback = no_progress,
    head: int = 0,
) -> RoiBlocks:
    """Blocks in which patches without overlap or mirroring predict any label, and `MARGIN` blocks around them.

    Args:
        member: the first network of an ensemble, and its input.
        grid: the patches of the pass that follows.
        batches: runs patches through the network.
        device: where it is.
        progress: called as patches are done.
        head: channels of an instance head behind the classes.
    """
    coarse = PatchGrid(grid.size, grid.patch, 0.0, grid.axis, grid.weighting)
    blocks = np.zeros([-(-size // BLOCK) for size in grid.size], dtype=bool)
    done = 0
    for along in coarse.sheets:
        starts = [start for s in along for start in coarse.sheet(s)]
        for first in range(0, len(starts), batches.size):
            batch = starts[first : first + batches.size]
            patches_BC = upload([member.patch(coarse, start) for start in batch], device)
            for begin, logits_BK in batches.run(member.forward, patches_BC):
                for start, logits_K in zip(batch[begin:], logits_BK, strict=False):
                    _mark(blocks, coarse, start, coarse.streaming_view(logits_K[: len(logits_K) - head]))
            done += len(batch)
            progress("patches", done, coarse.count)
    return RoiBlocks(binary_dilation(blocks, np.ones((3,) * blocks.ndim, bool), iterations=MARGIN), grid)


def _mark(blocks: Blocks, grid: PatchGrid, start: Start, logits_K: torch.Tensor) -> None:
    """Mark the blocks that hold a voxel, in streaming order, with a label above the background."""
    labelled = torch.zeros(logits_K.shape[1:], dtype=torch.bool, device=logits_K.device)
    for label in logits_K[1:]:
        labelled |= label > logits_K[0]
    voxels = labelled.nonzero().cpu().numpy() + np.array(start)
    axes = [0, 1, 2] if len(grid.order) == 3 else [0, 2]
    network_order = np.argsort(grid.order)
    blocks[tuple((voxels[:, axes] // BLOCK).T[network_order])] = True


def _extremes(slab_C: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The smallest value of each channel, and the largest of each block of each channel."""
    low = slab_C.min(axis=tuple(range(1, slab_C.ndim)))
    for axis in range(1, slab_C.ndim):
        slab_C = np.maximum.reduceat(slab_C, np.arange(0, slab_C.shape[axis], BLOCK), axis=axis)
    return low, slab_C
