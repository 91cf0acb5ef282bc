"""Several teams as one answer: the mean of their probabilities on the scan's own grid, slab by slab.

Models of different plans (2D slices and 3D windows, another spacing) meet where all of them must arrive: on the scan's own
voxels, as nnU-Net ensembles its configurations (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z). The teams stream along one
axis of the scan and in one direction, each through its own ring; whoever lags works on until its next slices are finished. So
memory holds the rings, which each team has anyway, and one slab of probabilities, never a volume of them, on disk or in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from voxelry.base.threads import run_slabs
from voxelry.errors import ModelError
from voxelry.inference.engine import Exit
from voxelry.inference.mixed_kernels import settle
from voxelry.inference.plan_ensemble import Job
from voxelry.inference.ring_buffer import Ring
from voxelry.inference.slice_writer import Outlet, Sink

SUMMED = 64 << 20
"""Bytes of probabilities summed at a time, or a single slice of all classes where that is more."""


def summed_bytes(device: torch.device) -> int:
    """Of a voxel and class in the slab: the sum, and what a GPU sends to be added."""
    return 4 if device.type == "cpu" else 8


def aligned(jobs: Sequence[Job]) -> list[Job]:
    """The jobs of several teams on one scan, streaming along one axis of it in one direction: the one with the smallest rings.

    Raises:
        ModelError: there is none, since the teams bring scans to opposite orientations.
    """
    if len(jobs) == 1:
        return list(jobs)
    choices = []
    for axis in range(jobs[0].volume.geometry.ndim):
        moved = [job.along(job.preparation.reorder.order.index(axis)) for job in jobs]
        if len({job.frame()[0] for job in moved}) == 1:
            choices.append(moved)
    if not choices:
        codes = ", ".join(str(job.team.plan.orientation) for job in jobs)
        raise ModelError(
            f"members bring scans to opposite orientations ({codes})",
            remedy="Average models planned with one orientation.",
        )
    return min(choices, key=lambda moved: sum(job.layout.held * math.prod(job.layout.shape[1:]) for job in moved))


class Shares:
    """The finished slices of one team's ring, which are taken from it as probabilities; what `Outlet` is to labels.

    Args:
        ring: where sums lie.
        job: whose they are.
        share: of this team in the mean.
    """

    def __init__(self, ring: Ring, job: Job, share: float) -> None:
        self.ring, self.cube, self.share = ring, job.cube(), share
        self.finished, self.ready = 0, 0

    def advance(self, upto: int) -> None:
        """Slices below `upto` are finished, and new slices that lie between them may be taken until the next sheet of windows."""
        self.ring.finish(self.finished, upto)
        self.finished = upto
        self.ready = int(np.searchsorted(self.cube[0].above, upto))

    def add(self, first: int, last: int, sums: NDArray[np.float32]) -> None:
        """Add the share of new slices `first` to `last` to ``(K, last - first, Y', X')``."""
        self.ring.spread(self.cube, first, last, self.share, sums)


class Alone:
    """One team's answer, straight from its ring.

    Args:
        job: what is done.
        ring: where sums lie.
        slab: new slices at a time.
        sink: where labels, in the job's streaming order, go.
        trust: ``probability`` or ``entropy`` for a map beside the labels; empty for none.

    Attributes:
        exits: where the job's finished slices leave.
    """

    def __init__(self, job: Job, ring: Ring, slab: int, sink: Sink, trust: str) -> None:
        self.exits: Sequence[Exit] = [Outlet(ring, job.cube(), slab, sink, trust)]
        self._ring = ring

    @property
    def total(self) -> NDArray[np.float64]:
        """As of `Mixture`."""
        return self._ring.total

    @property
    def won(self) -> NDArray[np.int64]:
        """As of `Mixture`."""
        return self._ring.won

    def run(self, steps: Sequence[Iterator[int]]) -> Iterator[int]:
        """Do the job's work; yields how many windows are done."""
        (work,) = steps
        yield from work


class Mixture:
    """Brings teams together.

    Args:
        jobs: aligned; their streaming axes may differ across slices.
        rings: one a job.
        slab: new slices at a time, at most.
        sink: where labels, in the first job's streaming order, go.
        trust: ``probability`` or ``entropy`` for a map beside the labels; empty for none.

    Attributes:
        exits: where each job's finished slices leave.
        total: ``(K,)`` float64, summed probabilities of voxels that each class won; background is left out.
        won: ``(K,)`` int64, how many those were.
    """

    def __init__(self, jobs: Sequence[Job], rings: Sequence[Ring], slab: int, sink: Sink, trust: str) -> None:
        self._shares = [Shares(ring, job, 1 / len(jobs)) for ring, job in zip(rings, jobs, strict=True)]
        self.exits: Sequence[Exit] = self._shares
        self._turns = [_turn(jobs[0].frame(), job.frame()) for job in jobs]
        along, *plane = (len(cells) for cells in self._shares[0].cube)
        classes = jobs[0].team.classes
        self._size, self._plane = along, tuple(plane)
        self._slab = max(1, min(slab, SUMMED // (4 * classes * math.prod(plane))))
        self._sums = np.empty((classes, self._slab, *plane), np.float32).reshape(-1)
        self._sink, self._trust, self._regions = sink, trust, bool(jobs[0].team.plan.regions)
        self.total, self.won = np.zeros(classes), np.zeros(classes, np.int64)

    def run(self, steps: Sequence[Iterator[int]]) -> Iterator[int]:
        """Do the jobs' work, in step.

        Args:
            steps: one a job.

        Yields:
            How many windows are done.
        """
        done, first = [0] * len(steps), 0
        while first < self._size:
            for number, (exit, work) in enumerate(zip(self._shares, steps, strict=True)):
                while exit.ready <= first:  # everything before was taken, so its ring may go on
                    done[number] = next(work)
                    yield sum(done)
            last = min(first + self._slab, *(exit.ready for exit in self._shares))
            self._leave(first, last)
            first = last

    def _leave(self, first: int, last: int) -> None:
        """New slices `first` to `last` of all teams become labels."""
        count = len(self.total)
        shape = (count, last - first, *self._plane)
        sums = self._sums[: math.prod(shape)].reshape(shape)
        sums[:] = 0
        for exit, (order, flips) in zip(self._shares, self._turns, strict=True):
            exit.add(first, last, sums.transpose(order)[(slice(None), slice(None), *flips)])
        flat, labels = sums.reshape(count, -1), np.empty(shape[1:], np.uint16)
        trust = np.empty(shape[1:] if self._trust else (0, 0, 0), np.uint8)
        parts: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []

        def work(low: int, high: int) -> None:
            total, won = np.zeros_like(self.total), np.zeros_like(self.won)
            settle(flat, low, high, self._regions, self._trust == "entropy", labels.reshape(-1), trust.reshape(-1), total, won)
            parts.append((total, won))

        run_slabs(work, flat.shape[1])
        for total, won in parts:
            self.total += total
            self.won += won
        self._sink(first, labels, trust if self._trust else None)


def _turn(base: Sequence[tuple[int, bool]], other: Sequence[tuple[int, bool]]) -> tuple[tuple[int, ...], tuple[slice, slice]]:
    """How ``(K, S, Y, X)`` in one job's streaming order is seen in another's: axes, and whether Y and X are reversed."""
    if len(base) < 3:
        return (0, 1, 2, 3), (slice(None), slice(None))  # pictures are never turned
    places = [[axis for axis, _ in base].index(axis) for axis, _ in other[1:]]
    flips = [base[place][1] != flip for place, (_, flip) in zip(places, other[1:], strict=True)]
    first, second = (slice(None, None, -1 if flip else 1) for flip in flips)
    return (0, 1, 1 + places[0], 1 + places[1]), (first, second)
