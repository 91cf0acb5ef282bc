"""A row of numbers for every label and every object of a map: size, intensities, shape, place; units stand in the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from voxelry.core.objects import ObjectBox, objects_of
from voxelry.core.volume import LabelMap, Volume
from voxelry.metrics.measurements import check_grid, measurement_of
from voxelry.metrics.object_shape import ObjectShape, shape_of

_UNITS = {"CT": "HU"}
_SUV = "SUV by body weight"
"""Starts the remark of a reader that scaled PET to uptake values."""

_PERCENTILES = {"p05": 5, "p10": 10, "p25": 25, "median": 50, "p75": 75, "p90": 90, "p95": 95}
_INTENSITIES = ("mean", "sd", "min", *_PERCENTILES, "max")
_PLACES = ("x_mm", "y_mm", "z_mm")

COLUMNS: Mapping[str, type] = MappingProxyType(
    {
        "label": str, "label_value": int, "kind": str, "code": str, "code_scheme": str, "code_modifier": str, "instance": int,
        "voxels": int, "volume_mm3": float, "area_mm2": float,
        "long_axis_mm": float, "short_axis_mm": float,
        **{field.name: float for field in fields(ObjectShape)},
        **{f"intensity_{name}": float for name in _INTENSITIES}, "intensity_unit": str,
        **dict.fromkeys(_PLACES, float), "touches_border": bool,
    }
)  # fmt: skip
"""Column -> type of its values, all of which may be None."""


def measurement_rows(labels: LabelMap, volume: Volume | None = None) -> list[dict[str, Any]]:
    """Measure every label, and every instance of things: volume, RECIST axes, shape, intensities, place.

    A label of kind ``thing`` on a map with instance ids has a row for each instance; a label without a voxel has a row too.

    Args:
        labels: on any number of layers.
        volume: the image, on the same grid; its first channel is measured. None to leave intensities out.

    Returns:
        Rows in the order of the table and of the ids, with plain values for the keys of `COLUMNS`; None for what does not apply.
        ``instance`` is 0 for a label as a whole. Shape is that of `ObjectShape`. ``intensity_unit`` is ``HU`` for CT, ``g/ml``
        for SUV, None where the unit is arbitrary. ``x_mm``... is the centroid, RAS+.

    Raises:
        GridMismatchError: labels and image lie on different grids.
        LabelError: values that the table does not know, or ids that fit no label.

    Example:
        >>> from voxelry.metrics import measurement_rows
        >>> from voxelry.phantom import small_phantom
        >>> phantom = small_phantom()
        >>> liver = measurement_rows(phantom.labels, phantom.volume)[0]
        >>> liver["label"], 1.2e6 < liver["volume_mm3"] < 1.8e6, 50 < liver["intensity_median"] < 110, liver["intensity_unit"]
        ('liver', True, True, 'HU')
    """
    check_grid(labels, volume)
    return [_row(labels, item, volume) for item in objects_of(labels, labels.source.name)]


def _row(labels: LabelMap, item: ObjectBox, volume: Volume | None) -> dict[str, Any]:
    label, measured = item.label, measurement_of(labels, item, None)
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"label": label.name, "label_value": label.value, "kind": label.kind, "instance": item.instance}
    row |= {"voxels": item.voxels, "volume_mm3": measured.volume_mm3, "area_mm2": measured.area_mm2}
    if label.type is not None:
        row |= {"code": label.type.value, "code_scheme": label.type.scheme}
    if label.modifier is not None:
        row["code_modifier"] = label.modifier.value
    if item.box is None:
        return row
    mask, geometry = item.mask(labels), labels.geometry
    if measured.axes is not None:
        row |= {"long_axis_mm": measured.axes.long_mm, "short_axis_mm": measured.axes.short_mm}
    if geometry.affine is not None:
        row |= asdict(shape_of(mask, np.asarray(geometry.affine)[:3, :3]))
    elif geometry.spacing is not None:
        row |= asdict(shape_of(mask, np.diag(geometry.spacing)))
    else:
        shape = shape_of(mask, np.eye(geometry.ndim))
        row |= {"circularity": shape.circularity, "elongation": shape.elongation}  # numbers without a unit
    if volume is not None:
        values = volume.array[0][item.box][mask]
        row |= {f"intensity_{name}": value for name, value in zip(_INTENSITIES, _intensities(values), strict=True)}
        row["intensity_unit"] = intensity_unit(volume)
    row |= dict(zip(_PLACES, measured.centroid_mm or (), strict=False))
    return row | {"touches_border": measured.touches_border}


def _intensities(values: np.ndarray[Any, Any]) -> list[float]:
    """Mean, standard deviation, least, percentiles, largest."""
    percentiles = np.percentile(values, list(_PERCENTILES.values()))
    mean, sd = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    return [float(value) for value in (mean, sd, values.min(), *percentiles, values.max())]


def intensity_unit(volume: Volume) -> str | None:
    """The unit of an image's grey values; None where they have none."""
    if volume.modality == "PT" and any(remark.startswith(_SUV) for remark in volume.source.remarks):
        return "g/ml"
    return _UNITS.get(volume.modality)
