"""Reads an id map: a grid or picture whose values are ids of objects, of up to 32 bits."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelry.base.failures import read_failures
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Source
from voxelry.errors import UnsupportedFormatError
from voxelry.formats.detection import detect, existing_file
from voxelry.formats.read_options import PLAIN
from voxelry.formats.table import format_named


def read_ids(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint32], Geometry, Source]:
    """Read the ids of objects.

    Args:
        path: a file of one header and one grid (NIfTI, NRRD, MetaImage...), a PNG or a TIFF.

    Returns:
        ``(*spatial)`` ids, 0 where there is no object; their grid; their file.

    Raises:
        LabelError: fractions, negative values, colours or several channels.
        UnsupportedFormatError: another format.
        ReadError: as `read`.
    """
    file = existing_file(Path(path))
    with read_failures(str(file)):
        row = detect(file)
        grid = next((form for form in (row, format_named(row.family)) if form.open_grid), None)
        if grid is not None:
            ids: tuple[NDArray[np.uint32], Geometry, Source] = grid.call(grid.open_grid, file, PLAIN).ids()
            return ids
        if not row.is_picture or not row.reads_labels:
            raise UnsupportedFormatError(
                f"{file}: {row.noun} holds no id map", remedy="Store ids of objects as NIfTI, NRRD, MetaImage, PNG or TIFF."
            )
        from voxelry.formats.pictures.picture_read import read_picture_ids  # decoders of pictures, which grids do without

        return read_picture_ids(file)


def ids_on_grid(path: str | os.PathLike[str], geometry: Geometry) -> NDArray[np.uint32]:
    """The ids of an id map on a grid that is equal to its own except for the order and direction of axes.

    Raises:
        GridMismatchError: any other grid.
        ReadError: as `read_ids`.
    """
    ids, grid, source = read_ids(path)
    result: NDArray[np.uint32] = LabelMap.of(ids, grid, LabelTable(labels=()), source).on_grid(geometry).array
    return result
