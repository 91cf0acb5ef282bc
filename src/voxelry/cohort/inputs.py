"""Which scans a list of paths holds: files, DICOM series, and flat folders of images."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxelry.errors import MissingFileError, UnsupportedFormatError, UsageError
from voxelry.files import free_name
from voxelry.read.detect import Format, detect
from voxelry.read.reader import read

_ENDINGS = (".nii.gz", ".nii", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
_CHANNEL = re.compile(r"_(\d{4})$")


@dataclass(frozen=True)
class Scan:
    """One scan to segment.

    Attributes:
        id: what its results are called.
        images: one file or DICOM folder, or one for each channel.
    """

    id: str
    images: tuple[Path, ...]


def case_id(path: str | os.PathLike[str]) -> str:
    """The case id of a file: its name without the ending of an image format; of a folder: its name."""
    name = Path(path).resolve().name
    return next((name[: -len(ending)] for ending in _ENDINGS if name.lower().endswith(ending)), name)


def find_scans(inputs: Sequence[str | os.PathLike[str]], channels: int = 1) -> list[Scan]:
    """The scans that some paths hold.

    A file is a scan. A folder of DICOM slices is a scan; a folder of other images, or of single X-rays in DICOM, holds one scan
    a file (with several channels, ``<id>_0000``, ``<id>_0001``... are the channels of scan ``<id>``); a folder of folders holds
    what they hold.

    Args:
        inputs: files and folders.
        channels: how many the model wants.

    Returns:
        Scans in the order of the inputs, by name within a folder.

    Raises:
        MissingFileError: a path is not there, or a folder holds no image.
        UsageError: two scans have the same id.
    """
    scans = [scan for path in inputs for scan in _scans_of(Path(path), channels)]
    first: dict[str, Scan] = {}
    for scan in scans:
        other = first.setdefault(free_name(scan.id), scan)
        if other is not scan:
            raise UsageError(
                f"two scans are called '{scan.id}': {other.images[0]} and {scan.images[0]}",
                remedy="Rename one, or segment them apart.",
            )
    return scans


def _scans_of(path: Path, channels: int) -> list[Scan]:
    if not path.is_dir():
        if not path.exists():
            raise MissingFileError(f"{path}: no such file or folder", remedy="Check the path.")
        return [Scan(case_id(path), (path,))]
    kinds = {file: kind for file in sorted(path.iterdir()) if (kind := _kind(file)) is not None}
    pictures = [file for file, kind in kinds.items() if kind not in (Format.DICOM_FILE, Format.DICOM_FOLDER)]
    slices = [file for file, kind in kinds.items() if kind is Format.DICOM_FILE]
    folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    scans = _by_channel(pictures) if channels > 1 else [Scan(case_id(file), (file,)) for file in pictures]
    if slices and _is_flat(slices[0]):
        scans += [Scan(case_id(file), (file,)) for file in slices]
    elif slices:
        scans.append(Scan(case_id(path), (path,)))
    if not scans:
        scans = [scan for folder in folders for scan in _scans_of(folder, channels)]
    if not scans:
        raise MissingFileError(f"{path}: holds no image", remedy="NIfTI, DICOM, PNG, JPEG and TIFF files are looked for.")
    return scans


def _kind(file: Path) -> Format | None:
    """The format of a file, None for what is no image."""
    if file.is_dir() or file.name.startswith("."):
        return None
    try:
        return detect(file)
    except UnsupportedFormatError:
        return None


def _is_flat(file: Path) -> bool:
    """Whether a DICOM file is an X-ray picture of its own, not a slice of a series."""
    return read(file).geometry.ndim == 2


def _by_channel(files: list[Path]) -> list[Scan]:
    """Files named ``<id>_0000``... joined to scans; others stand alone."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(_CHANNEL.sub("", case_id(file)), []).append(file)
    return [Scan(name, tuple(sorted(group))) for name, group in groups.items()]
