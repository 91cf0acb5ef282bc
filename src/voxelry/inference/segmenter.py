"""From a scan to classes on its own grid: teams, their first stages, memory, and how several teams become one answer."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.core.labels import LabelTable
from voxelry.core.model import Model
from voxelry.core.volume import Volume
from voxelry.errors import ModelError
from voxelry.inference.forward import Batches
from voxelry.inference.memory_budget import Choice, Load, choose, resident_memory
from voxelry.inference.mixed import Alone, Mixture, aligned, summed_bytes
from voxelry.inference.plan_ensemble import Job, Team, teams_of
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.ring_buffer import Ring
from voxelry.inference.slice_writer import make_ring
from voxelry.inference.target import Target
from voxelry.networks.classes import label_classes

log = logging.getLogger(__name__)

CLEAN_UP_BYTES = 6
"""Of a voxel while components are counted."""


@dataclass(frozen=True, eq=False)
class Segmented:
    """What the networks said of a scan.

    Attributes:
        target: class indices (of the label table) and map of confidence on the scan's own grid.
        confidence: label name -> mean probability (0..1) over the voxels it won, None where it won none.
        overlooked: no window was looked at, since nothing was found where windows are kept to.
    """

    target: Target
    confidence: dict[str, float | None]
    overlooked: bool


class Segmenter:
    """One model, or several that are averaged; safe to use from several threads.

    Args:
        models: of one label table. Those of one plan are a team: they see the same windows, and their logits are averaged.
        device: where they compute.
        options: memory, windows, confidence, backend.
        cleaned: whether clean-up follows, which takes memory too.

    Attributes:
        teams: the models, by plan.
        firsts: of each team that is the second stage of a cascade the first: all its models' own first stages, averaged.
    """

    def __init__(self, models: Sequence[Model], device: torch.device, options: PredictOptions, cleaned: bool = False) -> None:
        self.device, self.options, self.cleaned = device, options, cleaned
        self.teams = [Team(one, device, options) for one in teams_of(models)]
        self.firsts = [_first_stage(team, device, options) for team in self.teams]

    @property
    def labels(self) -> LabelTable:
        """The table of all models."""
        return self.teams[0].labels

    @property
    def said(self) -> str:
        """What computes the networks, and why where it was chosen; empty before the first scan."""
        parts = [first.said for first in self.firsts if first is not None]
        return "; ".join(dict.fromkeys(filter(None, [*parts, *(team.members.said for team in self.teams)])))

    def run(self, volume: Volume, progress: ProgressCallback = no_progress, scans: int = 1) -> Segmented:
        """Segment one scan.

        Args:
            volume: with the models' channels.
            progress: called as patches are done.
            scans: how many scans are to come, this one included.

        Raises:
            ModelError: the image does not fit the models.
            BudgetError: the scan cannot be segmented within the memory budget.
        """
        jobs = aligned([team.job(volume) for team in self.teams])
        load = self._load(jobs)
        choice = choose(load, self.options, self.device)
        log.info("%s: %s", volume.source.name, choice)
        found = [None if first is None else first.run(volume, progress, scans).target.classes for first in self.firsts]
        rings, choice = self._rings(load, choice)
        target = Target(volume, load.classes, self.options.confidence)
        answer = self._answer(jobs, rings, target, choice.slab)
        batches = Batches(choice.batch)
        works = [
            job.steps(ring, exit, batches, classes, scans=scans, progress=progress)
            for job, ring, exit, classes in zip(jobs, rings, answer.exits, found, strict=True)
        ]
        total = sum(layout.count for layout in load.layouts)
        for done in answer.run([work.steps for work in works]):
            progress("patches", done, total)
        regions = [work.region for work in works if work.region is not None]
        return self._segmented(target, answer, bool(regions) and all(region.is_empty for region in regions))

    def _answer(self, jobs: Sequence[Job], rings: Sequence[Ring], target: Target, slab: int) -> Alone | Mixture:
        """How finished slices of one team, or of several, become labels."""
        sink, trust = target.sink(jobs[0].preparation, jobs[0].layout), self.options.confidence
        return Alone(jobs[0], rings[0], slab, sink, trust) if len(jobs) == 1 else Mixture(jobs, rings, slab, sink, trust)

    def _segmented(self, target: Target, answer: Alone | Mixture, overlooked: bool) -> Segmented:
        """Classes of networks become those of labels."""
        total, won = answer.total, answer.won
        labels = label_classes(self.teams[0].plan, self.labels)
        target.stored(labels.astype(target.classes.dtype))
        confidence: dict[str, float | None] = dict.fromkeys(self.labels.names)
        for number in np.flatnonzero(won[1:]) + 1:
            confidence[self.labels.names[labels[number] - 1]] = float(total[number] / won[number])
        return Segmented(target, confidence, overlooked)

    def _load(self, jobs: Sequence[Job]) -> Load:
        """What the scan costs, in bytes."""
        classes, scan = self.teams[0].classes, jobs[0].volume.geometry.shape
        highest = max((label.value for label in self.labels.labels), default=0)
        each = (1 if classes <= 256 else 2) + (2 if highest >= 256 > classes - 1 else 0) + bool(self.options.confidence)
        stages = 1 + any(first is not None for first in self.firsts)
        extent, axis = jobs[0].preparation.extent, jobs[0].layout.axis
        return Load(
            layouts=tuple(job.layout for job in jobs),
            classes=classes,
            image=sum(job.image_bytes() for job in jobs),
            labels=math.prod(scan) * (each * stages + (CLEAN_UP_BYTES if self.cleaned else 0)),
            plane=math.prod(extent) // extent[axis] * (6 + (0 if len(jobs) == 1 else summed_bytes(self.device) * classes)),
            window=max(team.window_bytes for team in self.teams),
            resident=resident_memory(),
        )

    def _rings(self, load: Load, choice: Choice) -> tuple[list[Ring], Choice]:
        """The rings as chosen, or, where a GPU has no room for them after all, in the host's memory, chosen anew."""
        try:
            return self._made(load, choice), choice
        except torch.OutOfMemoryError:
            choice = choose(load, self.options, self.device, ring_on_device=False)
            log.info("the device has no room for the ring: %s", choice)
        return self._made(load, choice), choice

    def _made(self, load: Load, choice: Choice) -> list[Ring]:
        device = self.device if choice.ring_on_device else None
        logits, regions = self.options.average == "logits", bool(self.teams[0].plan.regions)
        shapes = [(one.held + 1, *one.shape[1:]) for one in load.layouts]
        return [
            make_ring(load.classes, shape, one.weights, half=choice.half, logits=logits, device=device, regions=regions)
            for one, shape in zip(load.layouts, shapes, strict=True)
        ]


def _first_stage(team: Team, device: torch.device, options: PredictOptions) -> Segmenter | None:
    """The first stages of all models of a team, as one."""
    if team.plan.configuration != "3d_cascade":
        return None
    for model in team.models:
        if model.previous is None or model.previous.labels != model.labels:
            reason = "without its first" if model.previous is None else "whose first has other labels"
            raise ModelError(f"{model.path}: the second stage of a cascade {reason}", remedy="Copy its folder anew.")
    previous = dict.fromkeys(model.previous for model in team.models if model.previous is not None)
    return Segmenter(tuple(previous), device, replace(options, confidence=""))
