"""What lies in a folder tree, from headers alone: a row per series or file, and whether it can be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from voxelry.errors import GeometryError, MissingFileError, ReadError
from voxelry.read.detect import Format, detect, files_below
from voxelry.read.dicom import volume_of
from voxelry.read.dicom_header import DicomHeader, read_dicom_header
from voxelry.read.nifti import read_nifti
from voxelry.read.picture import picture_header
from voxelry.volume import Volume


@dataclass(frozen=True)
class Found:
    """One series, or one file. Nothing in it names a patient.

    Attributes:
        path: the file, or the folder that holds the series' files.
        format: ``nifti``, ``dicom``, ``png``, ``jpeg``, ``tiff``; empty where unknown.
        modality: DICOM's term, empty where unknown.
        shape: ``(C, *spatial)``; empty where unknown.
        spacing: mm along each spatial axis, or None.
        orientation: as ``RAS``, or None for pictures.
        n_files: how many files it takes.
        readable: `read(path)` gives it, as far as the headers show.
        reason: what `read` gives, or why it refuses.
        remarks: what the reader decides on the way.
    """

    path: str
    format: str
    modality: str = ""
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    n_files: int = 1
    readable: bool = False
    reason: str = ""
    remarks: tuple[str, ...] = ()


def inspect(path: str | os.PathLike[str]) -> list[Found]:
    """List what a file or a folder tree holds. Pixels are not decoded.

    Args:
        path: a file, or a folder that is searched at every depth; hidden files are left out.

    Returns:
        A row per DICOM series and per other file, sorted by path.

    Raises:
        MissingFileError: nothing is there, or the folder holds no file.
    """
    place = Path(path)
    if not place.is_dir():
        if not place.is_file():
            raise MissingFileError(f"{place}: no such file or folder", remedy="Check the path.")
        return _rows([place])
    rows = _rows(files_below(place))
    if not rows:
        raise MissingFileError(f"{place}: the folder holds no file", remedy="Check the path.")
    return rows


def _rows(files: Iterable[Path]) -> list[Found]:
    rows: list[Found] = []
    headers: list[DicomHeader] = []
    for file in files:
        try:
            kind = detect(file)
            if kind is Format.DICOM_FILE:
                headers.append(read_dicom_header(file))
            elif kind is Format.NIFTI:
                rows.append(_of_volume(Found(str(file), "nifti"), partial(read_nifti, file)))
            else:
                rows.append(_of_picture(file, kind))
        except ReadError as error:
            rows.append(Found(str(file), "", reason=str(error)))
    return sorted([*rows, *_series_rows(headers)], key=lambda row: (row.path, row.reason))


def _series_rows(headers: Sequence[DicomHeader]) -> list[Found]:
    series: dict[tuple[bool, str], list[DicomHeader]] = {}
    for header in headers:
        series.setdefault((header.is_image, header.series), []).append(header)
    images = [header for header in headers if header.is_image]
    return [
        row
        for (is_image, _), members in series.items()
        for row in (_of_series(members, images) if is_image else _others(members))
    ]


def _others(members: Sequence[DicomHeader]) -> list[Found]:
    """A row per object that is not an image."""
    return [
        Found(str(header.path), "dicom", modality=header.modality, reason=f"{header.sop_class} is not an image")
        for header in members
    ]


def _of_series(members: Sequence[DicomHeader], images: Sequence[DicomHeader]) -> list[Found]:
    """The row of a series, or a row per folder where it is plain only without its files in other folders (copies)."""
    row = _of_stack(members, images)
    folders: dict[Path, list[DicomHeader]] = {}
    for header in members:
        folders.setdefault(header.path.parent, []).append(header)
    if row.readable or len(folders) == 1:
        return [row]
    return [_of_stack(part, images) for part in folders.values()]


def _of_stack(members: Sequence[DicomHeader], images: Sequence[DicomHeader]) -> Found:
    """One row; its path is the only file, or the deepest folder that holds all files."""
    single = len(members) == 1
    path = members[0].path if single else Path(os.path.commonpath([header.path.parent for header in members]))
    blank = Found(str(path), "dicom", modality=members[0].modality, n_files=len(members))
    row = _of_volume(blank, lambda: volume_of(members, str(path)))
    below = sum(header.path.is_relative_to(path) for header in images)
    if single or not row.readable or below == len(members):
        return row
    reason = f"plain by itself, but its folder holds {below - len(members)} other images: move it to a folder of its own"
    return replace(row, readable=False, reason=reason)


def _of_volume(blank: Found, reading: Callable[[], Volume]) -> Found:
    """Complete a row by what a reader makes of the header."""
    try:
        volume = reading()
    except (ReadError, GeometryError) as error:
        return replace(blank, readable=False, reason=str(error))
    geometry = volume.geometry
    return replace(
        blank,
        shape=volume.shape,
        spacing=geometry.spacing,
        orientation=geometry.orientation,
        readable=True,
        reason=f"{geometry.ndim}D, {volume.channels} channel" + ("s" if volume.channels > 1 else ""),
        remarks=volume.source.remarks,
    )


def _of_picture(file: Path, kind: Format) -> Found:
    try:
        header = picture_header(file)
    except ReadError as error:
        return Found(str(file), kind.value, reason=str(error))
    return Found(str(file), kind.value, shape=header.shape, readable=True, reason=f"2D, {header.mode}")
