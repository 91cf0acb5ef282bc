"""The profile of a case: numbers that the page of a dataset shows and compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.label_boxes import boxes
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.mask_fit import MaskFit, fit_mask

BINS = 64
"""Of a histogram."""

_SHOWN = (0.5, 50.0, 99.5)
_SAMPLES = 500_000


@dataclass(frozen=True, eq=False)
class GreyProfile:
    """Grey values of a channel.

    Attributes:
        channel: its name.
        low, median, high: percentiles 0.5, 50 and 99.5.
        shares: ``(BINS,)`` share of the voxels in equal bins from `low` to `high`; those beyond stand in the outermost ones.
    """

    channel: str
    low: float
    median: float
    high: float
    shares: NDArray[np.float64]


@dataclass(frozen=True)
class LabelProfile:
    """A label of a case.

    Attributes:
        voxels: their number; 0 where the label is absent.
        size: volume in ml, or area in mm^2 of pictures; voxels where their size is unknown.
        place: the centre, as shares of the image along right, front and head (volumes: 0 left, back, feet; 1 right, front, head)
            or along rows and columns (pictures); None where absent.
    """

    voxels: int
    size: float
    place: tuple[float, ...] | None


ABSENT = LabelProfile(0, 0.0, None)


@dataclass(frozen=True, eq=False)
class CaseProfile:
    """A case in numbers.

    Attributes:
        id, split, group: of the case.
        shape: voxels along each axis.
        spacing: in mm; None where unknown.
        orientation: letters of the axes, such as RAS; None for pictures.
        histograms: of each channel.
        labels: name -> label; empty without a reference.
        fit: how the labelled voxels fit the first channel; None where that cannot be said.
    """

    id: str
    split: str | None
    group: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    orientation: str | None
    histograms: tuple[GreyProfile, ...]
    labels: dict[str, LabelProfile]
    fit: MaskFit | None


def profile_case(case: Case, channels: tuple[str, ...], volume: Volume, labels: LabelMap | None) -> CaseProfile:
    """Measure a case.

    Args:
        case: its names.
        channels: names of the channels.
        volume: the image.
        labels: on the image's grid; None without a reference.
    """
    geometry = volume.geometry
    histograms = tuple(_histogram(name, channel) for name, channel in zip(channels, volume.array, strict=True))
    return CaseProfile(
        case.id,
        case.split,
        case.group,
        tuple(geometry.shape),
        geometry.spacing,
        geometry.orientation,
        histograms,
        {} if labels is None else _labels(labels, str(case.named_file)),
        None if labels is None else fit_mask(volume.array[0], _labelled(labels)),
    )


def _histogram(name: str, channel: NDArray[Any]) -> GreyProfile:
    values = channel.reshape(-1)[:: max(1, channel.size // _SAMPLES)].astype(np.float64)
    low, median, high = np.percentile(values, _SHOWN)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return GreyProfile(name, float(low), float(median), float(high), counts / len(values))


def _labelled(labels: LabelMap) -> NDArray[np.bool_]:
    """Voxels of any label."""
    labelled = np.zeros(labels.geometry.shape, bool)
    for layer in labels.layers:
        labelled |= (layer != 0) & (layer != labels.table.ignore) if labels.table.ignore is not None else layer != 0
    return labelled


def _labels(labels: LabelMap, where: str) -> dict[str, LabelProfile]:
    geometry = labels.geometry
    unit = geometry.voxel_volume
    factor = 1.0 if unit is None else unit / 1000 if geometry.ndim == 3 else unit
    profiles = {}
    for label, box in boxes(labels, where):
        if box is None:
            profiles[label.name] = ABSENT
            continue
        places = np.argwhere(labels.layers[label.layer][box] == label.value)
        centre = places.mean(0) + [side.start for side in box]
        shares = (centre + 0.5) / geometry.shape
        profiles[label.name] = LabelProfile(len(places), len(places) * factor, _in_the_body(shares, geometry.orientation))
    return profiles


def _in_the_body(shares: NDArray[np.float64], orientation: str | None) -> tuple[float, ...]:
    """Shares along the array's axes -> along right, front and head."""
    if orientation is None:
        return tuple(shares.tolist())
    result = [0.0, 0.0, 0.0]
    for letter, share in zip(orientation, shares.tolist(), strict=True):
        result[("RL", "AP", "SI").index(next(pair for pair in ("RL", "AP", "SI") if letter in pair))] = (
            share if letter in "RAS" else 1 - share
        )
    return tuple(result)
