"""The network's topology: how many stages it has and along which axes each halves, by nnU-Net's rules.

Isensee et al. 2021 (doi:10.1038/s41592-020-01008-z), supplementary note 2: an axis is halved while it stays 4 voxels long and
is less than twice as coarse as the finest; a kernel is 3 voxels long on an axis once that axis is as fine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST_EDGE = 4
"""Voxels that an axis keeps in the coarsest stage."""


@dataclass(frozen=True)
class Topology:
    """Strides and kernels of each stage along each axis; the first stage's strides are 1."""

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @property
    def divisor(self) -> tuple[int, ...]:
        """The number that each axis of a patch must be divisible by."""
        return tuple(math.prod(along) for along in zip(*self.strides, strict=True))

    def across(self, axis: int) -> Topology:
        """The same on slices that lie across `axis` of a volume: strides and kernels are 1 along it."""
        tables = (self.strides, self.kernels)
        return Topology(*(tuple((*sizes[:axis], 1, *sizes[axis:]) for sizes in table) for table in tables))


def topology(patch: Sequence[float], spacing: Sequence[float], most: int | None = None) -> Topology:
    """Stages for a patch.

    Args:
        patch: size in voxels.
        spacing: mm along each axis.
        most: stages; None for as many as the patch allows.
    """
    size, now = list(patch), list(spacing)
    kernel = [1] * len(size)
    strides, kernels = [(1,) * len(size)], []
    while most is None or len(strides) < most:
        halved = _halved(size, now)
        if not any(halved):
            break
        coarse = 2 * min(now)
        kernel = [3 if s < coarse else wide for wide, s in zip(kernel, now, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if half else 1 for half in halved))
        size = [math.ceil(n / 2) if half else n for n, half in zip(size, halved, strict=True)]
        now = [s * 2 if half else s for s, half in zip(now, halved, strict=True)]
    return Topology(tuple(strides), (*kernels, (3,) * len(size)))


def halving(axes: int, stages: int) -> Topology:
    """Stages of a network that can only halve every axis.

    Args:
        axes: 2 or 3.
        stages: the first, which halves nothing, included.
    """
    return Topology(((1,) * axes, *((2,) * axes,) * (stages - 1)), ((3,) * axes,) * stages)


def padded(patch: Sequence[float], divisor: Sequence[int]) -> tuple[int, ...]:
    """A patch size rounded up to a multiple of the network's strides."""
    return tuple(math.ceil(edge / d) * d for edge, d in zip(patch, divisor, strict=True))


def _halved(size: list[float], spacing: list[float]) -> list[bool]:
    """Which axes the next stage halves; a single axis is halved only from 12 voxels on."""
    long = [s for n, s in zip(size, spacing, strict=True) if n >= 2 * SMALLEST_EDGE]
    coarse = 2 * min(long, default=0.0)
    halved = [n >= 2 * SMALLEST_EDGE and s < coarse for n, s in zip(size, spacing, strict=True)]
    if sum(halved) == 1 and size[halved.index(True)] < 3 * SMALLEST_EDGE:
        return [False] * len(size)
    return halved
