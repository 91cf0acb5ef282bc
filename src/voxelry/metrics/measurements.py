"""Volume, diameters and intensity of every label and every lesion of a map.

Every label is measured within its own box, so that memory is bounded by the largest label, not by labels times scan.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from voxelry.core.label_boxes import Box, boxes
from voxelry.core.labels import Label
from voxelry.core.measurement import Diameters, Intensity, Measurement
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GridMismatchError
from voxelry.metrics.diameters import diameters


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

    Example:
        >>> import numpy as np
        >>> from voxelry import Geometry, LabelMap, LabelTable, measure_labels
        >>> array = np.zeros((8, 8, 4), np.uint8)
        >>> array[2:6, 3:5, 1:3] = 1
        >>> labels = LabelMap(array[None], Geometry.from_spacing(array.shape, (1, 1, 2.5)), LabelTable.numbered([1]))
        >>> [row] = measure_labels(labels)
        >>> row.voxels, row.volume_mm3, row.axes.long_mm > row.axes.short_mm
        (16, 40.0, True)
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
            rows.append(_measurement(labels, label, 0, np.zeros((1,) * labels.geometry.ndim, dtype=bool), None, None))
            continue
        for instance, own_box, mask in _instances(labels, label, box):
            rows.append(_measurement(labels, label, instance, mask, own_box, volume))
    return rows


def _instances(labels: LabelMap, label: Label, box: Box) -> Iterator[tuple[int, Box, NDArray[np.bool_]]]:
    """The instances of a label, or the label as a whole: id, box, mask within the box."""
    mask = labels.layers[label.layer][box] == label.value
    if labels.instances is None or label.kind == "stuff":
        yield 0, box, mask
        return
    ids = np.where(mask, labels.instances[label.layer][box], 0)
    distinct, numbered = np.unique(ids, return_inverse=True)
    numbered = numbered.reshape(ids.shape) + 1
    numbered[~mask] = 0
    for number, inner in enumerate(find_objects(numbered), start=1):
        if inner is not None:
            own_box = tuple(slice(o.start + i.start, o.start + i.stop) for o, i in zip(box, inner, strict=True))
            yield int(distinct[number - 1]), own_box, numbered[inner] == number


def _measurement(
    labels: LabelMap, label: Label, instance: int, mask: NDArray[np.bool_], box: Box | None, volume: Volume | None
) -> Measurement:
    geometry, count = labels.geometry, int(np.count_nonzero(mask))
    size = None if geometry.voxel_volume is None else count * geometry.voxel_volume
    return Measurement(
        label=label,
        instance=instance,
        voxels=count,
        volume_mm3=size if geometry.ndim == 3 else None,
        area_mm2=size if geometry.ndim == 2 else None,
        axes=_axes(mask, geometry.spacing, box) if box is not None else None,
        intensity=_intensity(volume.array[0][box][mask]) if volume is not None and box is not None else None,
    )


def _axes(mask: NDArray[np.bool_], spacing: tuple[float, ...] | None, box: Box) -> Diameters | None:
    """The diameters of a mask within a box, their position counted from the corner of the map."""
    if spacing is None:
        return None
    axes = diameters(mask if mask.ndim == 3 else mask[:, :, None], (spacing[0], spacing[1]))
    if axes is None:
        return None
    start = [side.start for side in box] + [0]
    (a, b), (c, d) = axes.ends
    ends = ((a + start[0], b + start[1]), (c + start[0], d + start[1]))
    return Diameters(axes.long_mm, axes.short_mm, axes.slice + start[2], ends)


def _intensity(values: NDArray[np.generic]) -> Intensity:
    numbers = values.astype(np.float64)
    return Intensity(float(numbers.mean()), float(numbers.std()), float(numbers.min()), float(numbers.max()))
