"""Reads NIfTI-1 and NIfTI-2, plain or gzip, in one file or two, and Analyze 7.5 as a `GridFile`.

A 4D file ``(x, y, z, c)`` gives C channels, a 2D one has depth 1, trailing axes of length 1 are dropped. `scl_slope` and
`scl_inter` are applied.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from voxelry.formats.grids.grid_file import GridFile
from voxelry.formats.grids.nifti_header import read_header
from voxelry.formats.grids.nifti_names import stored_table
from voxelry.formats.read_options import PLAIN, ReadOptions


def open_nifti(path: str | os.PathLike[str], options: ReadOptions = PLAIN) -> GridFile:
    """The header of a NIfTI or Analyze image; `nifti_header` documents which affine is used.

    Args:
        path: the file; of a pair, the header or the voxels.
        options: `ReadOptions.transform` names the affine to prefer.

    Returns:
        A grid ``(x, y, z)``, of a picture ``(rows, cols)``.

    Raises:
        CorruptFileError: a header that contradicts itself, or more voxels than the file can hold.
        UnsupportedFormatError: not such a file, or voxels that are no plain numbers.
        MissingFileError: one file of a pair is missing.
    """
    header = read_header(Path(path), options.transform)
    shape = header.geometry.shape
    if len(shape) == 2:  # stored as (columns, rows), channels last, in the order of pictures
        sizes, order = [shape[1], shape[0], header.channels], [2, 1, 0]
    else:
        sizes, order = [*shape, header.channels], [3, 0, 1, 2]
    return GridFile(
        kind=header.kind,
        files=tuple(dict.fromkeys((header.path, header.stored.path))),
        geometry=header.geometry,
        channels=header.channels,
        sizes=tuple(sizes),
        order=tuple(order),
        stored=header.stored,
        slope=header.slope,
        intercept=header.intercept,
        remarks=header.remarks,
        components=header.components,
        stored_table=partial(stored_table, header.path) if header.kind == "nifti" else None,
    )
