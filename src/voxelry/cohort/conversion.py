"""Converts a mask of any format into any other, on the grid of its scan."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from voxelry.base.output_folder import OutputFolder
from voxelry.cohort.provenance import with_algorithm
from voxelry.cohort.regrid import LabelLoss, regrid_labels
from voxelry.core.catalogue import coded
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.label_file import load_label_file
from voxelry.errors import ExportError, GridMismatchError, ReadError, UsageError
from voxelry.formats.detection import detect
from voxelry.formats.dicom.objects.referenced_image import ReferencedImage, check_same_image, image_named_by, read_image
from voxelry.formats.dicom.objects.resampled_series import write_resampled
from voxelry.formats.dicom.objects.stored_object import read_object
from voxelry.formats.file_format import Format
from voxelry.formats.file_segments import segments_of
from voxelry.formats.ids_beside import ids_file
from voxelry.formats.mask_folder import mask_files, read_mask_folder
from voxelry.formats.multi_file import folder_beside
from voxelry.formats.read_options import Repair
from voxelry.formats.reader import read, read_labels
from voxelry.formats.table import format_named, format_to_write, written_format

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        path: the file, or the folder where the format needs several.
        format: its name in the table of formats.
        labels: the names of the labels that have a voxel in it.
        remarks: decisions of the conversion, and what the format cannot hold.
        losses: change of each label by resampling; empty where nothing was resampled or cut.
        also: files written beside it for the first time, which it refers to.
    """

    path: Path
    format: str
    labels: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    losses: tuple[LabelLoss, ...] = ()
    also: tuple[Path, ...] = ()


def convert_mask(
    mask: Path,
    out: Path,
    *,
    reference: Path | None = None,
    format: str | None = None,
    labels: Path | None = None,
    series: str | None = None,
    repair: Sequence[Repair] = (),
    threshold: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Converted:
    """Convert a mask; see `voxelry.api.convert`."""
    row = format_to_write(out) if format is None else written_format(format)
    if os.path.realpath(mask) == os.path.realpath(out):
        raise UsageError(f"{out}: is the mask itself", remedy="Name another file to write.")
    if mask.is_dir() and os.path.realpath(mask) == os.path.realpath(out.parent):
        raise UsageError(f"{out}: is inside the folder of masks that is converted", remedy="Write it elsewhere.")
    inputs = [path for path in (mask, reference, labels) if path is not None]
    outputs = OutputFolder(out.parent, "convert")
    for path in _targets(out, row):
        outputs.check(path, inputs)
    if row.source == "required" and reference is None:
        raise UsageError(f"{out}: {row.noun} refers to the scan it was made on", remedy="Name its DICOM series by --reference.")
    form = None if mask.is_dir() else detect(mask)
    image = image_named_by(mask) if form is not None and form.within == "dicom" else None
    scan = None if reference is None else read_image(reference, image, series=series, repair=tuple(repair))
    if row.source == "required" and not row.sheared and scan is not None and not scan.geometry.is_orthogonal:
        raise ExportError(
            f"{out}: the slices of {reference} are sheared (gantry tilt), and readers of {row.noun} take them for a straight "
            "stack: they would misplace it or refuse it",
            remedy="Write .rtstruct.dcm, whose contours lie on the original slices; or give --repair tilt, which resamples "
            "the series and the labels onto an upright grid and writes both.",
        )
    table = None if labels is None else load_label_file(labels)
    drawing = _labels(mask, form, table, scan, image, threshold)
    chosen = with_algorithm(options or {}, mask, row.options)
    return _Conversion(mask, out, row, chosen, outputs, inputs).run(drawing, scan, image)


def _labels(
    mask: Path,
    form: Format | None,
    table: LabelTable | None,
    scan: Volume | None,
    image: ReferencedImage | None,
    threshold: float | None,
) -> LabelMap:
    """The labels, on a grid of their own; `form` is the mask's format, None for a folder."""
    if form is None:
        if not mask_files(mask):
            raise UsageError(f"{mask}: a folder without mask files", remedy="Name the file that holds the labels.")
        return read_mask_folder(mask, table, partial(read_labels, threshold=threshold))
    drawn_on = scan if "reference" in form.label_options else None
    labels = read_labels(mask, table, reference=drawn_on, threshold=threshold)
    if scan is None or image is None or drawn_on is not None:
        return labels
    remarks = check_same_image(mask, image, scan)
    remarks += _named_elsewhere(labels, scan)
    is_own = image.names(scan.source.series_uid) or labels.source.is_spacing_assumed
    if is_own and labels.geometry.reindexing_to(scan.geometry) is None:
        labels, how = _on_slices(labels, scan)
        remarks += how
    return replace(labels, source=replace(labels.source, remarks=(*labels.source.remarks, *remarks)))


def _named_elsewhere(labels: LabelMap, scan: Volume) -> list[str]:
    """A remark on slices of a segmentation that name another slice of the scan than the one at their position."""
    if labels.geometry.ndim == 2 or scan.geometry.ndim == 2:
        return []
    instances = scan.source.instances
    origins = labels.geometry.world([(0, 0, k) for k in range(labels.geometry.shape[2])])
    places = np.round(scan.geometry.index(origins)[:, 2]).clip(-1, len(instances)).astype(int).tolist()
    known = set(instances)
    count = sum(
        own in known and not (0 <= k < len(instances) and instances[k] == own)
        for own, k in zip(labels.source.instances, places, strict=False)
        if own is not None
    )
    return [f"{count} slices name another image of the scan than that at their position: positions count"] if count else []


def _on_slices(labels: LabelMap, scan: Volume) -> tuple[LabelMap, list[str]]:
    """A segmentation on the scan's slices that its frames lie on, whatever distance it states; unchanged if there are none."""
    if labels.geometry.ndim == 2 or scan.geometry.ndim == 2:
        return labels, []
    try:
        return labels.on_slices(scan.geometry), ["frames were placed on the slices at their positions"]
    except GridMismatchError:
        return labels, []


@dataclass(frozen=True)
class _Conversion:
    """One conversion: mask, output, format and options; the record of outputs, and all inputs."""

    mask: Path
    out: Path
    row: Format
    options: dict[str, Any]
    outputs: OutputFolder
    inputs: Sequence[Path]

    def run(self, drawing: LabelMap, scan: Volume | None, image: ReferencedImage | None) -> Converted:
        """Bring the labels onto the scan's grid and write them."""
        also: list[Path] = []
        try:
            return self._run(drawing, scan, image, also)
        except BaseException:  # Ctrl-C too
            for path in also:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            raise

    def _run(self, drawing: LabelMap, scan: Volume | None, image: ReferencedImage | None, also: list[Path]) -> Converted:
        remarks = [*drawing.source.remarks, *(() if scan is None else scan.source.repairs)]
        labels = drawing
        losses: tuple[LabelLoss, ...] = ()
        if scan is not None:
            regridded = regrid_labels(drawing, scan.geometry)
            labels, losses = regridded.labels, regridded.losses
            remarks += [regridded.how] if regridded.how else []
            remarks += [f"{loss}" for loss in losses]
        labels = replace(labels, table=coded(labels.table))
        if labels.instances is not None and not self.row.instances:
            remarks.append(f"{self.row.noun} does not hold instance ids")
        if self.row.cannot_hold:
            remarks.append(f"{self.row.noun} does not hold {self.row.cannot_hold}")
        if scan is not None and self.row.source == "required" and scan.source.repairs and not any(scan.source.instances):
            folder = self._beside(".series")
            was_there = folder.exists()
            with self.outputs.writing([folder], self.inputs):
                scan = read(write_resampled(scan, folder))
            also += [] if was_there else [folder]
            remarks.append(f"refers to the resampled series in {folder}, not to the original slices")
        if "segmentation" in self.row.required_options and scan is not None and "segmentation" not in self.options:
            also += self._segmentation(labels, scan, image)
            remarks.append(f"measurements refer to the segments of {self.options['segmentation']}")
        with self.outputs.writing(_targets(self.out, self.row), self.inputs):
            path = self.row.write(labels, self.out, scan, self.options)
        return Converted(path, self.row.name, _present(labels), tuple(dict.fromkeys(remarks)), losses, tuple(also))

    def _segmentation(self, labels: LabelMap, scan: Volume, image: ReferencedImage | None) -> list[Path]:
        """The SEG that a report refers to: the mask itself, or one beside the report, which is written where there is none."""
        if image is not None and image.names(scan.source.series_uid) and _describes(self.mask, labels):
            self.options["segmentation"] = self.mask
            return []
        beside = self._beside(format_named("dicom-seg").ending)
        self.options["segmentation"] = beside
        if beside.exists():
            if not _holds(beside, labels, scan):
                raise ExportError(
                    f"{beside}: exists, and is not the DICOM SEG of these labels, which a report refers to",
                    remedy="Write the report elsewhere, or name its SEG by --set segmentation=FILE.",
                )
            return []
        seg = format_named("dicom-seg")
        with self.outputs.writing([beside], self.inputs):
            return [seg.write(labels, beside, scan, with_algorithm({}, self.mask, seg.options))]

    def _beside(self, ending: str) -> Path:
        """A path like that of the result, with another ending."""
        name = self.out.name
        return self.out.with_name(f"{name[: len(name) - len(_own_ending(self.out, self.row))]}{ending}")


def _targets(out: Path, row: Format) -> list[Path]:
    """The file that a format writes, or the folder in its place, and the file of instance ids beside it."""
    return [out, folder_beside(out, _own_ending(out, row)), *([ids_file(out)] if row.instances == "beside" else [])]


def _own_ending(path: Path, row: Format) -> str:
    """The ending of a format that a path has; empty where it has none."""
    return next((end for end in row.written_endings if path.name.lower().endswith(end)), "")


def _present(labels: LabelMap) -> tuple[str, ...]:
    present = [set(np.unique(layer).tolist()) for layer in labels.layers]
    return tuple(
        label.name for label in labels.table.labels if label.layer < len(present) and label.value in present[label.layer]
    )


def _describes(file: Path, labels: LabelMap) -> bool:
    """Whether a DICOM SEG has a segment of each label's or instance's name."""
    if file.is_dir() or detect(file).name != "dicom-seg":
        return False
    segments = read_object(file, tags=["SegmentSequence"]).get("SegmentSequence") or []
    return {segment.name for segment in segments_of(labels)} <= {str(item.get("SegmentLabel", "")) for item in segments}


def _holds(file: Path, labels: LabelMap, scan: Volume) -> bool:
    """Whether a file is a DICOM SEG of the same labels on the same series."""
    try:
        if detect(file).name != "dicom-seg" or not image_named_by(file).names(scan.source.series_uid):
            return False
        other = read_labels(file).on_grid(scan.geometry)
    except (ReadError, GridMismatchError):
        return False
    names = _present(labels)
    if not set(other.table.names) >= set(names) or (other.instances is None) != (labels.instances is None):
        return False
    return all(np.array_equal(other.mask(name), labels.mask(name)) and _same_ids(other, labels, name) for name in names)


def _same_ids(labels: LabelMap, other: LabelMap, name: str) -> bool:
    """Whether a label's voxels have the same instance ids in two maps."""
    if labels.instances is None or other.instances is None:
        return True
    mask, layers = other.mask(name), (labels.table[name].layer, other.table[name].layer)
    return np.array_equal(labels.instances[layers[0]][mask], other.instances[layers[1]][mask])
