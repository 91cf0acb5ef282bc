"""Writes MetaImage label files (``.mha``): LPS, zlib, as ITK does. They hold no label names."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from voxelry.base.files import atomic_path
from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.ids_beside import smallest_ids, write_with_ids
from voxelry.formats.label_values import stored_values

_LEVEL = 2
_TYPES = {1: "MET_UCHAR", 2: "MET_USHORT", 4: "MET_UINT"}
"""Bytes of an unsigned number -> its name."""


def write_metaimage(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write one layer of labels as MetaImage, uint8 or uint16, on its own grid; its instance ids into a second file beside it.

    A picture is written as ``(columns, rows)``, its pixel size where that is known.

    Args:
        labels: one layer.
        path: ends in ``.mha``; replaced if it exists.

    Returns:
        The path.

    Raises:
        ExportError: several layers, a sheared grid (readers take the axes of a MetaImage for perpendicular), another ending,
            or values outside 0..65535.
        LabelError: ids that fit no label.
    """
    if len(labels.layers) != 1:
        raise ExportError(
            f"{path}: labels overlap and lie on {len(labels.layers)} layers, a MetaImage holds one", remedy="Write .seg.nrrd."
        )
    target = _checked(Path(path), labels.geometry)
    return write_with_ids(labels, stored_values(labels, path), target, partial(_save, labels.geometry))


def write_metaimage_ids(ids: NDArray[np.uint32], geometry: Geometry, path: Path) -> Path:
    """Write ids of objects as MetaImage, uint16 or where needed uint32; of a picture as ``(columns, rows)``.

    Args:
        ids: ``(*spatial)``.
        geometry: their grid.
        path: ends in ``.mha``; replaced if it exists.

    Raises:
        ExportError: a sheared grid, or another ending.
    """
    _save(geometry, _checked(path, geometry), smallest_ids(ids), "", True)
    return path


def _checked(path: Path, geometry: Geometry) -> Path:
    """The path of a grid that a MetaImage holds.

    Raises:
        ExportError: another ending, or a sheared grid.
    """
    if not path.name.lower().endswith(".mha"):
        raise ExportError(f"{path}: a MetaImage file ends in .mha", remedy="Change the name.")
    if not geometry.is_orthogonal:
        raise ExportError(
            f"{path}: the grid is sheared, and readers take the axes of a MetaImage for perpendicular",
            remedy="Write .nrrd or .nii.gz.",
        )
    return path


def _save(geometry: Geometry, path: Path, values: NDArray[Any], record: str, _: bool) -> None:
    array = values if geometry.affine is not None else values.T
    packed = isal_zlib.compress(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(order="F"), _LEVEL)
    lines = [
        "ObjectType = Image",
        f"NDims = {array.ndim}",
        *([f"Comment = {record}"] if record else []),
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {len(packed)}",
        *_grid_fields(geometry),
        f"DimSize = {' '.join(map(str, array.shape))}",
        f"ElementType = {_TYPES[array.dtype.itemsize]}",
        "ElementDataFile = LOCAL",
    ]
    with atomic_path(path) as temporary:
        temporary.write_bytes(("\n".join(lines) + "\n").encode("ascii") + packed)


def _grid_fields(geometry: Geometry) -> list[str]:
    """Direction (axis by axis), origin and spacing in LPS mm; of a picture the spacing alone."""
    if geometry.affine is None:
        if geometry.pixel_size is None:
            return []
        return [f"ElementSpacing = {geometry.pixel_size[1]!r} {geometry.pixel_size[0]!r}"]
    affine = flip_lps_ras(geometry.affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return [
        f"TransformMatrix = {_numbers((affine[:3, :3] / spacing).T.ravel())}",
        f"Offset = {_numbers(affine[:3, 3])}",
        "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {_numbers(spacing)}",
    ]


def _numbers(values: np.ndarray) -> str:
    return " ".join(repr(float(value) + 0.0) for value in values)
