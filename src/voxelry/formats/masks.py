"""Label maps of every format, by what a file's content shows; `voxelry.formats.reader.read_labels` is the verb."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import LabelError, ReadError, UnsupportedFormatError, UsageError
from voxelry.formats.detection import HEAD_BYTES, Format, detect, header_beside, sniff
from voxelry.formats.dicom.objects.rtstruct_read import read_rtstruct
from voxelry.formats.dicom.objects.seg_read import read_dicom_seg
from voxelry.formats.dicom.planes import label_kind
from voxelry.formats.file_content import open_content
from voxelry.formats.grid_formats import open_grid
from voxelry.formats.grids.nifti_names import stored_table
from voxelry.formats.grids.seg_nrrd_read import read_seg_nrrd, segments_of
from voxelry.formats.pictures.picture_read import read_picture_labels
from voxelry.formats.voxels import values_of

Reference = Volume | str | os.PathLike[str] | None


def read_mask(
    path: str | os.PathLike[str],
    table: LabelTable | None,
    reference: Reference,
    threshold: float | None,
    read: Callable[..., Volume],
) -> LabelMap:
    """Read a label map of any format; see `voxelry.formats.reader.read_labels`.

    Args:
        path: the file.
        table: what the values mean, or None.
        reference: the image of an RTSTRUCT, its path, or None.
        threshold: for probabilities, or None.
        read: the verb that reads an image, for the reference.
    """
    found, kind = _format_and_kind(Path(path))
    if reference is not None and kind != "rtstruct":
        raise UsageError(f"{path}: a reference is for RTSTRUCT alone; this is {kind or found.value}", remedy="Leave it out.")
    if kind == "seg":
        return read_dicom_seg(path, table, threshold)
    if threshold is not None and not found.is_grid:
        raise UsageError(f"{path}: a threshold is for probabilities; this is {kind or found.value}", remedy="Leave it out.")
    if kind == "rtstruct":
        return read_rtstruct(path, table, reference, read)
    if found in (Format.DICOM_FILE, Format.DICOM_FOLDER):
        raise UnsupportedFormatError(
            f"{path}: of DICOM, SEG and RTSTRUCT files are read as labels, not images", remedy="Name the file that holds labels."
        )
    if found is Format.NRRD and threshold is None and segments_of(path):
        return read_seg_nrrd(path, table)
    return _plain(path, found, table, threshold)


def _format_and_kind(path: Path) -> tuple[Format, str]:
    """The format of a file; and ``seg`` or ``rtstruct`` for DICOM that holds labels, else empty."""
    if path.is_file() and header_beside(path) == path:
        with open_content(path) as content:
            if sniff(content.head[:HEAD_BYTES]) is Format.DICOM_FILE:
                return Format.DICOM_FILE, label_kind(content)
    return detect(path), ""


def dicom_kind(path: str | os.PathLike[str]) -> str:
    """``seg`` or ``rtstruct`` for a DICOM file that holds labels, empty for any other file."""
    try:
        with open_content(Path(path)) as content:
            return label_kind(content)
    except ReadError:
        return ""


def _plain(path: str | os.PathLike[str], found: Format, table: LabelTable | None, threshold: float | None) -> LabelMap:
    """A file of one number a voxel."""
    if threshold is not None:
        return _above(path, found, table, threshold)
    array, geometry, source = open_grid(path, found).labels() if found.is_grid else read_picture_labels(path)
    values = values_of(array)
    if table is not None:
        table.check_values(values, str(path))
        return LabelMap.of(array, geometry, table, source)
    stored, remark = stored_table(path, values) if found is Format.NIFTI else (None, "")
    if remark:
        source = replace(source, remarks=(*source.remarks, remark))
    return LabelMap.of(array, geometry, stored or LabelTable.numbered(values), source)


def _above(path: str | os.PathLike[str], found: Format, table: LabelTable | None, threshold: float) -> LabelMap:
    """Label 1 where a map of one probability a voxel reaches the threshold."""
    volume = open_grid(path, found).volume()
    if volume.channels != 1:
        raise LabelError(f"{path}: {volume.channels} channels of probabilities", remedy="Split them into a file each.")
    source = replace(volume.source, remarks=(*volume.source.remarks, f"label 1 where the probability is at least {threshold:g}"))
    if table is not None:
        table.check_values([1], str(path))
    inside = (volume.array[0] >= threshold).astype(np.uint8)
    return LabelMap.of(inside, volume.geometry, table or LabelTable.numbered([1]), source)
