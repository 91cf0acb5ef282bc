"""Segmenter: from a scan to classes on its own grid, by all ensembles and first stages, within the memory budget."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from voxelry.base.memory import Footprint
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.core.labels import LabelTable
from voxelry.core.model import Model
from voxelry.core.volume import Volume
from voxelry.errors import ModelError
from voxelry.inference.cleanup import COMPONENT_BYTES
from voxelry.inference.forward import Batches
from voxelry.inference.instance_decoder import DECODING_BYTES
from voxelry.inference.memory_budget import (
    SPARE,
    MemorySplit,
    ScanFootprint,
    candidates,
    device_memory,
    host_limit,
    resident_memory,
    split_memory,
    too_small,
)
from voxelry.inference.multi_plan import EnsembleOutput, SingleOutput, align_tasks, slab_value_bytes
from voxelry.inference.output_arrays import OutputArrays
from voxelry.inference.plan_ensemble import PlanEnsemble, ScanTask, group_by_plan
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.ring_buffer import LEVEL_BYTES, RingBuffer
from voxelry.inference.sequence_repair import NAMING_BYTES
from voxelry.inference.shared_passes import SharedPasses
from voxelry.inference.slice_writer import make_ring_buffer
from voxelry.networks.classes import label_classes, layer_sizes

log = logging.getLogger(__name__)

NEW_VOXEL_BYTES = 6
"""Of a voxel of a new slice: its label, confidence, and the indices of its corners."""

LAYER_VOXEL_BYTES = 3
"""Of a voxel of a new slice on each further layer: its label and confidence."""

_IN_USE = ("already in use", "Python and torch")


@dataclass(frozen=True, eq=False)
class SegmentedScan:
    """Labels of a scan from the networks, before clean-up.

    Attributes:
        output: class indices (of the label table) and map of confidence on the scan's own grid.
        confidence: label name -> mean probability (0..1) over the voxels it won, None where it won none.
        overlooked: whether no patch was run, since the region of interest was empty.
        agreement: label name -> Dice (0..1) between the passes of the networks, None where none won a voxel; empty where there
            was one pass.
    """

    output: OutputArrays
    confidence: dict[str, float | None]
    overlooked: bool
    agreement: dict[str, float | None]


class Segmenter:
    """One model, or several that are averaged; safe to use from several threads.

    Args:
        models: models of one label table. Those of one plan are an ensemble: their logits are averaged patch by patch.
        device: where they compute.
        options: memory, patches, confidence, backend.
        cleaned: whether clean-up follows, which takes memory too.

    Attributes:
        ensembles: the models, by plan.
        instances: how objects are told apart; None where they are not.
        first_stages: of each ensemble that is the second stage of a cascade, its models' own first stages, averaged; else None.
    """

    def __init__(self, models: Sequence[Model], device: torch.device, options: PredictOptions, cleaned: bool = False) -> None:
        self.device, self.options, self.cleaned = device, options, cleaned
        self.instances = options.instance_plan(models[0].plan, models[0].labels)
        self.ensembles = [PlanEnsemble(group, device, options) for group in group_by_plan(models)]
        self.first_stages = [_first_stage(ensemble, device, options) for ensemble in self.ensembles]

    @property
    def labels(self) -> LabelTable:
        """The table of all models."""
        return self.ensembles[0].labels

    @property
    def _keeps_head(self) -> bool:
        """Whether the distance of the networks' instance head passes through the ring buffers."""
        return self.ensembles[0].keeps_distance

    @property
    def description(self) -> str:
        """Which backend computes the networks, and why where it was chosen; empty before the first scan."""
        stages = [stage.description for stage in self.first_stages if stage is not None]
        return "; ".join(dict.fromkeys(filter(None, [*stages, *(ensemble.members.description for ensemble in self.ensembles)])))

    def run(
        self, volume: Volume, progress: ProgressCallback = no_progress, scans: int = 1, passes: SharedPasses | None = None
    ) -> SegmentedScan:
        """Segment one scan.

        Args:
            volume: with the models' channels.
            progress: called as patches are done.
            scans: number of scans to come, including this one.
            passes: where other scans wait for the same networks.

        Raises:
            ModelError: the image does not fit the models.
            BudgetError: the scan cannot be segmented within the memory budget.
        """
        self._check_header(volume)
        tasks = align_tasks([ensemble.task(volume) for ensemble in self.ensembles])
        footprint = self._footprint(tasks)
        split = split_memory(footprint, self.options, self.device)
        log.info("%s: %s", volume.source.name, split)
        previous = [
            None if stage is None else stage.run(volume, progress, scans, passes).output.classes[0] for stage in self.first_stages
        ]
        rings, split = self._rings(footprint, split)
        arrays = OutputArrays(volume, footprint.classes, self.options.confidence, self._keeps_head, self.labels.layers)
        output = self._output(tasks, rings, arrays, split.slab)
        batches = Batches(split.batch, passes)
        running = [
            task.start(ring, sink, batches, classes, scans=scans, progress=progress)
            for task, ring, sink, classes in zip(tasks, rings, output.sinks, previous, strict=True)
        ]
        total = sum(grid.count for grid in footprint.grids)
        for done in output.run([task.steps for task in running]):
            progress("patches", done, total)
        rois = [task.roi for task in running if task.roi is not None]
        overlooked = bool(rois) and all(roi.is_empty for roi in rois)
        return self._segmented(arrays, output, overlooked, [task.agreement.dice for task in running])

    def _output(
        self, tasks: Sequence[ScanTask], rings: Sequence[RingBuffer], arrays: OutputArrays, slab: int
    ) -> SingleOutput | EnsembleOutput:
        """The output that turns finished slices of one ensemble, or of several, into labels."""
        write, confidence = arrays.slice_callback(tasks[0].preparation, tasks[0].grid), self.options.confidence
        if len(tasks) == 1:
            return SingleOutput(tasks[0], rings[0], slab, write, confidence, self._keeps_head)
        return EnsembleOutput(tasks, rings, slab, write, confidence, self._keeps_head)

    def _segmented(
        self,
        arrays: OutputArrays,
        output: SingleOutput | EnsembleOutput,
        overlooked: bool,
        agreements: Sequence[Sequence[float | None]],
    ) -> SegmentedScan:
        """Classes of networks become those of labels."""
        probability_sum, voxel_count = output.probability_sum, output.voxel_count
        labels = label_classes(self.ensembles[0].plan, self.labels)
        arrays.relabelled(labels.astype(arrays.classes.dtype))
        confidence: dict[str, float | None] = dict.fromkeys(self.labels.names)
        for number in np.flatnonzero(voxel_count[1:]) + 1:
            confidence[self.labels.names[labels[number] - 1]] = float(probability_sum[number] / voxel_count[number])
        agreement: dict[str, float | None] = {}
        for place, index in enumerate(labels.tolist() if any(agreements) else ()):
            if place:
                values = [value for dice in agreements if dice and (value := dice[place]) is not None]
                agreement[self.labels.names[index - 1]] = sum(values) / len(values) if values else None
        return SegmentedScan(arrays, confidence, overlooked, agreement)

    def _check_header(self, volume: Volume) -> None:
        """Refuse, before its pixels are decoded, a scan that cannot fit by its header: pixels and labels alone are too large.

        Raises:
            BudgetError: it names a budget that suffices for the whole grid.
        """
        least, most = volume.undecoded_bytes
        if not most:
            return
        scan = self._footprint(align_tasks([ensemble.task(volume, whole=True) for ensemble in self.ensembles]))
        limit, device = host_limit(self.options), None if self.device.type == "cpu" else device_memory(self.options, self.device)
        certain = sum(scan.host[name] for name in (*_IN_USE, "labels", "confidence map"))
        if certain + least > limit:
            scan = replace(scan, host=scan.host + Footprint({"pixels": most}))
            splits = list(candidates(scan, self.options, device, ring_on_device=True))
            if splits:
                raise too_small(scan, limit, splits)

    def _footprint(self, tasks: Sequence[ScanTask]) -> ScanFootprint:
        """Memory of the scan, before it is split."""
        classes, voxels = self.ensembles[0].classes, math.prod(tasks[0].volume.geometry.shape)
        highest = max((label.value for label in self.labels.labels), default=0)
        labels = (1 if classes <= 256 else 2) + (2 if highest >= 256 > classes - 1 else 0)
        confidence, layers = int(bool(self.options.confidence)), self.labels.layers
        extent, axis = tasks[0].preparation.extent, tasks[0].grid.axis
        plane = math.prod(extent) // extent[axis]
        host = Footprint({
            _IN_USE[0]: resident_memory(),
            _IN_USE[1]: SPARE,
            "labels": voxels * labels * layers,
            "confidence map": voxels * confidence,
            "labels of the first stage": voxels * (labels + confidence) * any(stage is not None for stage in self.first_stages),
            "clean-up": voxels * COMPONENT_BYTES * self.cleaned,
            "naming": voxels * NAMING_BYTES * bool(self.ensembles[0].plan.sequences),
            "instance ids": voxels * 4 * (self.instances is not None) * (layers + (layers > 1)),
            "decoding": voxels * DECODING_BYTES * (self.instances is not None),
        })  # fmt: skip
        new_voxel = NEW_VOXEL_BYTES + LAYER_VOXEL_BYTES * (layers - 1)
        averaged = 0 if len(tasks) == 1 else slab_value_bytes(self.device) * classes
        head = slab_value_bytes(self.device) + LEVEL_BYTES if self._keeps_head else 0
        return ScanFootprint(
            grids=tuple(task.grid for task in tasks),
            classes=classes,
            layers=layers,
            host=Footprint.sum([host, *(task.image_footprint() for task in tasks)]),
            new_slice=Footprint({"new slices": plane * (new_voxel + head), "mean probabilities": plane * averaged}),
            patch=max((ensemble.patch_footprint for ensemble in self.ensembles), key=lambda patch: patch.total),
            distance=self._keeps_head,
        )

    def _rings(self, footprint: ScanFootprint, split: MemorySplit) -> tuple[list[RingBuffer], MemorySplit]:
        """The ring buffers as chosen, or, where a GPU cannot hold them after all, in the host's memory by a new split."""
        try:
            return self._allocate(footprint, split), split
        except torch.OutOfMemoryError:
            split = split_memory(footprint, self.options, self.device, ring_on_device=False)
            log.info("the device cannot hold the ring buffer: %s", split)
        return self._allocate(footprint, split), split

    def _allocate(self, footprint: ScanFootprint, split: MemorySplit) -> list[RingBuffer]:
        make = partial(
            make_ring_buffer,
            footprint.classes,
            half=split.half,
            logits=self.options.average == "logits",
            device=self.device if split.ring_on_device else None,
            regions=bool(self.ensembles[0].plan.regions),
            distance=footprint.distance,
            layers=layer_sizes(self.labels),
        )
        return [make(grid.ring_shape, grid.weights) for grid in footprint.grids]


def _first_stage(ensemble: PlanEnsemble, device: torch.device, options: PredictOptions) -> Segmenter | None:
    """The first stages of all models of an ensemble, as one."""
    if not ensemble.is_second_stage:
        return None
    for model in ensemble.models:
        if model.previous is None or model.previous.labels != model.labels:
            reason = "without its first" if model.previous is None else "whose first has other labels"
            raise ModelError(f"{model.path}: the second stage of a cascade {reason}", remedy="Copy its folder again.")
    previous = dict.fromkeys(model.previous for model in ensemble.models if model.previous is not None)
    return Segmenter(tuple(previous), device, replace(options, confidence="", instances=False))
