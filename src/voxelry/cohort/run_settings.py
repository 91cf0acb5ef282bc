"""RunSettings, RunPlan and RunWatch: how the scans of a run are segmented, what it is about to do, and who is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from voxelry.base.progress import BatchCallback, ProgressCallback, no_batch, no_progress
from voxelry.formats.read_options import ReadOptions
from voxelry.inference.predict_options import PredictOptions
from voxelry.metrics.segmentation_task import SegmentationTask

PATIENCE = 3600.0
"""Seconds without progress after which a scan is given up."""

MODELS = "models"
"""Fact of the ledger: the folders of the models, from the output folder."""

_OF_MACHINE = ("memory", "device_memory", "batch")
"""Options that say what a machine has, and not what is computed."""


@dataclass(frozen=True)
class RunPlan:
    """What a run is about to do.

    Attributes:
        scans: how many there are.
        left: how many of them are to be segmented, since the others are done.
        workers: worker processes; 0 where this process segments.
        threads: of each.
        devices: that they compute on.
    """

    scans: int
    left: int
    workers: int
    threads: int
    devices: tuple[str, ...]


@dataclass(frozen=True)
class RunWatch:
    """Who is told of a run.

    Attributes:
        progress: as scans, and patches of a scan, are done.
        on_batch: after every scan.
        on_plan: before the first.
    """

    progress: ProgressCallback = no_progress
    on_batch: BatchCallback = no_batch
    on_plan: Callable[[RunPlan], None] = lambda _: None


@dataclass(frozen=True)
class RunSettings:
    """How the scans of a run are segmented, and written.

    Attributes:
        folders: model folders.
        network: import path of the model's own network.
        device: ``auto``, ``cpu``, ``cuda``...
        options: of prediction.
        formats, task, maps: as of `voxelry.cohort.batch.segment_scans`.
        read: options of the readers.
        out: the output folder.
        workers: worker processes; 0 segments in this process, None chooses.
        seconds: without progress after which a scan is given up.
        cluster: ``ray``, the URL of a Ray cluster, or ``slurm``, whose nodes segment; empty for this machine.
    """

    folders: tuple[str, ...]
    network: str | None
    device: str
    options: PredictOptions
    formats: tuple[str, ...]
    task: SegmentationTask
    maps: bool
    read: ReadOptions
    out: Path
    workers: int | None = None
    seconds: float = PATIENCE
    cluster: str = ""

    def request(self) -> dict[str, Any]:
        """What the outputs depend on, besides the scans and the model's content."""
        options = {name: value for name, value in asdict(self.options).items() if name not in _OF_MACHINE}
        return {
            "formats": list(self.formats), "task": self.task, "maps": self.maps, "options": options,
            "read": json.loads(json.dumps(asdict(self.read))), "network": self.network,
        }  # fmt: skip

    def load_order(self, device: str, memory: int, scans: int, ahead: bool) -> dict[str, Any]:
        """The first message to a worker, which may be on another machine: what to load, and what is done with each scan.

        Args:
            device: that it computes on.
            memory: bytes that are its share.
            scans: to come, by which backend ``auto`` judges whether building one pays.
            ahead: whether it may read the next scan ahead, within its share.
        """
        return {
            "do": "load", "folder": str(Path.cwd()), "models": self.folders, "network": self.network, "device": device,
            "options": asdict(replace(self.options, memory=memory)), "formats": self.formats, "task": self.task,
            "maps": self.maps, "series": self.read.series, "repair": self.read.repair, "out": str(self.out), "scans": scans,
            "ahead": ahead,
        }  # fmt: skip
