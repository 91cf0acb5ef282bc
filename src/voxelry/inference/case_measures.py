"""Measures of a scan and of each label in it, the same for training references and for predictions.

Axes are those of the patient (``R``, ``A``, ``S``; of pictures ``row`` and ``column``), however a scan is stored.
Measures of a label: ``volume`` (logarithm of mm^3, of a picture of its share of the pixels), ``place_<axis>`` (its centroid as
a share of the scan's extent), ``offset_<axis>`` (of its centroid from the mean centroid of all labels, mm; of pictures a share
of the longer edge), ``extent_<axis>`` (logarithm of the length of its box), ``skew_<axis>`` (third standardised moment of its
voxels: whether it tapers to one side), ``fragments`` (share of its voxels outside its largest component), ``border`` (share of
its voxels on faces of the scan), ``contrast_<channel>`` (its mean grey value from the scan's median, in spreads of the scan).

Measures of a scan: ``spacing_<axis>`` and ``size_<axis>`` (logarithms of mm; of pictures their aspect ratio alone),
``roughness_<channel>`` (logarithm of the mean step between neighbouring voxels, in spreads: noise raises it, blur lowers it),
``balance_<channel>`` (where the median lies between the 5th and 95th percentile), ``slope_<axis>`` (correlation of the first
channel's grey values with the position along the axis: its sign changes in a scan upside down).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.label_boxes import boxes
from voxelry.core.labels import Label
from voxelry.core.volume import LabelMap, Volume

AXES: dict[int, tuple[str, ...]] = {2: ("row", "column"), 3: ("R", "A", "S")}

_CANONICAL = "RAS"
_NEIGHBOURS: dict[int, Literal[8, 26]] = {2: 8, 3: 26}
_SAMPLES = 1_000_000
"""Voxels of a scan, about, that its grey values are measured on."""

_PLANES = 24
"""Slices of a scan, evenly spread, that its roughness is measured on."""


@dataclass(frozen=True)
class CaseMeasures:
    """Measures of one case.

    Attributes:
        scan: name -> value.
        labels: label -> name -> value; empty where it has no voxel.
    """

    scan: Mapping[str, float]
    labels: Mapping[str, Mapping[str, float]]


def measure_case(volume: Volume, labels: LabelMap) -> CaseMeasures:
    """Measure a scan and its labels.

    Args:
        volume: the scan.
        labels: a reference or a prediction, on the scan's grid.

    Returns:
        The measures, none of them infinite or NaN.
    """
    geometry = volume.geometry
    if geometry.affine is not None:
        change = geometry.reindexing_to_orientation(_CANONICAL)
        volume, labels = volume.reindexed(change), labels.on_grid(geometry.reindexed(change))
    spreads = [_Grey.of(channel) for channel in volume.array]
    found_boxes = boxes(labels, labels.source.name)
    rows: dict[str, dict[str, float]] = {}
    for label, box in found_boxes:
        rows[label.name] = {} if box is None else _label(label, box, volume, labels, spreads)
    _add_offsets(rows, volume.geometry)
    return CaseMeasures(_scan(volume, spreads), rows)


@dataclass(frozen=True)
class _Grey:
    """Grey values of a channel: percentiles, and the mean step between neighbours."""

    low: float
    middle: float
    high: float
    step: float

    @property
    def width(self) -> float:
        return max(self.high - self.low, 1e-6 * max(1.0, abs(self.high)))

    @classmethod
    def of(cls, channel: NDArray[Any]) -> _Grey:
        low, middle, high = np.percentile(_thinned(channel), (5, 50, 95)).tolist()
        return cls(low, middle, high, _mean_step(channel))


def _mean_step(channel: NDArray[Any]) -> float:
    """Mean difference of neighbouring voxels within slices across the last axis (a picture is its own slice)."""
    planes = [channel] if channel.ndim == 2 else [
        channel[..., k] for k in np.unique(np.linspace(0, channel.shape[2] - 1, _PLANES).round().astype(int))
    ]  # fmt: skip
    steps = [
        np.abs(np.diff(plane.astype(np.float32), axis=axis)) for plane in planes for axis in range(2) if plane.shape[axis] > 1
    ]
    return float(np.mean([step.mean() for step in steps])) if steps else 0.0


def _scan(volume: Volume, greys: list[_Grey]) -> dict[str, float]:
    geometry, names = volume.geometry, AXES[volume.geometry.ndim]
    values: dict[str, float] = {}
    if geometry.ndim == 3 and geometry.spacing is not None:
        for name, n, step in zip(names, geometry.shape, geometry.spacing, strict=True):
            values |= {f"spacing_{name}": math.log(step), f"size_{name}": math.log(n * step)}
    else:
        values["size_aspect"] = math.log(geometry.shape[0] / geometry.shape[1])
    for number, grey in enumerate(greys):
        values[f"roughness_{number}"] = math.log(max(grey.step / grey.width, 1e-6))
        values[f"balance_{number}"] = (grey.middle - grey.low) / grey.width
    return values | {f"slope_{name}": slope for name, slope in zip(names, _slopes(volume.array[0]), strict=True)}


def _slopes(channel: NDArray[Any]) -> list[float]:
    """Correlation of grey values with the position along each axis; 0 of a blank scan."""
    thinned = _thinned(channel).astype(np.float64)
    std, slopes = float(thinned.std()), []
    for axis, n in enumerate(thinned.shape):
        profile = thinned.mean(axis=tuple(other for other in range(thinned.ndim) if other != axis))
        places = np.arange(n) - (n - 1) / 2
        spread = std * float(places.std())
        slopes.append(float((profile * places).mean()) / spread if spread > 0 else 0.0)
    return slopes


def _thinned(channel: NDArray[Any]) -> NDArray[Any]:
    """About `_SAMPLES` of the voxels."""
    stride = max(1, math.ceil((channel.size / _SAMPLES) ** (1 / channel.ndim)))
    return channel[tuple(slice(None, None, min(stride, n)) for n in channel.shape)]


def _label(label: Label, box: tuple[slice, ...], volume: Volume, labels: LabelMap, greys: list[_Grey]) -> dict[str, float]:
    geometry = volume.geometry
    mask: NDArray[np.bool_] = labels.layers[label.layer][box] == label.value
    voxels = int(np.count_nonzero(mask))
    values = {"volume": math.log(voxels * _size_of(geometry)), "border": _on_faces(mask, box, geometry.shape) / voxels}
    for axis, name in enumerate(AXES[geometry.ndim]):
        counts = mask.sum(axis=tuple(other for other in range(mask.ndim) if other != axis), dtype=np.int64)
        mean, std, skew = _moments(counts)
        values[f"place_{name}"] = (box[axis].start + mean + 0.5) / geometry.shape[axis]
        values[f"extent_{name}"] = math.log(len(counts) * _scale(geometry)[axis])
        if std > 0:
            values[f"skew_{name}"] = skew
    if label.kind == "stuff" or labels.instances is None:
        values["fragments"] = 1 - _largest(mask) / voxels
    for number, (channel, grey) in enumerate(zip(volume.array, greys, strict=True)):
        values[f"contrast_{number}"] = (float(channel[box][mask].mean(dtype=np.float64)) - grey.middle) / grey.width
    return values


def _size_of(geometry: Geometry) -> float:
    """Of a voxel: mm^3; of a pixel its share of the picture."""
    if geometry.ndim == 3 and geometry.voxel_volume is not None:
        return geometry.voxel_volume
    return 1 / math.prod(geometry.shape)


def _scale(geometry: Geometry) -> tuple[float, ...]:
    """Of a voxel's edges: mm; of a pixel's a share of the longer edge of the picture."""
    if geometry.ndim == 3 and geometry.spacing is not None:
        return geometry.spacing
    return (1 / max(geometry.shape),) * geometry.ndim


def _on_faces(mask: NDArray[np.bool_], box: tuple[slice, ...], shape: tuple[int, ...]) -> int:
    """Voxels of a mask on faces of the scan, those on edges counted once for each face; an axis of one voxel has no faces."""
    total = 0
    for axis, (side, n) in enumerate(zip(box, shape, strict=True)):
        if n > 1 and side.start == 0:
            total += int(np.count_nonzero(np.take(mask, 0, axis)))
        if n > 1 and side.stop == n:
            total += int(np.count_nonzero(np.take(mask, -1, axis)))
    return total


def _moments(counts: NDArray[np.int64]) -> tuple[float, float, float]:
    """Mean, standard deviation and skewness of positions 0, 1, ... that occur `counts` times."""
    at, total = np.arange(len(counts), dtype=np.float64), counts.sum()
    mean = float((counts * at).sum() / total)
    variance = float((counts * (at - mean) ** 2).sum() / total)
    third = float((counts * (at - mean) ** 3).sum() / total)
    std = math.sqrt(variance)
    return mean, std, third / std**3 if std > 0 else 0.0


def _largest(mask: NDArray[np.bool_]) -> int:
    """Voxels of the largest connected component."""
    fortran = mask.T if mask.flags.c_contiguous else mask
    components = cc3d.connected_components(fortran, connectivity=_NEIGHBOURS[mask.ndim])
    return int(np.bincount(components.ravel(order="K"))[1:].max())


def _add_offsets(rows: Mapping[str, dict[str, float]], geometry: Geometry) -> None:
    """Where each label lies from the mean of all that are there, if there are several."""
    present = [row for row in rows.values() if row]
    if len(present) < 2:
        return
    for axis, name in enumerate(AXES[geometry.ndim]):
        length = geometry.shape[axis] * _scale(geometry)[axis]
        middle = sum(row[f"place_{name}"] for row in present) / len(present)
        for row in present:
            row[f"offset_{name}"] = (row[f"place_{name}"] - middle) * length
