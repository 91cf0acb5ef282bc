"""Writing labels or an image in any format that the table of formats has; the ending of the path or a name picks it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, UsageError, nearest
from voxelry.formats.file_format import Format
from voxelry.formats.table import all_formats, format_to_write

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


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
        return write_format(format_to_write(path), labels, path, source)
    if format not in all_formats():
        raise ExportError(f"unknown format '{format}'", remedy=nearest(format, all_formats()))
    return write_format(all_formats()[format], labels, path, source)


def write_format(
    row: Format,
    labels: LabelMap | Volume,
    path: str | os.PathLike[str],
    source: Volume | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Path:
    """Write labels, or an image where the format holds images.

    Args:
        row: the format.
        labels: labels to write.
        path: the file (or folder, for a series); replaced if it exists, and never left half-written.
        source: the scan the labels belong to.
        options: keyword arguments of the format's function.

    Returns:
        The path, or the folder named after it where a format needs a file for each label.

    Raises:
        ExportError: the format cannot hold this.
        UsageError: an option it does not have.
        GridMismatchError: the labels lie on another grid than `source`.
        LabelError: values that the table does not know.
    """
    for option in options:
        if option not in row.options:
            raise UsageError(f"{row.noun} has no option '{option}'", remedy=nearest(option, row.options or ("none",)))
    written: Path
    if isinstance(labels, Volume):
        if not row.write_image:
            raise ExportError(f"{path}: {row.noun} is written from labels, not an image", remedy="Write images as .nii.gz.")
        written = row.call(row.write_image, labels, Path(path))
        return written
    _check(row, labels, path, source, options)
    if row.source == "required":
        written = row.call(row.write_labels, labels, source, Path(path), **options)
        return written
    on_grid = labels if source is None else labels.on_grid(source.geometry)
    more = {"source": source} if row.source == "optional" else {}
    written = row.call(row.write_labels, on_grid, Path(path), **more, **options)
    return written


def _check(
    row: Format, labels: LabelMap, path: str | os.PathLike[str], source: Volume | None, options: Mapping[str, Any]
) -> None:
    """Refuse labels or an image that the format cannot hold.

    Raises:
        ExportError: it is so.
    """
    if not row.write_labels:
        raise ExportError(f"{path}: {row.noun} is read and not written", remedy="Write labels as .nii.gz or .seg.nrrd.")
    missing = [option for option in row.required_options if option not in options]
    if missing:
        raise ExportError(f"{path}: {row.noun} cannot be written without its {missing[0]}", remedy="Give it as an option.")
    if labels.geometry.ndim not in row.axes:
        flat = labels.geometry.ndim == 2
        raise ExportError(
            f"{path}: {row.noun} holds {'a volume' if flat else 'a picture'}, not {labels.geometry.describe()}",
            remedy="Write pictures as .png or .json." if flat else "Write volumes as .nii.gz.",
        )
    if len(labels.layers) > 1 and not row.layers:
        raise ExportError(
            f"{path}: labels overlap and lie on {len(labels.layers)} layers, {row.noun} holds one",
            remedy="Write .seg.nrrd, DICOM SEG or RTSTRUCT, or each layer to a file of its own.",
        )
    if row.source == "required" and source is None:
        raise ExportError(f"{path}: {row.noun} refers to the scan it was made on", remedy="Give the DICOM scan as `source`.")
