"""Writes label maps of pictures as PNG and TIFF files of stored values, instance ids beside them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from voxelry.base.files import atomic_path
from voxelry.core.geometry import Geometry
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.ids_beside import smallest_ids, write_with_ids
from voxelry.formats.label_values import stored_values

_COMMENT = "Comment"
"""PNG's keyword of any remark."""


def write_png(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write the labels of a picture as a grey PNG of stored values, 8 or 16 bit: value 1 is grey level 1.

    A PNG holds neither names nor a pixel size in mm. Instance ids go into a second PNG beside it, of 16 bit.

    Args:
        labels: one layer, two spatial axes ``(rows, cols)``.
        path: ends in ``.png``; replaced if it exists.

    Returns:
        The path.

    Raises:
        ExportError: a volume, several layers, another ending, values outside 0..65535, or ids above 65535.
        LabelError: ids that fit no label.
    """
    target = _checked(labels, path, (".png",), "a PNG")
    return write_with_ids(labels, stored_values(labels, path), target, partial(_save_png, name=target))


def write_tiff(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write the labels of a picture as a grey TIFF of stored values, deflated, 8 or 16 bit: value 1 is grey level 1.

    It holds neither names nor a pixel size in mm. Instance ids go into a second TIFF beside it, of 16 or 32 bit.

    Args:
        labels: one layer, two spatial axes ``(rows, cols)``.
        path: ends in ``.tif`` or ``.tiff``; replaced if it exists.

    Returns:
        The path.

    Raises:
        ExportError: a volume, several layers, another ending, or values outside 0..65535.
        LabelError: ids that fit no label.
    """
    target = _checked(labels, path, (".tif", ".tiff"), "a TIFF")
    return write_with_ids(labels, stored_values(labels, path), target, _save_tiff)


def _checked(labels: LabelMap, path: str | os.PathLike[str], endings: tuple[str, ...], noun: str) -> Path:
    target = Path(path)
    if labels.geometry.ndim != 2 or len(labels.layers) != 1:
        raise ExportError(
            f"{path}: {noun} holds one layer of a picture, not {len(labels.layers)} of {labels.geometry.describe()}",
            remedy="Write volumes as .nii.gz.",
        )
    if target.suffix.lower() not in endings:
        raise ExportError(f"{path}: {noun} file ends in {' or '.join(endings)}", remedy="Change the name.")
    return target


def write_png_ids(ids: NDArray[np.uint32], _: Geometry, path: Path) -> Path:
    """Write ids of objects as a grey PNG of 16 bits.

    Args:
        ids: ``(rows, cols)``.
        path: ends in ``.png``; replaced if it exists.

    Raises:
        ExportError: ids above 65535.
    """
    _save_png(path, smallest_ids(ids), "", True, name=path)
    return path


def write_tiff_ids(ids: NDArray[np.uint32], _: Geometry, path: Path) -> Path:
    """Write ids of objects as a grey TIFF of 16 bits, or of 32 where they need it.

    Args:
        ids: ``(rows, cols)``.
        path: ends in ``.tif`` or ``.tiff``; replaced if it exists.
    """
    _save_tiff(path, smallest_ids(ids), "", True)
    return path


def _save_png(path: Path, array: NDArray[Any], record: str, _: bool, *, name: Path) -> None:
    if array.dtype.itemsize > 2:
        raise ExportError(
            f"{name}: ids up to {array.max()} do not fit the 16 bits of a PNG", remedy="Write .tif or .nii.gz, which have 32."
        )
    about = PngInfo()
    if record:
        about.add_text(_COMMENT, record)
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG", pnginfo=about)


def _save_tiff(path: Path, array: NDArray[Any], record: str, _: bool) -> None:
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary, array, compression="zlib", photometric="minisblack", metadata=None, description=record or None
        )
