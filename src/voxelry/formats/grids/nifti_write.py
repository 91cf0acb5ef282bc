"""Writes NIfTI-1 files: label maps with their names, and images.

Both transforms are written and coded 1 (scanner). The sform is exact to single precision; the qform holds a rotation as a
quaternion, which near half turns is exact to about 3e-4 rad only (the format's limit). A sheared grid has no qform: there
only the sform is coded, and a warning is logged.

A picture ``(rows, cols)`` has no position in the patient: it is written as ``(cols, rows, 1)``, as ITK stores pictures, neither
transform is coded, and the header's intent name is `PICTURE`, by which the reader recognises it. Its pixel size is in `pixdim`
with unit mm; where that is not known, `pixdim` is 1 and the unit unknown.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from voxelry.base.files import atomic_path
from voxelry.base.threads import run_slabs
from voxelry.base.version import __version__
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError
from voxelry.formats.grids.nifti_header import PICTURE
from voxelry.formats.ids_beside import smallest_ids, write_with_ids
from voxelry.formats.label_values import stored_values

log = logging.getLogger(__name__)

SCANNER = 1
COMMENT = 6
"""The extension code of NIfTI-1 for plain text; ours is JSON."""

_GZIP_LEVEL = 2
_LARGE_VOXELS = 2**18
_CACHE_LINE = 64


def write_nifti(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write a label map as NIfTI-1, uint8 or uint16, on its own grid; its instance ids into a second file beside it.

    A comment extension holds the label names as JSON: ``{"id2label": {"0": "background", "1": ...}, "label_table": ...}``,
    the latter with codes and colours.

    Args:
        labels: one layer.
        path: ends in ``.nii`` or ``.nii.gz``; replaced if it exists.

    Returns:
        The path.

    Raises:
        ExportError: several layers, another ending, or values outside 0..65535.
        LabelError: ids that fit no label.
    """
    if len(labels.layers) != 1:
        raise ExportError(
            f"{path}: labels overlap and lie on {len(labels.layers)} layers, a NIfTI label file holds one",
            remedy="Write each layer to a file of its own.",
        )

    def save(target: Path, array: NDArray[Any], record: str, is_ids: bool) -> None:
        what = "instances" if is_ids else "labels"
        image = _image(array, labels.geometry, path, what)
        image.header.set_intent("label", name=PICTURE if labels.geometry.affine is None else what)
        texts = [*([record.encode()] if record else []), *([] if is_ids else [_names(labels.table)])]
        image.header.extensions.extend(nib.nifti1.Nifti1Extension(COMMENT, text) for text in texts)
        _save(image, target)

    return write_with_ids(labels, stored_values(labels, path), _checked(Path(path)), save)


def write_nifti_ids(ids: NDArray[np.uint32], geometry: Geometry, path: Path) -> Path:
    """Write ids of objects as NIfTI-1, uint16 or where needed uint32.

    Args:
        ids: ``(*spatial)``.
        geometry: their grid.
        path: ends in ``.nii`` or ``.nii.gz``; replaced if it exists.

    Raises:
        ExportError: another ending.
    """
    image = _image(smallest_ids(ids), geometry, path, "instances")
    image.header.set_intent("label", name=PICTURE if geometry.affine is None else "instances")
    return _save(image, path)


def write_nifti_image(volume: Volume, path: str | os.PathLike[str]) -> Path:
    """Write an image as NIfTI-1, as int16 or uint8 where it is stored so, else float32; channels become the fourth axis.

    Args:
        volume: the image.
        path: ends in ``.nii`` or ``.nii.gz``; replaced if it exists.

    Returns:
        The path.

    Raises:
        ExportError: another ending.
    """
    array = np.moveaxis(volume.array, 0, -1) if volume.channels > 1 else volume.array[0]
    kind = array.dtype if array.dtype in (np.int16, np.uint8) else np.dtype(np.float32)
    image = _image(array.astype(kind, copy=False), volume.geometry, path, "image")
    if volume.geometry.affine is None:
        image.header["intent_name"] = PICTURE
    return _save(image, Path(path))


def _image(array: NDArray[Any], geometry: Geometry, path: str | os.PathLike[str], what: str) -> Any:
    """An image of ``(*spatial)`` or ``(*spatial, C)`` with its grid in the header."""
    if geometry.affine is None:
        image = nib.Nifti1Image(array.swapaxes(0, 1)[:, :, None], None)
        _set_pixel_size(image.header, geometry)
    else:
        image = nib.Nifti1Image(_first_axis_fastest(array), geometry.affine)
        _set_grid(image.header, geometry, path)
    image.header["descrip"] = f"voxelry {__version__} {what}".encode()
    return image


def _first_axis_fastest(array: NDArray[Any]) -> NDArray[Any]:
    """A large three-dimensional array copied to NIfTI's memory order (first axis fastest); others are returned as they are.

    Copied plane by plane through a buffer whose row distance is no power of two, since such rows share a few cache lines.
    """
    fastest = int(np.argmin(np.abs(array.strides)))
    if array.ndim != 3 or fastest == 0 or array.size < _LARGE_VOXELS:
        return array
    target = np.empty(array.shape, dtype=array.dtype, order="F")
    planes, targets = np.moveaxis(array, 3 - fastest, 0), np.moveaxis(target, 3 - fastest, 0)

    def stretch(first: int, last: int) -> None:
        rows, columns = planes.shape[1:]
        buffer = np.empty((rows, columns + _CACHE_LINE), dtype=array.dtype)[:, :columns]
        for index in range(first, last):
            buffer[...] = planes[index]
            targets[index] = buffer

    run_slabs(stretch, len(planes))
    return target


def _set_pixel_size(header: Any, geometry: Geometry) -> None:
    """No transform; the distance of columns, then of rows, in mm where it is known."""
    header.set_xyzt_units("unknown" if geometry.pixel_size is None else "mm")
    between_rows, between_columns = geometry.pixel_size or (1.0, 1.0)
    header["pixdim"][1:4] = between_columns, between_rows, 1.0


def _set_grid(header: Any, geometry: Geometry, path: str | os.PathLike[str]) -> None:
    """Code both transforms, or the sform alone on a sheared grid."""
    header.set_xyzt_units("mm")
    header.set_sform(geometry.affine, code=SCANNER)
    header.set_qform(geometry.affine, code=SCANNER if geometry.is_orthogonal else 0, strip_shears=True)
    if not geometry.is_orthogonal:
        log.warning(
            "%s: the grid is sheared (a tilted acquisition), which a qform cannot hold: only the sform is written, and programs "
            "that read the qform alone will misplace it",
            Path(path).name,
        )


def _names(table: LabelTable) -> bytes:
    names = {str(value): name for value, name in table.id2label.items()}
    return json.dumps({"id2label": names, "label_table": table.model_dump(mode="json", exclude_defaults=True)}).encode()


def _save(image: Any, path: Path) -> Path:
    """Write through a fast gzip; equal images give equal bytes (no name, no time in the gzip header)."""
    with atomic_path(_checked(path)) as temporary, temporary.open("wb") as file:
        if path.name.endswith(".gz"):
            with igzip.IGzipFile(filename="", mode="wb", fileobj=file, compresslevel=_GZIP_LEVEL, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)
    return path


def _checked(path: Path) -> Path:
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ExportError(f"{path}: a NIfTI file ends in .nii or .nii.gz", remedy="Change the name.")
    return path
