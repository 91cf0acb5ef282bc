"""The result of a job as files of its folder: labels, the answer, slices drawn with labels, downloads in any format."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from voxelry.base.files import atomic_folder, read_json, write_json
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.model import ModelCard
from voxelry.core.object_palette import NO_COLOURS, ObjectColours
from voxelry.core.panel import PLANES, CutScan, Panel
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import UsageError
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm
from voxelry.formats.file_format import Format
from voxelry.formats.overlay_paint import window_of
from voxelry.formats.read_options import ReadOptions
from voxelry.formats.reader import read_file
from voxelry.formats.table import all_formats, format_named, written_format
from voxelry.metrics.measurements import measure_labels
from voxelry.serving.segment_answer import SegmentAnswer, png_of

SCAN = "scan"
"""The file that was received."""
_ANSWER, _TABLE, _VIEW = "answer.json", "table.json", "view.json"
_LABELS, _IDS, _GREY = "layers.npy", "ids.npy", "grey.npy"
_FILES, _MEASURED = "files", "measurements.json"
_PICTURE = "picture"
_SIDE = 768
"""Pixels of the longer side of a drawn slice."""
_NOWHERE = Source()
_SLAB = 64
"""Slices that are turned to grey values at once."""


def keep_result(folder: Path, volume: Volume, answer: SegmentAnswer) -> None:
    """Write what a job gave into its folder; the answer last, so that a folder that has it is whole.

    Args:
        folder: of the job.
        volume: the scan.
        answer: its segments.
    """
    labels = answer.labels
    np.save(folder / _LABELS, labels.layers)
    if labels.instances is not None:
        np.save(folder / _IDS, labels.instances)
    write_json(folder / _TABLE, labels.table.model_dump(mode="json"))
    _write_grey(folder / _GREY, volume)
    write_json(folder / _VIEW, _view(labels))
    write_json(
        folder / _ANSWER,
        {"segments": answer.elements, "planes": _planes(labels), "formats": _formats(labels, volume)},
    )


def read_answer(folder: Path) -> dict[str, Any]:
    """Segments, planes with their number of slices, and formats of a job that is done."""
    return read_json(folder / _ANSWER)


def _view(labels: LabelMap) -> dict[str, Any]:
    """What slices are drawn by: the grid, and the colours of objects."""
    geometry = labels.geometry
    return {
        "shape": geometry.shape,
        "affine": None if geometry.affine is None else geometry.affine.tolist(),
        "size": geometry.pixel_size,
        "colours": ObjectColours.of(labels).by_id,
    }


def _cut(geometry: Geometry, grey: NDArray[Any], labels: LabelMap, colours: ObjectColours) -> CutScan:
    """A volume in the order of display, as views: only the slices that are asked for are read."""
    change = geometry.reindexing_to_orientation("LPI")
    return CutScan(
        change.apply(grey),
        change.apply(labels.layers),
        None,
        None if labels.instances is None else change.apply(labels.instances),
        geometry.reindexed(change).spacing or (1.0, 1.0, 1.0),
        (0.0, 255.0),
        colours,
    )


def _planes(labels: LabelMap) -> dict[str, dict[str, int]]:
    """Of each plane its number of slices, and the one with most labelled voxels, to begin with."""
    if labels.geometry.affine is None:
        return {_PICTURE: {"slices": 1, "fullest": 0}}
    scan = _cut(labels.geometry, labels.layers[0], labels, NO_COLOURS)
    counts = dict(zip(("sagittal", "coronal", "axial"), scan.image.shape, strict=True))
    flat = {plane for plane in PLANES if min(count for other, count in counts.items() if other != plane) == 1}
    return {plane: {"slices": counts[plane], "fullest": scan.fullest(plane)} for plane in PLANES if plane not in flat}


def _formats(labels: LabelMap, volume: Volume) -> list[dict[str, str]]:
    """The formats that the labels of a scan can be downloaded in."""
    is_dicom, axes = bool(volume.source.instances), labels.geometry.ndim
    return [
        {"name": row.name, "title": row.title, "ending": row.ending}
        for row in all_formats().values()
        if row.write_labels
        and axes in row.axes
        and (is_dicom or row.source != "required")
        and (row.layers or len(labels.layers) == 1)
    ]


def _write_grey(file: Path, volume: Volume) -> None:
    """The first channel (of a picture the mean) as shown: 0 black to 255 white, slab by slab."""
    low, high = window_of(volume)
    array = volume.array
    grey = open_memmap(file, mode="w+", dtype=np.uint8, shape=volume.geometry.shape)
    for start in range(0, array.shape[-1], _SLAB):
        slab = array[..., start : start + _SLAB]
        values = slab.mean(axis=0, dtype=np.float32) if slab.ndim == 3 else slab[0].astype(np.float32)
        grey[..., start : start + _SLAB] = np.clip((values - low) * (255 / ((high - low) or 1.0)), 0, 255)
    grey.flush()


def _stored_labels(folder: Path, geometry: Geometry, source: Source = _NOWHERE) -> LabelMap:
    """The labels of a job on the grid of its scan; arrays are read as they are used."""
    ids = folder / _IDS
    return LabelMap(
        np.load(folder / _LABELS, mmap_mode="r"),
        geometry,
        LabelTable.model_validate(read_json(folder / _TABLE)),
        source,
        np.load(ids, mmap_mode="r") if ids.is_file() else None,
    )


def draw_slice(folder: Path, plane: str, index: int) -> bytes:
    """A slice with the labels drawn on it, from what `keep_result` wrote: the scan itself is not read again.

    Args:
        folder: of the job.
        plane: ``axial``, ``coronal``, ``sagittal``, or ``picture``.
        index: of the slice, from the head, the front or the right.

    Returns:
        A PNG at the slice's true aspect ratio.

    Raises:
        UsageError: no such plane or slice.
    """
    view = read_json(folder / _VIEW)
    size = view["size"]
    geometry = Geometry(tuple(view["shape"]), view["affine"], None if size is None else tuple(size))
    labels = _stored_labels(folder, geometry)
    colours = ObjectColours({int(id): tuple(rgb) for id, rgb in view["colours"].items()}, {})
    grey: NDArray[Any] = np.load(folder / _GREY, mmap_mode="r")
    if geometry.affine is not None:
        panel = _cut(geometry, grey, labels, colours).panel(plane, index)
    elif (plane, index) == (_PICTURE, 0):
        spacing = geometry.pixel_size or (1.0, 1.0)
        panel = Panel(plane, "", grey.astype(np.float32) / 255, labels.layers, None, spacing, labels.instances, colours)
    else:
        raise UsageError(f"no {plane} slice {index} of a picture", remedy=f"Ask for {_PICTURE}/0.")
    return png_of(panel.draw(labels.table, (_SIDE, _SIDE)))


def download(folder: Path, name: str, card: ModelCard, series: str | None) -> Path:
    """The labels of a job in a format, written when they are first asked for.

    Args:
        folder: of the job.
        name: of the format.
        card: of the model, for formats that name the algorithm.
        series: which volume of the scan.

    Returns:
        The file; a zip archive where the format needs several.

    Raises:
        UsageError: an unknown format.
        ExportError: it cannot hold these labels.
    """
    row = written_format(name)
    target = folder / _FILES / row.name
    if not target.is_dir():
        volume = read_file(folder / SCAN, ReadOptions(series=series))
        target.parent.mkdir(exist_ok=True)
        with atomic_folder(target, keep=lambda _: True) as temporary:
            labels = _stored_labels(folder, volume.geometry, volume.source)
            _write(row, labels, temporary / f"labels{row.ending}", volume, card)
            if len(list(temporary.iterdir())) > 1 or next(temporary.iterdir()).is_dir():
                _pack(temporary)
    return next(target.iterdir())


def measured(folder: Path, series: str | None) -> list[dict[str, Any]]:
    """The measurements of every label, or instance, of a job: sizes, diameters, intensities; computed when first asked for.

    Args:
        folder: of the job.
        series: which volume of the scan.
    """
    file = folder / _MEASURED
    if not file.is_file():
        volume = read_file(folder / SCAN, ReadOptions(series=series))
        labels = _stored_labels(folder, volume.geometry, volume.source)
        write_json(file, {"measurements": [item.as_dict() for item in measure_labels(labels, volume)]})
    measurements: list[dict[str, Any]] = read_json(file)["measurements"]
    return measurements


def _pack(folder: Path) -> None:
    """Put all that a folder holds into one zip archive in it."""
    entries = list(folder.iterdir())
    with zipfile.ZipFile(folder / "labels.zip", "x", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "labels.zip"):
            archive.write(file, file.relative_to(folder))
    for entry in entries:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _write(row: Format, labels: LabelMap, path: Path, volume: Volume, card: ModelCard) -> Path:
    """Write one format; a report refers to a SEG, which is written first."""
    options: dict[str, Any] = {"algorithm": Algorithm.of(card)} if "algorithm" in row.options else {}
    if "segmentation" in row.required_options:
        seg = format_named("dicom-seg")
        options["segmentation"] = _write(seg, labels, path.with_name(f"labels{seg.ending}"), volume, card)
    return row.write(labels, path, volume, options)
