"""The formats of one header and one grid, by what `detect` calls them: `open_grid` gives the header of any."""

from __future__ import annotations

import os
from collections.abc import Callable

from voxelry.formats.detection import Format
from voxelry.formats.grids.grid_file import GridFile
from voxelry.formats.grids.metaimage_read import open_metaimage
from voxelry.formats.grids.mgh_read import open_mgh
from voxelry.formats.grids.nifti_read import open_nifti
from voxelry.formats.grids.nrrd_read import open_nrrd
from voxelry.formats.read_options import PLAIN, ReadOptions

_OPENERS: dict[Format, Callable[[str | os.PathLike[str], ReadOptions], GridFile]] = {
    Format.NIFTI: open_nifti,
    Format.ANALYZE: open_nifti,
    Format.MGH: open_mgh,
    Format.NRRD: open_nrrd,
    Format.METAIMAGE: open_metaimage,
}


def open_grid(path: str | os.PathLike[str], found: Format, options: ReadOptions = PLAIN) -> GridFile:
    """The header of a file whose format is known; `GridFile.volume` and `GridFile.labels` read on.

    Args:
        path: the file.
        found: its format, one for which `Format.is_grid` holds.
        options: the choices of the caller.

    Raises:
        ReadError: the header cannot be used.
    """
    return _OPENERS[found](path, options)
