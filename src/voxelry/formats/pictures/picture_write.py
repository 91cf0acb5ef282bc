"""Writes label maps of pictures as PNG files of stored values."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxelry.base.files import atomic_path
from voxelry.core.geometry import Geometry
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.label_values import stored_values


def write_png(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write the labels of a picture as a grey PNG of stored values, 8 or 16 bit: value 1 is grey level 1.

    A PNG holds neither names nor a pixel size in mm.

    Args:
        labels: one layer, two spatial axes ``(rows, cols)``.
        path: ends in ``.png``; replaced if it exists.

    Returns:
        The path.

    Raises:
        ExportError: a volume, several layers, another ending, or values outside 0..65535.
    """
    target = Path(path)
    if labels.geometry.ndim != 2 or len(labels.layers) != 1:
        raise ExportError(
            f"{path}: a PNG holds one layer of a picture, not {len(labels.layers)} of {labels.geometry.describe()}",
            remedy="Write volumes as .nii.gz.",
        )
    if target.suffix.lower() != ".png":
        raise ExportError(f"{path}: a PNG file ends in .png", remedy="Change the name.")
    values = stored_values(labels, path)
    with atomic_path(target) as temporary:
        Image.fromarray(values).save(temporary, format="PNG")
    return target


def write_png_ids(ids: NDArray[np.uint32], _: Geometry, path: Path) -> Path:
    """Write ids of objects as a grey PNG of 16 bits.

    Args:
        ids: ``(rows, cols)``.
        path: ends in ``.png``; replaced if it exists.

    Raises:
        ExportError: ids above 65535.
    """
    if ids.max(initial=0) >= 2**16:
        raise ExportError(f"{path}: ids up to {ids.max()} do not fit the 16 bits of a PNG", remedy="Write them as nifti.")
    with atomic_path(path) as temporary:
        Image.fromarray(ids.astype(np.uint16)).save(temporary, format="PNG")
    return path
