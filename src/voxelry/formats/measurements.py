"""What is measured of each label, and of each lesion, of a map: volume, diameters, intensity.

Every label is looked at within its own box, so that memory is bounded by the largest label, not by labels times scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from voxelry.core.labels import Label
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GridMismatchError
from voxelry.formats.diameters import Diameters, diameters
from voxelry.formats.label_values import boxes

Region = tuple[slice, ...]


@dataclass(frozen=True)
class Intensity:
    """The image's values in a region, in the image's unit (Hounsfield units for CT).

    Attributes:
        mean, sd: mean and standard deviation of the voxels themselves (divided by n).
        minimum, maximum: the extremes.
    """

    mean: float
    sd: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Measurement:
    """What is known of one region.

    Attributes:
        label: what it is of.
        instance: the lesion's instance id, 0 for all of the label.
        voxels: how many there are.
        volume_mm3: their volume, None for pictures.
        area_mm2: a picture's area, None for volumes and where the pixel size is not known.
        axes: long and short axis in the plane of the first two axes; None where empty or the spacing is not known.
        intensity: of the image, None where empty or no image was given.
    """

    label: Label
    instance: int
    voxels: int
    volume_mm3: float | None
    area_mm2: float | None
    axes: Diameters | None
    intensity: Intensity | None


def measure_labels(labels: LabelMap, volume: Volume | None = None) -> list[Measurement]:
    """Measure every label of the table, and every instance of labels of countable things.

    A label of kind ``thing`` on a map with instance ids gives a row for each instance in place of one for the label. Diameters
    are measured in the planes of the first two axes: put the labels on the scan's own grid for diameters in its slices.

    Args:
        labels: on any number of layers.
        volume: the image, on the same grid; its first channel is measured. None to leave intensities out.

    Returns:
        Rows in the order of the table and of the ids; a label without a voxel has a row too.

    Raises:
        GridMismatchError: labels and image lie on different grids.
        LabelError: values that the table does not know.
    """
    if volume is not None and not labels.geometry.same_grid(volume.geometry):
        raise GridMismatchError(
            f"{labels.source.name}: labels ({labels.geometry.describe()}) and image ({volume.geometry.describe()}) lie on "
            "different grids",
            remedy="Put the labels on the image's grid first (LabelMap.on_grid).",
        )
    rows = []
    for label, box in boxes(labels, labels.source.name):
        if box is None:
            rows.append(_measured(labels, label, 0, np.zeros((1,) * labels.geometry.ndim, dtype=bool), None, None))
            continue
        for instance, region, mask in _regions(labels, label, box):
            rows.append(_measured(labels, label, instance, mask, region, volume))
    return rows


def _regions(labels: LabelMap, label: Label, box: Region) -> Iterator[tuple[int, Region, NDArray[np.bool_]]]:
    """The parts of a label that are measured: instance id, box, mask within the box."""
    mask = labels.layers[label.layer][box] == label.value
    if labels.instances is None or label.kind == "stuff":
        yield 0, box, mask
        return
    ids = np.where(mask, labels.instances[label.layer][box], 0)
    known, numbered = np.unique(ids, return_inverse=True)
    numbered = numbered.reshape(ids.shape) + 1
    numbered[~mask] = 0
    for number, inner in enumerate(find_objects(numbered), start=1):
        if inner is not None:
            region = tuple(slice(o.start + i.start, o.start + i.stop) for o, i in zip(box, inner, strict=True))
            yield int(known[number - 1]), region, numbered[inner] == number


def _measured(
    labels: LabelMap, label: Label, instance: int, mask: NDArray[np.bool_], region: Region | None, volume: Volume | None
) -> Measurement:
    geometry, count = labels.geometry, int(np.count_nonzero(mask))
    size = None if geometry.voxel_volume is None else count * geometry.voxel_volume
    return Measurement(
        label=label,
        instance=instance,
        voxels=count,
        volume_mm3=size if geometry.ndim == 3 else None,
        area_mm2=size if geometry.ndim == 2 else None,
        axes=_axes(mask, geometry.spacing, region) if region is not None else None,
        intensity=_intensity(volume.array[0][region][mask]) if volume is not None and region is not None else None,
    )


def _axes(mask: NDArray[np.bool_], spacing: tuple[float, ...] | None, region: Region) -> Diameters | None:
    """The axes, their place counted from the corner of the map."""
    if spacing is None:
        return None
    found = diameters(mask if mask.ndim == 3 else mask[:, :, None], (spacing[0], spacing[1]))
    if found is None:
        return None
    start = [part.start for part in region] + [0]
    (a, b), (c, d) = found.ends
    ends = ((a + start[0], b + start[1]), (c + start[0], d + start[1]))
    return Diameters(found.long_mm, found.short_mm, found.slice + start[2], ends)


def _intensity(values: NDArray[np.generic]) -> Intensity:
    numbers = values.astype(np.float64)
    return Intensity(float(numbers.mean()), float(numbers.std()), float(numbers.min()), float(numbers.max()))
