"""The verbs: `read` an image, `read_labels`, and `read_channels` where an image has a file per channel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import GridMismatchError, UnsupportedFormatError, UsageError
from voxelry.geometry import Reindex
from voxelry.labels import LabelTable
from voxelry.read.detect import Format, detect
from voxelry.read.dicom import read_dicom_file, read_dicom_folder
from voxelry.read.dicom_seg import is_dicom_seg, read_dicom_seg
from voxelry.read.nifti import read_nifti, read_nifti_labels
from voxelry.read.nifti_names import stored_table
from voxelry.read.picture import read_picture, read_picture_labels
from voxelry.read.voxels import values_of
from voxelry.read.xray import POLARITIES, Polarity
from voxelry.volume import LabelMap, Source, Volume


def read(path: str | os.PathLike[str], *, polarity: Polarity = "dense-bright") -> Volume:
    """Read an image: NIfTI, DICOM file or folder, PNG, JPEG or TIFF, told apart by content.

    Volumes are header first: shape, geometry and source are known at once, pixels are decoded when `Volume.array` is asked
    for. `Source.remarks` says what a reader decided.

    Args:
        path: a file, or the folder of one DICOM series.
        polarity: of DICOM radiographs: ``dense-bright`` makes dense tissue bright, ``stored`` leaves values alone.

    Returns:
        A Volume ``(C, *spatial)`` in RAS+ mm; radiographs and pictures ``(C, rows, columns)``.

    Raises:
        MissingFileError: nothing there, or an empty folder.
        UnsupportedFormatError: a format that is not read.
        CorruptFileError: truncated, or at odds with itself.
        SeriesError: DICOM files that are not one plain regular series.
        UsageError: an unknown polarity.
    """
    if polarity not in POLARITIES:
        raise UsageError(f"polarity {polarity!r} is unknown", remedy=f"Known: {', '.join(POLARITIES)}.")
    found = detect(path)
    if found is Format.NIFTI:
        return read_nifti(path)
    if found is Format.DICOM_FOLDER:
        return read_dicom_folder(path, polarity=polarity)
    if found is Format.DICOM_FILE:
        return read_dicom_file(path, polarity=polarity)
    return read_picture(path)


def read_labels(path: str | os.PathLike[str], table: LabelTable | None = None) -> LabelMap:
    """Read a label map: NIfTI, DICOM SEG, PNG or TIFF.

    Args:
        path: the file.
        table: what the values mean; None takes the table that the file carries (a SEG's segments, or that of a NIfTI file of
            ours), and else numbers the values that occur. The segments of a SEG are found in `table` by name, then by code.

    Returns:
        A LabelMap, uint8 or uint16; of one layer, unless the segments of a SEG overlap.

    Raises:
        LabelError: fractions, negative values, colours, or values that `table` does not know.
        UnsupportedFormatError: other DICOM, JPEG, or a format that is not read.
        ReadError: as `read`.
    """
    found = detect(path)
    if found is Format.DICOM_FILE and is_dicom_seg(path):
        return read_dicom_seg(path, table)
    if found in (Format.DICOM_FILE, Format.DICOM_FOLDER):
        raise UnsupportedFormatError(
            f"{path}: of DICOM, only SEG files are read as labels, not RTSTRUCT or images", remedy="Convert it to NIfTI."
        )
    array, geometry, source = read_nifti_labels(path) if found is Format.NIFTI else read_picture_labels(path)
    values = values_of(array)
    if table is not None:
        table.check_values(values, str(path))
        return LabelMap.of(array, geometry, table, source)
    stored, remark = stored_table(path, values) if found is Format.NIFTI else (None, "")
    if remark:
        source = replace(source, remarks=(*source.remarks, remark))
    return LabelMap.of(array, geometry, stored or LabelTable.numbered(values), source)


def read_channels(paths: Sequence[str | os.PathLike[str]], *, polarity: Polarity = "dense-bright") -> Volume:
    """Read an image that has a file (or folder) per channel.

    Channels whose axes are flipped or permuted against the first are re-indexed onto it; nothing is resampled.

    Args:
        paths: one per channel, in order. A single path is read as it is and may have several channels.
        polarity: see `read`.

    Returns:
        A Volume ``(C, *spatial)`` on the first file's grid; its Source names all files, the first channel's first, and keeps
        the first channel's series and instances.

    Raises:
        UsageError: no path, or one of several files with more than one channel.
        GridMismatchError: two files lie on different grids.
        ReadError: as `read`.
    """
    if not paths:
        raise UsageError("no file to read", remedy="Name at least one.")
    volumes = [read(path, polarity=polarity) for path in paths]
    first = volumes[0]
    if len(volumes) == 1:
        return first
    changes = [_onto(first, volume, Path(path)) for volume, path in zip(volumes, paths, strict=True)]
    modalities = {volume.modality for volume in volumes}
    return Volume(
        partial(_stacked, volumes, changes),
        first.geometry,
        channels=len(volumes),
        modality=first.modality if len(modalities) == 1 else "",
        source=_joined(volumes),
    )


def _onto(first: Volume, volume: Volume, path: Path) -> Reindex:
    """How to lay a channel onto the first one's grid."""
    if volume.channels != 1:
        raise UsageError(
            f"{path}: has {volume.channels} channels; of several files each gives one", remedy="Split it, or read it alone."
        )
    change = volume.geometry.reindexing_to(first.geometry)
    if change is None:
        raise GridMismatchError(
            f"{path}: its grid ({volume.geometry.describe()}) is not that of {first.source.name} ({first.geometry.describe()})",
            remedy="Resample one onto the other's grid first.",
        )
    return change


def _stacked(volumes: Sequence[Volume], changes: Sequence[Reindex]) -> NDArray[Any]:
    return np.concatenate([change.apply(volume.array) for volume, change in zip(volumes, changes, strict=True)])


def _joined(volumes: Sequence[Volume]) -> Source:
    first = volumes[0].source
    remarks = [remark for volume in volumes for remark in volume.source.remarks]
    return Source(
        kind=first.kind,
        files=tuple(file for volume in volumes for file in volume.source.files),
        series_uid=first.series_uid,
        instances=first.instances,
        remarks=tuple(dict.fromkeys(remarks)),
    )
