"""Reads FreeSurfer's MGH and MGZ (gzip); the header by the wiki page "MghFormat".

The affine is built from spacing, direction cosines and the world position of the voxel at half the size (RAS+ mm). A file without
orientation (`goodRASFlag` 0) gets FreeSurfer's default, coronal slices of 1 mm, with a remark. Frames become channels.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from voxelry.errors import CorruptFileError, UnsupportedFormatError
from voxelry.formats.detection import head_of, is_gzip
from voxelry.formats.grids.grid_file import GridFile, grid
from voxelry.formats.grids.stored import Stored
from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.formats.signatures import is_mgh

_DATA_OFFSET = 284
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_DEFAULT = (1.0, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""Default spacings, directions of columns, rows and slices, and centre."""


def open_mgh(path: str | os.PathLike[str], options: ReadOptions = PLAIN) -> GridFile:  # noqa: ARG001 - as every opener
    """The header of an MGH or MGZ file.

    Args:
        path: the file.
        options: not used by this format.

    Returns:
        A grid ``(x, y, z)``; frames are channels.

    Raises:
        UnsupportedFormatError: not such a file.
        CorruptFileError: an impossible affine, or more voxels than the file can hold.
    """
    file = Path(path)
    head = head_of(file)
    if not is_mgh(head):
        raise UnsupportedFormatError(f"{file}: not an MGH image", remedy="Check that it is what its name says.")
    _, *sizes, kind, _, good = struct.unpack_from(">7ih", head)
    numbers = struct.unpack_from(">15f", head, 30) if good > 0 else _DEFAULT
    spacing, directions, centre = np.array(numbers[:3]), np.array(numbers[3:12]).reshape(3, 3).T, np.array(numbers[12:])
    affine = np.eye(4)
    with np.errstate(over="ignore", invalid="ignore"):
        affine[:3, :3] = directions * spacing
        affine[:3, 3] = centre - affine[:3, :3] @ (np.array(sizes[:3]) / 2)
    if (spacing <= 0).any():
        raise CorruptFileError(f"{file}: spacings {spacing.tolist()} are not positive", remedy="Repair the header.")
    shape = (sizes[0], sizes[1], sizes[2])
    count = sizes[0] * sizes[1] * sizes[2] * sizes[3]
    stored = Stored(file, np.dtype(_TYPES[kind]), count, "gzip" if is_gzip(file) else "raw", offset=_DATA_OFFSET)
    stored.check_room()
    return GridFile(
        kind="mgh",
        files=(file,),
        geometry=grid(shape, affine, None, file, "its spacings and direction cosines"),
        channels=sizes[3],
        sizes=tuple(sizes),
        order=(3, 0, 1, 2),
        stored=stored,
        remarks=() if good > 0 else ("no orientation stored: FreeSurfer's default, coronal at 1 mm, taken",),
    )
