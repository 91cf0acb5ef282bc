"""Labels of files that hold one number per voxel: NIfTI, NRRD and other grids, PNG and TIFF."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Source
from voxelry.errors import LabelError, UsageError
from voxelry.formats.grids.grid_file import GridFile
from voxelry.formats.segments_file import labels_of_ids, segments_beside, table_beside
from voxelry.formats.voxels import values_of


def grid_labels(grid: GridFile, table: LabelTable | None, threshold: float | None = None) -> LabelMap:
    """Labels of a file of one header and one grid.

    Args:
        grid: its header.
        table: meaning of the values; None takes the table in the file, or that of a file of segments beside it, else numbers the
            values.
        threshold: for a map of probabilities: label 1 from this probability on.

    Raises:
        LabelError: fractions without a threshold, negative values, several channels, or values that `table` does not know.
        UsageError: a threshold that is no probability, and beyond the values of the map.
    """
    if threshold is not None:
        return _above(grid, table, threshold)
    segments = segments_beside(grid.path)
    if segments is not None:
        return labels_of_ids(*grid.ids(), segments, table)
    array, geometry, source = grid.labels()
    if table is None and grid.stored_table is not None:
        table, remark = grid.stored_table(values_of(array))
        source = replace(source, remarks=(*source.remarks, remark)) if remark else source
    return _label_map(array, geometry, table, source, grid.path)


def picture_labels(path: str | os.PathLike[str], table: LabelTable | None = None) -> LabelMap:
    """Labels of a picture; see `pictures.picture_read.read_picture_labels`."""
    from voxelry.formats.pictures import picture_read  # decoders of pictures, which grids do without

    segments = segments_beside(Path(path))
    if segments is not None:
        return labels_of_ids(*picture_read.read_picture_ids(path), segments, table)
    array, geometry, source = picture_read.read_picture_labels(path)
    return _label_map(array, geometry, table, source, Path(path))


def _label_map(array: NDArray[Any], geometry: Geometry, table: LabelTable | None, source: Source, path: Path) -> LabelMap:
    values = values_of(array)
    if table is not None:
        table.check_values(values, source.name)
    else:
        table = table_beside(path, values)
    return LabelMap.of(array, geometry, table or LabelTable.numbered(values), source)


def _above(grid: GridFile, table: LabelTable | None, threshold: float) -> LabelMap:
    """Label 1 where a map of one probability a voxel reaches the threshold."""
    volume = grid.volume()
    if volume.channels != 1:
        raise LabelError(f"{grid.path}: {volume.channels} channels of probabilities", remedy="Split them into a file each.")
    low, high = float(volume.array.min()), float(volume.array.max())
    if not min(0.0, low) < threshold <= max(1.0, high):
        raise UsageError(
            f"{grid.path}: a threshold of {threshold:g} for values from {low:g} to {high:g}",
            remedy="Give a probability above 0 and up to 1, such as 0.5.",
        )
    source = replace(volume.source, remarks=(*volume.source.remarks, f"label 1 where the probability is at least {threshold:g}"))
    if table is not None:
        table.check_values([1], str(grid.path))
    inside = (volume.array[0] >= threshold).astype(np.uint8)
    return LabelMap.of(inside, volume.geometry, table or LabelTable.numbered([1]), source)
