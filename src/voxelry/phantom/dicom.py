"""Write a phantom as DICOM: one file per slice and one folder per series, or one file per projection."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import numpy as np
from pydicom import Dataset

from voxelry.base.files import atomic_folder, atomic_path
from voxelry.base.library_file import library_file
from voxelry.errors import ExportError
from voxelry.phantom import headers
from voxelry.phantom.phantom import CHANNELS, HU_RANGE, Phantom

STORED_BITS = 12


def write_dicom(phantom: Phantom, target: str | os.PathLike[str]) -> list[Path]:
    """Write a phantom as DICOM, completely or not at all.

    UIDs depend only on the content, so the same phantom gives the same files, and two acquisitions of one patient
    share study and frame of reference.

    Args:
        phantom: the examination.
        target: a folder, replaced if it holds nothing but DICOM files; for a chest X-ray the file.

    Returns:
        One folder per series, in channel order: `target` itself for one channel, folders in it named by channel
        for several. For a chest X-ray the file.

    Raises:
        ExportError: `target` exists and holds something else.
    """
    path = Path(target)
    if phantom.volume.geometry.affine is None:
        return [_write_projection(phantom, path)]
    _refuse_foreign(path)
    names = CHANNELS[phantom.kind]
    folders = [""] if len(names) == 1 else list(names)
    with atomic_folder(path) as temporary:
        for channel, folder in enumerate(folders):
            (temporary / folder).mkdir(exist_ok=True)
            for index, data in enumerate(_series(phantom, channel)):
                with library_file(temporary / folder / f"IM{index + 1:04d}.dcm") as file:
                    data.save_as(file, enforce_file_format=True)
    return [path / folder for folder in folders]


def _refuse_foreign(path: Path) -> None:
    """A folder is replaced as a whole, so it may hold nothing but DICOM files."""
    if path.is_file():
        raise ExportError(f"{path}: is a file, where the series' folder should be", remedy="Name another folder.")
    foreign = (
        next((file for file in path.rglob("*") if file.is_file() and file.suffix != ".dcm"), None) if path.is_dir() else None
    )
    if foreign is not None:
        raise ExportError(f"{path}: holds {foreign.name}, which is no DICOM file", remedy="Name a new or empty folder.")


def _series(phantom: Phantom, channel: int) -> list[Dataset]:
    """The instances of one channel, in slice order."""
    name = CHANNELS[phantom.kind][channel]
    shared = headers.common(phantom, channel, name)
    headers.frame_of_reference(shared, phantom)
    if phantom.kind == "torso-ct":
        headers.ct(shared, phantom)
    else:
        headers.mr(shared, name)
    offset = HU_RANGE[0] if phantom.kind == "torso-ct" else 0
    instances = []
    for index in range(phantom.volume.geometry.shape[2]):
        data = deepcopy(shared)
        headers.identify(data, index + 1)
        headers.plane(data, phantom.volume.geometry, index)
        stored = (phantom.volume.array[channel, :, :, index].astype(np.int32) - offset).astype(np.uint16)
        headers.pixels(data, stored.T, STORED_BITS)
        instances.append(data)
    return instances


def _write_projection(phantom: Phantom, path: Path) -> Path:
    if path.is_dir():
        raise ExportError(f"{path}: is a folder, where the image should be", remedy="Name a file, as 'chest.dcm'.")
    data = headers.common(phantom, 0, CHANNELS[phantom.kind][0])
    headers.identify(data, 1)
    headers.dx(data, phantom)
    headers.pixels(data, phantom.volume.array[0].astype(np.uint16), STORED_BITS)
    with atomic_path(path) as temporary, library_file(temporary) as file:
        data.save_as(file, enforce_file_format=True)
    return path
