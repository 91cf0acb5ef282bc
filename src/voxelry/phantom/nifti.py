"""Write phantoms as NIfTI-1 and PNG: images one file per channel, labels as stored values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxelry.base.files import atomic_path
from voxelry.core.geometry import Geometry
from voxelry.errors import ExportError
from voxelry.phantom.phantom import Phantom

SCANNER = 1
"""NIfTI's code for a transform into the scanner's coordinates."""
_MM_PER_INCH = 25.4


def write_nifti(array: NDArray[Any], geometry: Geometry, path: str | os.PathLike[str], description: str = "") -> Path:
    """Write one array as NIfTI-1.

    sform and qform both hold the affine; on a sheared grid only sform does, since a qform cannot hold shear.

    Args:
        array: ``(*spatial)``, a type that NIfTI knows.
        geometry: its grid, with an affine.
        path: ends in ``.nii`` or ``.nii.gz``.
        description: at most 79 characters.

    Returns:
        The path.

    Raises:
        ExportError: the grid is a picture.
    """
    if geometry.affine is None:
        raise ExportError(f"{path}: a picture has no position in the patient, which NIfTI needs", remedy="Write PNG or DICOM.")
    image = nib.Nifti1Image(array, geometry.affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description[:79].encode()
    image.set_sform(geometry.affine, code=SCANNER)
    if geometry.is_orthogonal:
        image.set_qform(geometry.affine, code=SCANNER)
    else:
        image.header["qform_code"] = 0
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return Path(path)


def write_channels(phantom: Phantom, folder: str | os.PathLike[str], name: str) -> list[Path]:
    """Write each channel of a phantom as ``<name>.nii.gz``, or ``<name>_0000.nii.gz`` and on where there are several."""
    count = phantom.volume.channels
    names = [name] if count == 1 else [f"{name}_{channel:04d}" for channel in range(count)]
    text = f"SYNTHETIC PHANTOM {phantom.kind} seed {phantom.seed}"
    return [
        write_nifti(phantom.volume.array[channel], phantom.volume.geometry, Path(folder) / f"{file}.nii.gz", text)
        for channel, file in enumerate(names)
    ]


def write_png(array: NDArray[Any], geometry: Geometry, path: str | os.PathLike[str]) -> Path:
    """Write a picture, or its labels, as an 8-bit grey PNG that keeps the pixel size (pHYs chunk).

    Args:
        array: uint8 ``(rows, cols)`` as it is, or int16 of 12 bits, of which the upper 8 are kept.
        geometry: its grid.
        path: ends in ``.png``.

    Returns:
        The path.
    """
    grey = array if array.dtype == np.uint8 else (array >> 4).astype(np.uint8)
    size = geometry.pixel_size
    options = {} if size is None else {"dpi": (_MM_PER_INCH / size[1], _MM_PER_INCH / size[0])}
    with atomic_path(path) as temporary:
        Image.fromarray(grey).save(temporary, format="PNG", **options)
    return Path(path)
