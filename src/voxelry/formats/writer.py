"""Writing labels or an image in any format that the table of formats has; the ending of the path or a name picks it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, nearest
from voxelry.formats.file_format import Format
from voxelry.formats.table import all_formats, format_to_write, written_formats

FORMATS: Mapping[str, Format]
"""The formats that labels are written in, by name, those of plugins included; loaded when it is first asked for."""


def write(
    labels: LabelMap | Volume,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    source: Volume | None = None,
) -> Path:
    """Write labels, or an image, in the format that the path's ending or `format` names.

    Args:
        labels: labels to write; images go to NIfTI only.
        path: the file; replaced if it exists, and never left half-written.
        format: a name of `all_formats`; None to go by the ending.
        source: the scan the labels belong to, which DICOM objects refer to.

    Returns:
        The path, or the folder named after it where a format needs a file for each label.

    Raises:
        ExportError: an unknown format, or one that cannot hold this.
        GridMismatchError: the labels lie on another grid than `source`.
        LabelError: values that the table does not know.

    Examples:
        >>> import numpy as np
        >>> from voxelry import Geometry, LabelMap, LabelTable
        >>> from voxelry.formats import write
        >>> grid = Geometry.from_spacing((4, 4, 2), (1, 1, 1))
        >>> labels = LabelMap.of(np.ones(grid.shape, np.uint8), grid, LabelTable.numbered([1]))
        >>> [write(labels, name).name for name in ("a.nii.gz", "a.seg.nrrd", "a.mha")]
        ['a.nii.gz', 'a.seg.nrrd', 'a.mha']
    """
    if format is None:
        return format_to_write(path).write(labels, path, source)
    if format not in all_formats():
        raise ExportError(f"unknown format '{format}'", remedy=nearest(format, all_formats()))
    return all_formats()[format].write(labels, path, source)


def __getattr__(name: str) -> Mapping[str, Format]:
    if name == "FORMATS":
        return written_formats()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
