"""Segment many scans, one in memory at a time; a bad scan is reported, and the others continue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.cohort.scan_job import ScanJob, ScanPass
from voxelry.cohort.scan_names import Scan
from voxelry.cohort.scan_outputs import ScanOutputs, Watch, watch_nothing
from voxelry.core.model import Model
from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.metrics.segmentation_task import SegmentationTask


@dataclass(frozen=True)
class Outcome:
    """Result of one scan.

    Attributes:
        id: the scan.
        files: the files written, by format.
        flags: anything unusual about the prediction, in sentences.
        error: reason of the failure; empty where there was none.
        remarks: decisions and repairs of the reader, and the backend of the network.
        error_class: kind of the failure, as ``CorruptFileError``.
        is_earlier: an earlier run segmented it, and nothing has changed since.
        facts: what was computed about the prediction, by kind (`voxelry.cohort.prediction_facts`).
    """

    id: str
    files: dict[str, Path]
    flags: tuple[str, ...] = ()
    error: str = ""
    remarks: tuple[str, ...] = ()
    error_class: str = ""
    is_earlier: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


def segment_scans(
    predictor: Predictor,
    scans: Sequence[Scan],
    out: Path,
    formats: Sequence[str],
    watch: Watch = watch_nothing,
    progress: ProgressCallback = no_progress,
    options: ReadOptions = PLAIN,
    task: SegmentationTask = "semantic",
    maps: bool = True,
) -> list[Outcome]:
    """Segment scans and write their masks.

    Args:
        predictor: the loaded model.
        scans: the scans.
        out: folder for ``<id><ending>``.
        formats: names of formats.
        watch: called with the scan and its prediction while both are in memory.
        progress: called as patches of a scan, and as scans, are done.
        options: options of the readers.
        task: ``semantic`` writes labels; ``instance`` maps of ids in formats of one number a voxel, objects in others;
            ``panoptic`` labels with their ids. The latter two also write ``<id>.json``, the segments.
        maps: write the map of confidence, where the predictor computes one.

    Returns:
        One outcome a scan, in order. A scan that fails, whatever happened (memory that runs out, a fault of a library), or is
        interrupted, leaves no file, and the others go on.

    Raises:
        ExportError: a format of one layer for a model whose labels lie on several.
        UsageError: an unknown format; two results that would be written to one file; an output that is an input, or would replace
            what this model did not write from the same scan.
        OSError: `out` cannot be made.
    """
    outputs = scan_outputs(predictor.models, predictor.options, out, formats, task, maps)
    outputs.check_names(scans)
    for scan in scans:
        outputs.check(scan)
    out.mkdir(parents=True, exist_ok=True)
    predictor.scans = len(scans)
    job = ScanJob(predictor, outputs, options, watch)
    outcomes = []
    for number, scan in enumerate(scans, start=1):
        outcomes.append(outcome_of(ScanPass(job, scan, progress=progress).run()))
        progress("segmenting", number, len(scans))
    return outcomes


def scan_outputs(
    models: Sequence[Model], options: PredictOptions, out: Path, formats: Sequence[str], task: SegmentationTask, maps: bool
) -> ScanOutputs:
    """What models write for each scan; see `segment_scans`."""
    folders = tuple(model.path for model in models if model.path is not None)
    confidence = options.confidence if maps else ""
    return ScanOutputs(OutputFolder(out, "predict"), models[0], folders, tuple(dict.fromkeys(formats)), task, confidence)


def outcome_of(message: Mapping[str, Any]) -> Outcome:
    """The outcome that a scan's last message tells of."""
    if message["event"] == "failed":
        return Outcome(message["id"], {}, error=message["error"], error_class=message["error_class"])
    files = {name: Path(path) for name, path in message["files"].items()}
    return Outcome(message["id"], files, tuple(message["flags"]), remarks=tuple(message["remarks"]))
