"""Writes a table of objects as CSV: a row for each instance, or for each label without instances, with its measurements."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

from voxelry.base.files import write_text
from voxelry.core.geometry import Geometry
from voxelry.core.measurement import Measurement
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError
from voxelry.metrics.measurements import check_grid, measure_labels

_DIGITS = 10
"""Significant digits of a number."""

_NAMES = ("label", "value", "code", "scheme", "modifier", "id", "voxels")
_INTENSITY = ("mean", "sd", "minimum", "maximum")
_WORLD = ("x_mm", "y_mm", "z_mm")
_IN_PIXELS = {"area_mm2": "area_px", "long_mm": "long_px", "short_mm": "short_px"}


def write_object_table(labels: LabelMap, path: str | os.PathLike[str], *, source: Volume | None = None) -> Path:
    """Write the measurements of every object as CSV.

    Columns: ``label``, ``value``, ``code``, ``scheme``, ``modifier`` (the code of its side or part), ``id`` (of the instance;
    empty for a label as a whole), ``voxels``, ``volume_mm3`` or of pictures ``area_mm2``, ``long_mm`` and ``short_mm`` (RECIST,
    in the plane of the first two axes; ``area_px``, ``long_px`` and ``short_px`` of pictures of unknown pixel size);
    ``mean``, ``sd``, ``minimum``, ``maximum`` of the scan where one is given; the centroid in voxels (``centroid_0``...) and in
    the world, RAS+ (``x_mm``, ``y_mm``, ``z_mm``); the box (``first_0``..., ``end_0``..., one past the last voxel);
    ``touches_border``, 0 or 1.
    What is not known is empty.

    Args:
        labels: on any number of layers.
        path: ends in ``.csv``; replaced if it exists.
        source: the scan, on the same grid, for intensities.

    Returns:
        The path.

    Raises:
        ExportError: another ending.
        GridMismatchError: the labels lie on another grid.
        LabelError: values that the table does not know, or ids that fit no label.
    """
    target = Path(path)
    if not target.name.lower().endswith(".csv"):
        raise ExportError(f"{path}: a table ends in .csv", remedy="Change the name.")
    by_id, in_pixels = labels.instances is not None, labels.geometry.spacing is None
    if in_pixels:
        check_grid(labels, source)
        grid = Geometry(labels.geometry.shape, None, (1.0, 1.0))
        labels, source = replace(labels, geometry=grid), None if source is None else replace(source, geometry=grid)
    rows = [_row(item, by_id) for item in measure_labels(labels, source)]
    text = io.StringIO()
    columns = _columns(labels.geometry.ndim, source is not None)
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writerow({name: _IN_PIXELS.get(name, name) if in_pixels else name for name in columns})
    writer.writerows(rows)
    write_text(target, text.getvalue())
    return target


def _columns(ndim: int, with_intensity: bool) -> list[str]:
    """The titles of a table of volumes or of pictures."""
    axes = range(ndim)
    size, world = (["volume_mm3"], [*_WORLD]) if ndim == 3 else (["area_mm2"], [])
    intensity = [*_INTENSITY] if with_intensity else []
    places = [f"{name}_{axis}" for name in ("centroid", "first", "end") for axis in axes]
    return [*_NAMES, *size, "long_mm", "short_mm", *intensity, *places, *world, "touches_border"]


def _row(item: Measurement, by_id: bool) -> dict[str, str | int]:
    """One object's values by title."""
    label, told = item.label, by_id and item.label.kind == "thing"
    numbers: dict[str, float | None] = {"volume_mm3": item.volume_mm3, "area_mm2": item.area_mm2}
    numbers |= {name: getattr(item.axes, name, None) for name in ("long_mm", "short_mm")}
    numbers |= {name: getattr(item.intensity, name, None) for name in _INTENSITY}
    numbers |= {f"centroid_{axis}": value for axis, value in enumerate(item.centroid or ())}
    numbers |= dict(zip(_WORLD, item.centroid_mm or (), strict=False))
    about: dict[str, str | int] = {
        "label": label.name,
        "value": label.value,
        "code": label.type.value if label.type else "",
        "scheme": label.type.scheme if label.type else "",
        "modifier": label.modifier.value if label.modifier else "",
        "id": item.instance if told and item.instance else "",
        "voxels": item.voxels,
        "touches_border": int(item.touches_border),
    }
    box: dict[str, str | int] = {f"first_{axis}": side.start for axis, side in enumerate(item.box or ())}
    box |= {f"end_{axis}": side.stop for axis, side in enumerate(item.box or ())}
    return about | box | {name: f"{value:.{_DIGITS}g}" for name, value in numbers.items() if value is not None}
