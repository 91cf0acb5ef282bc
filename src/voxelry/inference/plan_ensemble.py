"""PlanEnsemble: models of one plan, averaged patch by patch; ScanTask: one scan to be segmented by them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from voxelry.base.device import compute_dtype
from voxelry.base.listing import shown
from voxelry.base.memory import Footprint
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.core.mirror_twins import without_twin
from voxelry.core.model import Model
from voxelry.core.plan import Normalisation
from voxelry.core.volume import Volume
from voxelry.inference.backend_selection import MemberForwards
from voxelry.inference.cascade import PreviousLabels, one_hot_labels, with_one_hot_labels
from voxelry.inference.engine import Member, SliceSink, TestTimeAugmentation, stream
from voxelry.inference.forward import Batches
from voxelry.inference.linear_interpolation import Interp1d, Interp3d, interp3d
from voxelry.inference.pass_agreement import EVERY, PassAgreement
from voxelry.inference.patch_memory import patch_bytes
from voxelry.inference.patches import PatchGrid, mirror_sets
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.ring_buffer import RingBuffer
from voxelry.inference.roi import BLOCK, RoiBlocks, body_roi, coarse_roi
from voxelry.networks.classes import check_regions
from voxelry.networks.mirrored_passes import keeps_sides, mirrored_axes, mirrored_channels
from voxelry.networks.weights import network_of
from voxelry.preparation.preparation import Preparation, prepare
from voxelry.preparation.slice_stream import open_slice_stream, slice_stream_footprint

log = logging.getLogger(__name__)

SHARED_FIELDS = (
    "dimensions", "channels", "configuration", "slice_axis", "orientation", "spacing", "long_side", "image_order", "coarse_axis",
    "patch_size", "regions", "instances", "convention",
)  # fmt: skip
"""Fields of a plan that models averaged patch by patch must share: how a scan is brought to their grid, and their classes."""


_LARGEST_VOXEL = 4


def group_by_plan(models: Sequence[Model]) -> list[list[Model]]:
    """Models in the order given, those of one plan together."""
    groups: list[list[Model]] = []
    for model in models:
        group = next((group for group in groups if all(_same(group[0], model, name) for name in SHARED_FIELDS)), None)
        if group is None:
            groups.append([model])
        else:
            group.append(model)
    return groups


def _same(model: Model, other: Model, name: str) -> bool:
    return bool(getattr(model.plan, name) == getattr(other.plan, name))


class PlanEnsemble:
    """Models of one plan, ready to compute; safe to use from several threads.

    Args:
        models: models of one plan (`group_by_plan`) and one label table.
        device: where they compute.
        options: patches, backend.

    Attributes:
        networks: in evaluation mode, on the device.
        members: the networks as functions, by the backend chosen.
    """

    def __init__(self, models: Sequence[Model], device: torch.device, options: PredictOptions) -> None:
        self.models, self.device, self.options = tuple(models), device, options
        self.plan, self.labels = models[0].plan, models[0].labels
        if self.labels.layers > 1:
            check_regions(self.plan, self.labels)
        self.networks = [network_of(model, device) for model in models]
        dtype, regions = compute_dtype(device, options.mixed_precision), bool(self.plan.regions)
        self.members = MemberForwards(self.networks, device, dtype, options.backend, regions, self.head)
        if not keeps_sides(self.plan) and self.plan.side_axis in self.plan.flips and without_twin(self.labels.labels):
            log.warning(
                "not mirrored from side to side: labels without a mirror twin (%s)", shown(without_twin(self.labels.labels))
            )

    @property
    def classes(self) -> int:
        """K: classes of the networks, background included."""
        return len(self.labels) + 1

    @property
    def head(self) -> int:
        """Channels of the networks' instance head, behind the classes."""
        return self.plan.head_channels

    @property
    def keeps_distance(self) -> bool:
        """Whether objects are told apart by the distance of the instance head."""
        instances = self.options.instance_plan(self.plan, self.labels)
        return instances is not None and instances.head_channels > 0

    @property
    def is_second_stage(self) -> bool:
        """Whether the networks take the labels of a cascade's first stage."""
        return self.plan.configuration == "3d_cascade"

    @property
    def mirrors(self) -> list[tuple[int, ...]]:
        """Sets of axes to mirror patches along."""
        wanted = self.options.flips is None or self.options.flips
        return mirror_sets(mirrored_axes(self.plan, self.labels) if wanted else ())

    @cached_property
    def mirror_map(self) -> tuple[int, ...]:
        """The channel that each averaged one becomes when left and right are swapped, as mirrored patches may do."""
        return mirrored_channels(self.plan, self.labels, self.classes + self.keeps_distance)

    @cached_property
    def patch_footprint(self) -> Footprint:
        """Of a patch: the network's peak, and the copies made of its input and output."""
        values = 4 * (self.classes + self.head) * math.prod(self.plan.patch_size)
        return Footprint({
            "network": patch_bytes(self.networks[0], self.plan, self.classes, self.device),
            "probabilities": values if self.options.average == "probabilities" else 0,
            "one-hot labels": values if self.is_second_stage else 0,
            "winners of the first pass": self._winner_bytes,
        })  # fmt: skip

    @property
    def _winner_bytes(self) -> int:
        """Of the first pass of a patch, while it is compared with the others."""
        if len(self.models) * len(self.mirrors) < 2:
            return 0
        each = self.classes if self.plan.regions else 1 + (self.classes > 256)
        return int(each * math.prod(self.plan.patch_size) // EVERY ** min(2, self.plan.dimensions - 1))

    def task(self, volume: Volume, *, whole: bool = False) -> ScanTask:
        """A scan to be segmented, along the axis that takes the smallest ring buffer.

        Args:
            volume: the scan.
            whole: take its whole grid for content, and decode nothing.

        Raises:
            ModelError: the image has other channels or another number of axes than the plan.
        """
        preparation = prepare(volume, self.plan, whole=whole)
        overlap = self.plan.overlap if self.options.overlap is None else self.options.overlap
        grid = PatchGrid.of(preparation.shape, self.plan.patch_size, overlap, self.options.weights, self.plan.convention)
        return ScanTask(self, volume, preparation, grid)


@dataclass(frozen=True, eq=False)
class ScanTask:
    """One scan to be segmented by one ensemble.

    Attributes:
        ensemble: the models.
        volume: the scan.
        preparation: how it is brought to the ensemble's grid.
        grid: the patches.
    """

    ensemble: PlanEnsemble
    volume: Volume = field(repr=False)
    preparation: Preparation
    grid: PatchGrid

    def along(self, axis: int) -> ScanTask:
        """The same with patches that stream along another axis of the ensemble's grid."""
        return replace(self, grid=replace(self.grid, axis=axis))

    def streaming_axes(self) -> list[tuple[int, bool]]:
        """Of S, Y and X the scan's own axis, and whether it is reversed."""
        reorder = self.preparation.reorder
        return [(reorder.order[axis], reorder.flips[axis]) for axis in self.grid.order]

    def interpolation(self) -> Interp3d:
        """From the ensemble's grid to the box of content, in streaming order."""
        preparation, orders = self.preparation, self.preparation.logit_orders
        axes = [Interp1d.of(n, m, order) for n, m, order in zip(preparation.shape, preparation.extent, orders, strict=True)]
        return interp3d([axes[axis] for axis in self.grid.order])

    def image_footprint(self) -> Footprint:
        """Slices of the prepared scan held at a time, and of a first stage's labels; voxels not yet decoded may be wide."""
        channels, depth = len(self.ensemble.plan.channels), self._depth
        itemsize = _LARGEST_VOXEL if any(self.volume.undecoded_bytes) else self.volume.array.itemsize
        streams = [
            slice_stream_footprint(preparation, channels, itemsize, self.grid.axis, depth)
            for preparation in self._preparations().values()
        ]
        first_stage = PreviousLabels.bytes_for(self.grid) if self.ensemble.is_second_stage else 0
        return Footprint.sum([*streams, Footprint({"slices of the first stage": first_stage})])

    def start(
        self,
        ring: RingBuffer,
        sink: SliceSink,
        batches: Batches,
        classes: NDArray[np.unsignedinteger] | None = None,
        *,
        scans: int = 1,
        progress: ProgressCallback = no_progress,
    ) -> RunningTask:
        """The patches as an iterator that runs them sheet by sheet.

        Args:
            ring: ring buffer of the grid, empty.
            sink: of the ring buffer.
            batches: runs patches through a network.
            classes: labels of a cascade's first stage, class indices on the scan's own grid.
            scans: number of scans to come, by which a backend is chosen.
            progress: called as patches of a coarse first pass are done.
        """
        ensemble, grid = self.ensemble, self.grid
        members = self._members(classes, scans)
        augmentation = TestTimeAugmentation(
            members=members,
            mirrors=ensemble.mirrors,
            mirror_map=ensemble.mirror_map,
            side_axis=ensemble.plan.side_axis,
            probabilities=ensemble.options.average == "probabilities",
            regions=bool(ensemble.plan.regions),
            head=ensemble.head,
            distance=ensemble.keeps_distance,
        )
        roi = None
        if ensemble.options.roi == "body":
            roi = body_roi(members[0].image, grid)
        elif ensemble.options.roi == "coarse":
            roi = coarse_roi(members[0], grid, batches, ensemble.device, progress, ensemble.head)
        keeps = roi.keeps if roi is not None else lambda _: True
        agreement = PassAgreement(ensemble.classes, len(members) * len(ensemble.mirrors), augmentation.regions)
        return RunningTask(roi, stream(grid, augmentation, ring, sink, batches, ensemble.device, keeps, agreement), agreement)

    def _members(self, classes: NDArray[np.unsignedinteger] | None, scans: int) -> list[Member]:
        ensemble, grid = self.ensemble, self.grid
        images = {
            scheme: open_slice_stream(preparation, self.volume, grid.axis, self._depth)
            for scheme, preparation in self._preparations().items()
        }
        labels = ensemble.labels
        mirrored = tuple(range(len(labels) + 1)) if keeps_sides(ensemble.plan) else labels.mirror_classes()
        previous = None if classes is None else PreviousLabels(classes, self.preparation, grid.axis, mirrored)

        def middle() -> torch.Tensor:
            sheet = list(grid.sheet(grid.starts[0][len(grid.starts[0]) // 2]))
            member = Member(ensemble.networks[0], images[ensemble.plan.normalisation], previous)
            patch_BC = member.patch(grid, sheet[len(sheet) // 2])[None]
            return (patch_BC if previous is None else one_hot_labels(patch_BC, len(labels))).to(ensemble.device)

        passes = grid.count * len(ensemble.mirrors) * len(ensemble.models) * scans
        forwards = ensemble.members.forwards(middle, passes)
        if previous is not None:
            forwards = [with_one_hot_labels(forward, len(labels)) for forward in forwards]
        plans = [model.plan for model in ensemble.models]
        return [Member(forward, images[plan.normalisation], previous) for forward, plan in zip(forwards, plans, strict=True)]

    def _preparations(self) -> dict[tuple[Normalisation, ...], Preparation]:
        """One for each way in which members scale grey values."""
        return {model.plan.normalisation: replace(self.preparation, plan=model.plan) for model in self.ensemble.models}

    @property
    def _depth(self) -> int:
        """Prepared slices held at a time: those of patches run together, or of a block of a region of interest."""
        return max(self.grid.depth, BLOCK)


@dataclass(frozen=True)
class RunningTask:
    """A started task.

    Attributes:
        roi: where patches are run, None for everywhere.
        steps: runs a sheet of patches each time it is advanced; yields the number of patches done.
        agreement: of the passes of each patch.
    """

    roi: RoiBlocks | None
    steps: Iterator[int]
    agreement: PassAgreement
