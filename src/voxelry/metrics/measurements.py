"""Volume, diameters and intensity of every label and every lesion of a map.

Every label is measured within its own box, so that memory is bounded by the largest label, not by labels times scan.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxelry.core.label_boxes import Box
from voxelry.core.measurement import Diameters, Intensity, Measurement
from voxelry.core.objects import ObjectBox, objects_of
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
        LabelError: values that the table does not know, or ids that fit no label.

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
    check_grid(labels, volume)
    return [measurement_of(labels, item, volume) for item in objects_of(labels, labels.source.name)]


def check_grid(labels: LabelMap, volume: Volume | None) -> None:
    """Refuse labels and an image on different grids.

    Raises:
        GridMismatchError: they are.
    """
    if volume is not None and not labels.geometry.same_grid(volume.geometry):
        raise GridMismatchError(
            f"{labels.source.name}: labels ({labels.geometry.describe()}) and image ({volume.geometry.describe()}) lie on "
            "different grids",
            remedy="Put the labels on the image's grid first (LabelMap.on_grid).",
        )


def measurement_of(labels: LabelMap, item: ObjectBox, volume: Volume | None) -> Measurement:
    """The measurements of one object of `objects_of`, on a grid that is the volume's."""
    geometry = labels.geometry
    size = None if geometry.voxel_volume is None else item.voxels * geometry.voxel_volume
    volume_mm3, area_mm2 = (size, None) if geometry.ndim == 3 else (None, size)
    if item.box is None or item.centre is None:
        return Measurement(item.label, 0, 0, volume_mm3, area_mm2, None, None)
    mask = item.mask(labels)
    return Measurement(
        label=item.label,
        instance=item.instance,
        voxels=item.voxels,
        volume_mm3=volume_mm3,
        area_mm2=area_mm2,
        axes=_axes(mask, geometry.spacing, item.box),
        intensity=None if volume is None else _intensity(volume.array[0][item.box][mask]),
        box=item.box,
        centroid=item.centre,
        centroid_mm=None if geometry.affine is None else tuple(geometry.world(item.centre).tolist()),
        touches_border=any(
            n > 1 and (side.start == 0 or side.stop == n) for side, n in zip(item.box, geometry.shape, strict=True)
        ),
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
