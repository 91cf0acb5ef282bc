"""Patch positions, order and weights of sliding-window inference: `PatchGrid`.

Patches stream along one axis of the network's grid, S, chosen so that the ring buffer of sums is smallest; Y and X are the other
two axes. A picture has a single Y. Positions and weights are those of MONAI's `sliding_window_inference`, the tests' oracle.
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

from voxelry.core.patch import patch_margins
from voxelry.core.plan import Convention
from voxelry.preparation.slice_stream import SliceStream

GAUSSIAN_SIGMA = 0.125
"""Standard deviation of a patch's Gaussian weights, as a share of its edge (Isensee et al. 2021)."""

SMALLEST_WEIGHT: dict[Convention, float] = {"voxelry": 1e-3, "nnunet": 2.0**-24 / 10}
"""Of a patch's Gaussian weights, whose largest is 1. nnU-Net's are half floats whose largest is 10, and none is 0."""

SMALLEST_IN_HALF = 1e-6
"""Of the weights whose sums are half floats, which would lose smaller ones."""

SHEETS_AT_A_TIME = 16
"""Sheets of patches one voxel deep that run together: batches are full, and slices are made and restored many at a time."""

Start = tuple[int, int, int]
Weighting = Literal["gaussian", "constant"]


@dataclass(frozen=True)
class PatchGrid:
    """The patches of one prepared scan: positions, order and weights.

    Patches that begin at the same voxel of S are a sheet.

    Args:
        size: ``(*spatial)`` voxels of the prepared scan, in the network's axis order.
        patch: ``(*spatial)`` voxels of a patch; a smaller scan lies in the middle of one padded patch.
        overlap: overlap of neighbouring patches, as a share of a patch, 0 to below 1.
        axis: the axis along which patches stream.
        weighting: ``gaussian`` or ``constant``.
        convention: ``nnunet`` puts patches at even distances, and the middle of their weights half a voxel further.
    """

    size: tuple[int, ...]
    patch: tuple[int, ...]
    overlap: float
    axis: int
    weighting: Weighting = "gaussian"
    convention: Convention = "voxelry"

    @classmethod
    def of(
        cls,
        size: Sequence[int],
        patch: Sequence[int],
        overlap: float,
        weighting: Weighting = "gaussian",
        convention: Convention = "voxelry",
    ) -> PatchGrid:
        """The grid along the axis that needs the smallest ring buffer."""
        grids = [cls(tuple(size), tuple(patch), overlap, axis, weighting, convention) for axis in range(len(size))]
        return min(grids, key=lambda grid: grid.ring_plane_voxels)

    @cached_property
    def sheets_at_a_time(self) -> int:
        """Sheets that run together: several where patches are one slice deep."""
        return SHEETS_AT_A_TIME if self.patch[self.axis] == 1 else 1

    @cached_property
    def depth(self) -> int:
        """Slices that the patches of the sheets at a time lie on."""
        return min(self.patch_shape[0] + self.sheets_at_a_time - 1, self.shape[0])

    @property
    def ring_shape(self) -> Start:
        """``(slots, Y, X)`` of the ring buffer: one slice more than patches lie on, for interpolation."""
        return (self.depth + 1, *self.shape[1:])

    @property
    def ring_plane_voxels(self) -> int:
        """Voxels of the slices that patches lie on, by which streaming axes are compared."""
        return self.depth * math.prod(self.shape[1:])

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The network's axis that becomes S, then those that become Y and X (X alone for a picture)."""
        return (self.axis, *(axis for axis in range(len(self.size)) if axis != self.axis))

    @cached_property
    def shape(self) -> Start:
        """``(S, Y, X)`` of the prepared scan."""
        return self.streamed(self.size)

    @cached_property
    def patch_shape(self) -> Start:
        """``(S, Y, X)`` of the part of a patch that lies on the scan, without padding."""
        return self.streamed(tuple(min(n, p) for n, p in zip(self.size, self.patch, strict=True)))

    def streamed(self, values: Sequence[int]) -> Start:
        """Numbers in the network's axis order as ``(S, Y, X)``; Y is 1 for a picture."""
        moved = [values[axis] for axis in self.order]
        return (moved[0], moved[1], moved[2]) if len(moved) == 3 else (moved[0], 1, moved[1])

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """First voxels of patches along S, Y and X."""
        along = [self._along(n, p) for n, p in zip(self.size, self.patch, strict=True)]
        moved = [along[axis] for axis in self.order]
        return (moved[0], moved[1], moved[2]) if len(moved) == 3 else (moved[0], (0,), moved[1])

    def _along(self, size: int, patch: int) -> tuple[int, ...]:
        """First voxels of patches along an axis."""
        return (_even_starts if self.convention == "nnunet" else _starts)(size, patch, self.overlap)

    @property
    def count(self) -> int:
        """Number of patches."""
        return math.prod(len(starts) for starts in self.starts)

    @cached_property
    def sheets(self) -> tuple[tuple[int, ...], ...]:
        """First voxels of sheets along S, grouped by the sheets that run together."""
        along = self.starts[0]
        return tuple(along[first : first + self.sheets_at_a_time] for first in range(0, len(along), self.sheets_at_a_time))

    def sheet(self, s: int) -> Iterator[Start]:
        """The patches that begin at `s` along S."""
        for y, x in itertools.product(*self.starts[1:]):
            yield (s, y, x)

    def corner(self, start: Start) -> dict[int, int]:
        """First voxel of a patch, by the network's axis."""
        return dict(zip(self.order, start if len(self.order) == 3 else (start[0], start[2]), strict=True))

    def cut(self, image: SliceStream, start: Start) -> NDArray[np.float32]:
        """A patch of the scan, ``(C, *patch)``, padded with 0 where the scan is smaller.

        All patches that run together ask `image` for the same slices.
        """
        first = start[0] - start[0] % self.sheets_at_a_time if self.sheets_at_a_time > 1 else start[0]
        slab_C = image.slices(first, min(first + self.depth, self.shape[0]))
        corner = self.corner((start[0] - first, *start[1:]))
        box = tuple(slice(corner[axis], corner[axis] + p) for axis, p in enumerate(self.patch))
        voxels = slab_C[(slice(None), *box)]
        if voxels.shape[1:] == self.patch:
            return np.ascontiguousarray(voxels)
        return np.pad(voxels, [(0, 0), *self._padding])

    @cached_property
    def _padding(self) -> list[tuple[int, int]]:
        return patch_margins(self.size, self.patch)

    def streaming_view(self, values_K: Tensor, mirror: Sequence[int] = ()) -> Tensor:
        """The part of a patch that lies on the scan, in streaming order.

        Args:
            values_K: ``(K, *patch)`` in the network's axis order.
            mirror: axes (the network's) along which the patch is mirrored; it stays so.

        Returns:
            A view ``(K, *patch_shape)``.
        """
        slices = [slice(None)]
        for axis, (before, after) in enumerate(self._padding):
            first = after if axis in mirror else before
            slices.append(slice(first, first + self.patch[axis] - before - after))
        view = values_K[tuple(slices)].permute(0, *(axis + 1 for axis in self.order))
        return view if view.ndim == 4 else view[:, :, None]

    def streamed_axes(self, axes: Sequence[int]) -> tuple[int, ...]:
        """The network's axes as axes of ``(K, S, Y, X)``."""
        array_axes = (1, 2, 3) if len(self.order) == 3 else (1, 3)
        return tuple(array_axes[self.order.index(axis)] for axis in axes)

    @cached_property
    def weights(self) -> Tensor:
        """``patch_shape`` float32: weights of a patch's voxels, scaled so that no voxel's weights sum to more than 1."""
        if self.weighting == "constant":
            lines = [torch.ones(p) for p in self.patch]
            whole = torch.ones(self.patch)
        else:
            middles = [p // 2 if self.convention == "nnunet" else (p - 1) / 2 for p in self.patch]
            lines = [_gaussian(p, middle) for p, middle in zip(self.patch, middles, strict=True)]
            whole = lines[0]
            for line in lines[1:]:
                whole = whole[..., None] * line
            if self.convention == "nnunet":
                whole = (10 * whole).half().float() / 10
            whole = whole.clamp(min=max(float(whole.min()), SMALLEST_WEIGHT[self.convention]))
        bound, copies = 1.0, 1
        for line, n, p in zip(lines, self.size, self.patch, strict=True):
            starts = self._along(n, p)
            total, times = torch.zeros(max(n, p)), torch.zeros(max(n, p))
            for start in starts:
                total[start : start + p] += line
                times[start : start + p] += 1
            bound, copies = bound * float(total.max()), copies * int(times.max())
        return self.streaming_view((whole / (bound + SMALLEST_WEIGHT[self.convention] * copies))[None])[0].contiguous()


def _starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """First voxels of patches along an axis; the last patch ends at the last voxel."""
    if size <= patch:
        return (0,)
    stride = max(1, int(patch * (1 - overlap)))
    return (*range(0, size - patch, stride), size - patch)


def _even_starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """First voxels of as few patches as overlap at least so much, at even distances."""
    if size <= patch:
        return (0,)
    if patch == 1:
        return tuple(range(size))
    last = math.ceil((size - patch) / (patch * (1 - overlap)))
    return tuple(round(number * (size - patch) / last) for number in range(last + 1))


def _gaussian(patch: int, middle: float) -> Tensor:
    """``(patch,)`` weights along an axis, 1 in the `middle`."""
    distance = torch.arange(patch, dtype=torch.float32) - middle
    return torch.exp(-(distance**2) / (2 * (GAUSSIAN_SIGMA * patch) ** 2))


def summable(weights: Tensor | None, half: bool) -> Tensor | None:
    """The weights of a patch, none of them too small for sums in half floats, if they are."""
    return weights if weights is None or not half else weights.clamp(min=SMALLEST_IN_HALF * float(weights.max()))


def upload(patches_C: Sequence[Tensor], device: torch.device) -> Tensor:
    """Patches as a batch on a device; a GPU copies them asynchronously."""
    if device.type != "cuda":
        return torch.stack(list(patches_C)).to(device)
    batch_BC = torch.empty((len(patches_C), *patches_C[0].shape), pin_memory=True)
    return torch.stack(list(patches_C), out=batch_BC).to(device, non_blocking=True)


def mirror_sets(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Every subset of the axes to mirror a patch along, the empty one first."""
    return [chosen for n in range(len(axes) + 1) for chosen in itertools.combinations(axes, n)]
