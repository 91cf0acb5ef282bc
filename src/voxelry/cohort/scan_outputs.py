"""ScanOutputs: what is written for each scan of a batch, where it goes, and what may be replaced."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelry.base.distinct_names import folded
from voxelry.base.output_folder import OutputFolder
from voxelry.cohort.scan_names import Scan
from voxelry.cohort.task_files import (
    SEGMENTS,
    check_formats,
    is_id_map,
    scores_by_segment,
    segments_path,
    write_id_map,
    write_segments_of,
)
from voxelry.core.model import Model
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import UsageError
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm
from voxelry.formats.file_format import NO_OPTIONS, Format
from voxelry.formats.grids.nifti_write import write_nifti_image
from voxelry.formats.ids_beside import ids_file
from voxelry.formats.multi_file import folder_beside
from voxelry.formats.segments_file import ENDING
from voxelry.formats.table import format_named, written_format
from voxelry.metrics.segmentation_task import SegmentationTask, labels_of_task

if TYPE_CHECKING:
    from voxelry.inference.predictor import Prediction

Watch = Callable[[Scan, Volume, "Prediction"], None]
"""Called with a scan and its prediction while both are in memory; what it raises fails the scan."""


def watch_nothing(scan: Scan, volume: Volume, prediction: Prediction) -> None:
    """The default of every `Watch`."""


@dataclass(frozen=True)
class ScanOutputs:
    """The results of scans in an output folder.

    Attributes:
        outputs: the folder, with its record of what is ours.
        model: the model, or the first of an ensemble.
        models: folders of the models, of which the outputs are made.
        formats: names of formats.
        task: ``semantic`` writes labels; ``instance`` maps of ids in formats of one number a voxel, objects in others;
            ``panoptic`` labels with their ids. The latter two also write ``<id>.json``, the segments.
        confidence: the map that is written beside the labels; empty for none.
    """

    outputs: OutputFolder
    model: Model
    models: tuple[Path, ...]
    formats: tuple[str, ...]
    task: SegmentationTask
    confidence: str

    def check_names(self, scans: Sequence[Scan]) -> None:
        """Refuse formats that do not fit, and scans whose results would be one file: ``a.entropy.nii.gz`` may be a mask or a map.

        Raises:
            ExportError: a format of one layer for a model whose labels lie on several.
            UsageError: an unknown format, or two results of one name.
        """
        check_formats(self.task, [written_format(name) for name in self.formats], self.model.labels.layers)
        endings = {row.ending for row in self._rows_written()} | ({f".{self.confidence}.nii.gz"} if self.confidence else set())
        endings |= {ENDING} if self.task != "semantic" else set()
        owners: dict[str, Scan] = {}
        for scan in scans:
            for ending in endings:
                owner = owners.setdefault(folded(f"{scan.id}{ending}"), scan)
                if owner is not scan:
                    raise UsageError(
                        f"scans '{owner.id}' and '{scan.id}' would both be written to {scan.id}{ending}",
                        remedy="Rename one, or segment them separately.",
                    )

    def check(self, scan: Scan) -> None:
        """Refuse outputs of a scan that would replace something.

        Raises:
            UsageError: an output is an input, or would replace what this model did not write from the same scan.
        """
        for path in self._targets(scan):
            self.outputs.check(path, self._inputs(scan))

    def check_volume(self, scan: Scan, volume: Volume) -> None:
        """Refuse a scan whose labels do not fit the formats, before it is segmented.

        Raises:
            ExportError: it is so.
        """
        for row in self._rows_written():
            row.check_scan(volume, self.out / f"{scan.id}{row.ending}")

    @contextmanager
    def written(self, scan: Scan, volume: Volume, prediction: Prediction) -> Iterator[tuple[dict[str, Path], str]]:
        """Write the results of a scan; a failure, here or in the block, leaves none of them.

        Yields:
            The files by format, and how objects were told apart.

        Raises:
            UsageError: as `check`.
            ExportError, OSError: a result cannot be written.
        """
        files = dict[str, Path]()
        is_whole = False
        try:
            with self.outputs.writing(self._targets(scan), self._inputs(scan)):
                yield files, self._write(scan, volume, prediction, files)
            is_whole = True
        finally:
            if not is_whole:  # Ctrl-C too
                for file in (*files.values(), *self.beside(files).values()):
                    shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)

    def beside(self, files: Mapping[str, Path]) -> dict[str, Path]:
        """Where files of ids lie, or would lie, beside the files of formats that have them there."""
        return {row.name: ids_file(files[row.name]) for row in self._rows() if row.instances == "beside" and row.name in files}

    def _write(self, scan: Scan, volume: Volume, prediction: Prediction, files: dict[str, Path]) -> str:
        """Write the results of a scan, adding each to `files`; how objects were told apart."""
        labels, how = labels_of_task(prediction.labels, self.task)
        told_apart = replace(prediction, labels=labels)
        for row in self._rows():
            path = self.out / f"{scan.id}{row.ending}"
            if is_id_map(self.task, row):
                files[row.name] = write_id_map(row, labels, path)
            else:
                options = {"scores": scores_by_segment(told_apart)} if "scores" in row.options else {}
                files[row.name] = write_format(row, labels, path, volume, self.model, files, options)
        if self.task != "semantic":
            files[SEGMENTS] = write_segments_of(told_apart, self.task, segments_path(self.out, scan.id), files)
        if prediction.map is not None and self.confidence:
            files[self.confidence] = write_nifti_image(prediction.map, self._map_file(scan))
        return how

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.outputs.folder

    def _rows(self) -> list[Format]:
        """The formats, those that refer to another one last."""
        return sorted(map(written_format, self.formats), key=lambda row: bool(row.required_options))

    def _rows_written(self) -> list[Format]:
        """The formats, and DICOM SEG where one of them refers to it."""
        rows = [written_format(name) for name in self.formats]
        return [*rows, format_named("dicom-seg")] if any("segmentation" in row.required_options for row in rows) else rows

    def _map_file(self, scan: Scan) -> Path:
        return self.out / f"{scan.id}.{self.confidence}.nii.gz"

    def _targets(self, scan: Scan) -> list[Path]:
        """Every file and folder that may be written for a scan."""
        rows = self._rows_written()
        files = {self.out / f"{scan.id}{row.ending}": row.ending for row in rows}
        more = [ids_file(self.out / f"{scan.id}{row.ending}") for row in rows if row.instances == "beside"]
        more += [self._map_file(scan)] if self.confidence else []
        more += [segments_path(self.out, scan.id)] if self.task != "semantic" else []
        return [*files, *(folder_beside(file, ending) for file, ending in files.items()), *more]

    def _inputs(self, scan: Scan) -> list[Path]:
        return [*self.models, *scan.images]


def write_format(
    row: Format,
    labels: LabelMap,
    path: Path,
    volume: Volume,
    model: Model,
    files: dict[str, Path],
    more: Mapping[str, Any] = NO_OPTIONS,
) -> Path:
    """Write one format of one scan; a report refers to a SEG, which is written first where it was not asked for.

    Args:
        row: the format.
        labels: what is written.
        path: the file.
        volume: the scan.
        model: named in formats that have a place for it.
        files: the files of the scan by format, to which a SEG is added.
        more: further options of the format.
    """
    options: dict[str, Any] = dict(more)
    if "algorithm" in row.options:
        options["algorithm"] = Algorithm.of(model.card)
    if "segmentation" in row.required_options:
        seg = format_named("dicom-seg")
        if seg.name not in files:
            beside = path.with_name(path.name.removesuffix(row.ending) + seg.ending)
            files[seg.name] = write_format(seg, labels, beside, volume, model, files)
        options["segmentation"] = files[seg.name]
    return row.write(labels, path, volume, options)
