"""DICOM: a series from a folder, a slice or a radiograph from a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import MissingFileError, UnsupportedFormatError
from voxelry.read.dicom_header import DicomHeader, read_dicom_header, scan_folder
from voxelry.read.pixels import decode_slices
from voxelry.read.series import Stack, assemble, only_series
from voxelry.read.xray import Polarity, read_projection
from voxelry.volume import Source, Volume

_SHOWN = 3


def read_dicom_folder(folder: str | os.PathLike[str], *, polarity: Polarity = "dense-bright") -> Volume:
    """The one image series of a folder, at any depth, whatever its files are called.

    Headers are read now, pixels when `Volume.array` is first asked for. Files that are not DICOM, and DICOM objects that are
    not images, are left out with a remark. What a plain series is, is said in `series`; anything else is refused.

    Args:
        folder: holds the files.
        polarity: for a radiograph, see `xray.read_projection`.

    Returns:
        A Volume ``(1, columns, rows, slices)``, RAS+; or ``(1, rows, columns)`` for the only radiograph of a folder.

    Raises:
        MissingFileError: no DICOM in it.
        UnsupportedFormatError: DICOM, but no image.
        SeriesError: several series, or one that is not a plain regular stack; with the files concerned.
        CorruptFileError: a DICOM file that is truncated.
    """
    place = Path(folder)
    found = scan_folder(place)
    if not found.images:
        if found.others:
            raise _not_an_image(str(place), found.others[0])
        raise MissingFileError(f"{place}: no DICOM file in this folder", remedy="Check the path.")
    remarks = [*_left_out(found.strangers, "no DICOM"), *_left_out([h.path for h in found.others], "no image")]
    return volume_of(only_series(found.images, str(place)), str(place), polarity=polarity, remarks=remarks)


def read_dicom_file(path: str | os.PathLike[str], *, polarity: Polarity = "dense-bright") -> Volume:
    """One DICOM file: a radiograph as a picture, a CT or MR slice as a volume of depth 1.

    Args:
        path: the file.
        polarity: for a radiograph, see `xray.read_projection`.

    Returns:
        A Volume ``(1, rows, columns)`` for a radiograph, else ``(1, columns, rows, 1)``.

    Raises:
        UnsupportedFormatError: no image, or a transfer syntax that cannot be decoded.
        SeriesError: an image without a place in the patient, in colour, or with several frames.
        CorruptFileError: truncated.
    """
    header = read_dicom_header(Path(path))
    if not header.is_image:
        raise _not_an_image(str(path), header)
    return volume_of([header], str(path), polarity=polarity)


def volume_of(
    images: Sequence[DicomHeader], where: str, *, polarity: Polarity = "dense-bright", remarks: Sequence[str] = ()
) -> Volume:
    """The Volume of the images of one series.

    Args:
        images: headers of one SeriesInstanceUID, in any order.
        where: the file or folder, for messages.
        polarity: for a radiograph.
        remarks: what to say of the source beside what is decided here.

    Raises:
        ReadError: the images are not one plain series, or one radiograph.
    """
    if len(images) == 1 and images[0].is_projection:
        return read_projection(images[0], polarity=polarity, remarks=remarks)
    stack = assemble(images, where)
    return Volume(
        partial(_voxels, stack),
        stack.geometry,
        modality=stack.slices[0].modality,
        source=_source(stack, remarks),
    )


def _voxels(stack: Stack) -> NDArray[Any]:
    """``(1, columns, rows, slices)``, a view of the decoded ``(slices, rows, columns)``."""
    return np.transpose(decode_slices(stack.slices), (2, 1, 0))[None]


def _source(stack: Stack, remarks: Sequence[str]) -> Source:
    return Source(
        kind="dicom",
        files=tuple(str(header.path) for header in stack.slices),
        series_uid=stack.slices[0].series,
        instances=tuple((header.sop_instance, 1) for header in stack.slices),
        remarks=(*remarks, *stack.remarks),
    )


def _left_out(files: Sequence[Path], why: str) -> list[str]:
    """The remark about files that were not read."""
    if not files:
        return []
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return [f"left out ({why}): {', '.join(file.name for file in files[:_SHOWN])}{more}"]


def _not_an_image(where: str, header: DicomHeader) -> UnsupportedFormatError:
    remedy = "Read the images it was drawn on; labels from DICOM SEG and RTSTRUCT are not read yet."
    return UnsupportedFormatError(f"{where}: {header.sop_class} ({header.name}) is not an image", remedy=remedy)
