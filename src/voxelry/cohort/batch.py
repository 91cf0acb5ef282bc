"""Segment many scans, one in memory at a time; a bad scan is reported, and the others continue."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelry.base.distinct_names import folded
from voxelry.base.failures import task_failures
from voxelry.base.files import free_name
from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.cohort.scan_names import Scan
from voxelry.cohort.task_files import SEGMENTS, check_formats, is_id_map, segments_path, write_id_map, write_segments_of
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.channels import read_channels
from voxelry.errors import UnexpectedError, UsageError, VoxelryError
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm
from voxelry.formats.file_format import Format
from voxelry.formats.grids.nifti_write import write_nifti_image
from voxelry.formats.ids_beside import ids_file
from voxelry.formats.multi_file import folder_beside
from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.formats.segments_file import ENDING
from voxelry.formats.table import format_named, written_format
from voxelry.metrics.segmentation_task import SegmentationTask, labels_of_task

if TYPE_CHECKING:
    from voxelry.inference.predictor import Prediction, Predictor

log = logging.getLogger(__name__)

Watch = Callable[[Scan, Volume, "Prediction"], None]


@dataclass(frozen=True)
class Outcome:
    """Result of one scan.

    Attributes:
        id: the scan.
        files: the files written, by format.
        flags: anything unusual about the prediction, in sentences.
        error: reason of the failure; empty where there was none.
        remarks: decisions and repairs of the reader, and the backend of the network.
    """

    id: str
    files: dict[str, Path]
    flags: tuple[str, ...] = ()
    error: str = ""
    remarks: tuple[str, ...] = ()


def segment_scans(
    predictor: Predictor,
    scans: Sequence[Scan],
    out: Path,
    formats: Sequence[str],
    watch: Watch = lambda *_: None,
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
    check_formats(task, [written_format(name) for name in formats], predictor.model.labels.layers)
    confidence = predictor.options.confidence if maps else ""
    _check_outputs(scans, formats, confidence, task)
    chosen = tuple(dict.fromkeys(formats))
    batch = _Batch(predictor, OutputFolder(out, "predict"), chosen, watch, progress, options, task, confidence)
    batch.check(scans)
    out.mkdir(parents=True, exist_ok=True)
    predictor.scans = len(scans)
    outcomes = []
    for number, scan in enumerate(scans, start=1):
        outcomes.append(batch.segment(scan))
        progress("segmenting", number, len(scans))
    return outcomes


def _check_outputs(scans: Sequence[Scan], formats: Sequence[str], confidence: str, task: SegmentationTask) -> None:
    """Refuse unknown formats, and scans whose results would be one file: ``a.entropy.nii.gz`` may be a mask or a map.

    Raises:
        UsageError: it is so.
    """
    endings = {row.ending for row in _rows_written(formats)} | ({f".{confidence}.nii.gz"} if confidence else set())
    endings |= {ENDING} if task != "semantic" else set()
    owners: dict[str, Scan] = {}
    for scan in scans:
        for ending in endings:
            owner = owners.setdefault(folded(f"{scan.id}{ending}"), scan)
            if owner is not scan:
                raise UsageError(
                    f"scans '{owner.id}' and '{scan.id}' would both be written to {scan.id}{ending}",
                    remedy="Rename one, or segment them separately.",
                )


def _rows_written(formats: Sequence[str]) -> list[Format]:
    """The formats, and DICOM SEG where one of them refers to it."""
    rows = [written_format(name) for name in formats]
    return [*rows, format_named("dicom-seg")] if any("segmentation" in row.required_options for row in rows) else rows


@dataclass(frozen=True)
class _Batch:
    """How every scan is segmented, and where its results go; `confidence` is the map that is written, empty for none."""

    predictor: Predictor
    outputs: OutputFolder
    formats: tuple[str, ...]
    watch: Watch
    progress: ProgressCallback
    options: ReadOptions
    task: SegmentationTask
    confidence: str

    def check(self, scans: Sequence[Scan]) -> None:
        """Refuse outputs that would replace something, before the first scan is segmented."""
        for scan in scans:
            for path in self._targets(scan):
                self.outputs.check(path, self._inputs(scan))

    def segment(self, scan: Scan) -> Outcome:
        """Segment a scan and write its results."""
        predictor, files = self.predictor, dict[str, Path]()
        finished = False
        try:
            with task_failures(str(scan.images[0])):
                free_name(scan.id)
                plan = predictor.model.plan
                volume = read_channels(scan.images, self.options, plan.reference, len(plan.channels), scan.series)
                prediction = predictor.predict(volume, self.progress)
                with self.outputs.writing(self._targets(scan), self._inputs(scan)):
                    how = self._write(scan, volume, prediction, files)
                    self.watch(scan, volume, prediction)
            finished = True
        except (VoxelryError, OSError) as error:
            log.info("%s: %s", scan.id, error, exc_info=isinstance(error, UnexpectedError))
            return Outcome(scan.id, {}, error=str(error))
        finally:
            if not finished:  # Ctrl-C too
                beside = [ids_file(files[row.name]) for row in self._rows() if row.instances == "beside" and row.name in files]
                for file in (*files.values(), *beside):
                    shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        remarks = (
            *filter(None, (scan.remark,)),
            *volume.source.remarks,
            *volume.source.repairs,
            *filter(None, (predictor.description, how)),
        )
        return Outcome(scan.id, files, prediction.flags, remarks=remarks)

    def _write(self, scan: Scan, volume: Volume, prediction: Prediction, files: dict[str, Path]) -> str:
        """Write the results of a scan, adding each to `files`; how objects were told apart."""
        labels, how = labels_of_task(prediction.labels, self.task)
        for row in self._rows():
            path = self.out / f"{scan.id}{row.ending}"
            if is_id_map(self.task, row):
                files[row.name] = write_id_map(row, labels, path)
            else:
                files[row.name] = _write(row, labels, path, volume, self.predictor, files)
        if self.task != "semantic":
            maps = [files[row.name] for row in self._rows() if is_id_map(self.task, row)]
            files[SEGMENTS] = write_segments_of(prediction, labels, self.task, segments_path(self.out, scan.id), maps)
        if prediction.map is not None and self.confidence:
            files[self.confidence] = write_nifti_image(prediction.map, self._map_file(scan))
        return how

    @property
    def out(self) -> Path:
        return self.outputs.folder

    def _rows(self) -> list[Format]:
        """The formats, those that refer to another one last."""
        return sorted(map(written_format, self.formats), key=lambda row: bool(row.required_options))

    def _map_file(self, scan: Scan) -> Path:
        return self.out / f"{scan.id}.{self.confidence}.nii.gz"

    def _targets(self, scan: Scan) -> list[Path]:
        """Every file and folder that may be written for a scan."""
        rows = _rows_written(self.formats)
        files = {self.out / f"{scan.id}{row.ending}": row.ending for row in rows}
        more = [ids_file(self.out / f"{scan.id}{row.ending}") for row in rows if row.instances == "beside"]
        more += [self._map_file(scan)] if self.confidence else []
        more += [segments_path(self.out, scan.id)] if self.task != "semantic" else []
        return [*files, *(folder_beside(file, ending) for file, ending in files.items()), *more]

    def _inputs(self, scan: Scan) -> list[Path]:
        return [*(model.path for model in self.predictor.models if model.path is not None), *scan.images]


def _write(row: Format, labels: LabelMap, path: Path, volume: Volume, predictor: Predictor, files: dict[str, Path]) -> Path:
    """Write one format of one scan; a report refers to a SEG, which is written first where it was not asked for."""
    options: dict[str, Any] = {"algorithm": Algorithm.of(predictor.model.card)} if "algorithm" in row.options else {}
    if "segmentation" in row.required_options:
        seg = format_named("dicom-seg")
        if seg.name not in files:
            beside = path.with_name(path.name.removesuffix(row.ending) + seg.ending)
            files[seg.name] = _write(seg, labels, beside, volume, predictor, files)
        options["segmentation"] = files[seg.name]
    return row.write(labels, path, volume, options)
