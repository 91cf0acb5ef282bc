"""A team: models of one plan, which see the same windows of a scan and are averaged window by window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from voxelry.base.device import compute_dtype
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.core.model import Model
from voxelry.core.plan import Normalisation
from voxelry.core.volume import Volume
from voxelry.inference.activation import window_bytes
from voxelry.inference.cascade import Found, spelling, spelt_out
from voxelry.inference.cells import Cells
from voxelry.inference.engine import Copies, Exit, Member, stream
from voxelry.inference.forward import Batches
from voxelry.inference.patches import Layout, mirrors
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.region import BLOCK, Region, body, coarse
from voxelry.inference.ring_buffer import Cube, Ring
from voxelry.inference.selection import Members
from voxelry.networks.classes import mirror_classes
from voxelry.networks.weights import network_of
from voxelry.preparation.preparation import Preparation, prepare
from voxelry.preparation.slice_stream import open_slice_stream, slice_stream_footprint

SHARED = (
    "dimensions", "channels", "configuration", "slice_axis", "orientation", "spacing", "long_side", "image_order", "coarse_axis",
    "patch_size", "regions",
)  # fmt: skip
"""What the models of a team share of their plans: how they lay a scan onto their grid, and what their classes are."""


def teams_of(models: Sequence[Model]) -> list[list[Model]]:
    """Models in the order given, those of one plan together."""
    teams: list[list[Model]] = []
    for model in models:
        mine = next((team for team in teams if all(_same(team[0], model, name) for name in SHARED)), None)
        if mine is None:
            teams.append([model])
        else:
            mine.append(model)
    return teams


def _same(one: Model, other: Model, name: str) -> bool:
    return bool(getattr(one.plan, name) == getattr(other.plan, name))


class Team:
    """Models of one plan, ready to compute; safe to use from several threads.

    Args:
        models: of one plan (`teams_of`) and one label table.
        device: where they compute.
        options: windows, backend.

    Attributes:
        networks: in evaluation mode, on the device.
        members: the networks as functions, by the backend chosen.
    """

    def __init__(self, models: Sequence[Model], device: torch.device, options: PredictOptions) -> None:
        self.models, self.device, self.options = tuple(models), device, options
        self.plan, self.labels = models[0].plan, models[0].labels
        self.networks = [network_of(one, device) for one in models]
        dtype, regions = compute_dtype(device, options.mixed_precision), bool(self.plan.regions)
        self.members = Members(self.networks, device, dtype, options.backend, regions)

    @property
    def classes(self) -> int:
        """K: classes of the networks, background included."""
        return len(self.labels) + 1

    @property
    def mirrors(self) -> list[tuple[int, ...]]:
        """Sets of axes to mirror windows along; across the slices of a slice-wise plan that would change nothing."""
        wanted = self.options.flips is None or self.options.flips
        return mirrors([axis for axis in self.plan.flips if axis != self.plan.slice_axis] if wanted else ())

    @cached_property
    def twins(self) -> tuple[int, ...]:
        """The network's class that each becomes when left and right are swapped, as mirrored windows may do."""
        swapped = any(self.plan.side_axis in axes for axes in self.mirrors)
        return mirror_classes(self.plan, self.labels) if swapped else tuple(range(self.classes))

    @cached_property
    def window_bytes(self) -> int:
        """Of a window: the network's peak, and what else is made of it on the way into the ring."""
        voxels, size = math.prod(self.plan.patch_size), window_bytes(self.networks[0], self.plan, self.classes, self.device)
        if self.options.average == "probabilities":
            size += 4 * self.classes * voxels
        if self.plan.configuration == "3d_cascade":
            size += 4 * self.classes * voxels
        return size

    def job(self, volume: Volume) -> Job:
        """A scan to be segmented, along the axis that takes the smallest ring.

        Raises:
            ModelError: the image has other channels or another number of axes than the plan.
        """
        preparation = prepare(volume, self.plan)
        step = 1 - self.plan.overlap if self.options.step is None else self.options.step
        return Job(self, volume, preparation, Layout.of(preparation.shape, self.plan.patch_size, step, self.options.weights))


@dataclass(frozen=True, eq=False)
class Job:
    """One scan and one team.

    Attributes:
        team: who segments it.
        volume: the scan.
        preparation: how it is brought to the team's grid.
        layout: the windows.
    """

    team: Team
    volume: Volume = field(repr=False)
    preparation: Preparation
    layout: Layout

    def along(self, axis: int) -> Job:
        """The same with windows that stream along another axis of the team's grid."""
        return replace(self, layout=replace(self.layout, axis=axis))

    def frame(self) -> list[tuple[int, bool]]:
        """Of each streaming axis the scan's own axis, and whether it is reversed."""
        reorder = self.preparation.reorder
        return [(reorder.order[axis], reorder.flips[axis]) for axis in self.layout.order]

    def cube(self) -> Cube:
        """Cells from the team's grid to the box of content."""
        made, orders = self.preparation, self.preparation.plan.label_orders
        along = [Cells.of(n, m, order) for n, m, order in zip(made.shape, made.extent, orders, strict=True)]
        moved = [along[axis] for axis in self.layout.order]
        return (moved[0], moved[1], moved[2]) if len(moved) == 3 else (moved[0], Cells.of(1, 1), moved[1])

    def image_bytes(self) -> int:
        """What is held at a time of the prepared scan, and of a first stage's labels."""
        channels, itemsize, depth = len(self.team.plan.channels), self.volume.array.itemsize, self._depth
        size = sum(
            slice_stream_footprint(one, channels, itemsize, self.layout.axis, depth).total
            for one in self._preparations().values()
        )
        return size + (Found.needed(self.layout) if self.team.plan.configuration == "3d_cascade" else 0)

    def steps(
        self,
        ring: Ring,
        exit: Exit,
        batches: Batches,
        classes: NDArray[np.unsignedinteger] | None = None,
        *,
        scans: int = 1,
        progress: ProgressCallback = no_progress,
    ) -> Work:
        """The windows as work to be done bit by bit.

        Args:
            ring: of the layout, empty.
            exit: of the ring.
            batches: how many windows at a time.
            classes: what the first stage of a cascade found, class indices on the scan's own grid.
            scans: how many scans are to come, by which a backend is chosen.
            progress: called as patches of a coarse first pass are done.
        """
        team, layout = self.team, self.layout
        members = self._members(classes, scans)
        probabilities = team.options.average == "probabilities"
        copies = Copies(members, team.mirrors, team.twins, team.plan.side_axis, probabilities, bool(team.plan.regions))
        region = None
        if team.options.roi == "body":
            region = body(members[0].slabs, layout)
        elif team.options.roi == "coarse":
            region = coarse(members[0], layout, batches, team.device, progress)
        kept = region.keeps if region is not None else lambda _: True
        return Work(region, stream(layout, copies, ring, exit, batches, team.device, kept))

    def _members(self, classes: NDArray[np.unsignedinteger] | None, scans: int) -> list[Member]:
        team, layout = self.team, self.layout
        slabs = {
            scheme: open_slice_stream(one, self.volume, layout.axis, self._depth) for scheme, one in self._preparations().items()
        }
        found = None if classes is None else Found(classes, self.preparation, layout.axis, team.labels.mirror_classes())
        labels = len(team.labels)

        def middle() -> torch.Tensor:
            sheet = list(layout.sheet(layout.starts[0][len(layout.starts[0]) // 2]))
            window = Member(team.networks[0], slabs[team.plan.normalisation], found).window(layout, sheet[len(sheet) // 2])[None]
            return (window if found is None else spelt_out(window, labels)).to(team.device)

        forwards = team.members.forwards(middle, layout.count * len(team.mirrors) * len(team.models) * scans)
        if found is not None:
            forwards = [spelling(forward, labels) for forward in forwards]
        plans = [one.plan for one in team.models]
        return [Member(forward, slabs[plan.normalisation], found) for forward, plan in zip(forwards, plans, strict=True)]

    def _preparations(self) -> dict[tuple[Normalisation, ...], Preparation]:
        """One for each way in which members scale grey values."""
        return {one.plan.normalisation: replace(self.preparation, plan=one.plan) for one in self.team.models}

    @property
    def _depth(self) -> int:
        """Prepared slices held at a time: those of windows run together, or of a block of a region."""
        return max(self.layout.held, BLOCK)


@dataclass(frozen=True)
class Work:
    """A job begun.

    Attributes:
        region: where windows are kept to, None for everywhere.
        steps: done by being iterated over; says how many windows are done.
    """

    region: Region | None
    steps: Iterator[int]
