"""Files of every format that is read, also of those that voxelry does not write."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.formats.file_format import Format
from voxelry.formats.table import format_named
from voxelry.formats.writer import write

TABLE = LabelTable(labels=(Label(value=1, name="organ"),))
PICTURE = (24, 32)
"""Rows and columns of the pictures."""


def image(row: Format, scan: Volume, stem: Path) -> Path:
    """An image file of a format, or the folder of its series.

    Args:
        row: the format.
        scan: a DICOM series, for volumes; a picture otherwise.
        stem: the path without an ending.
    """
    path = stem.with_name(stem.name + row.ending)
    if row.name == "dicom":
        return Path(shutil.copytree(Path(scan.source.files[0]).parent, stem))
    if row.write_image:
        return row.write(scan, path)
    return _foreign(row.name, scan.array[0].astype(np.uint8 if row.is_picture else np.int16), scan.geometry, path)


def labels(row: Format, scan: Volume, stem: Path) -> Path:
    """A mask file of a format with label 1 in the middle of a scan: 48 voxels, or 60 pixels."""
    path = stem.with_name(stem.name + row.ending)
    mask = middle(scan.geometry)
    if row.name == "yolo":  # its size is that of the picture beside it
        image(format_named("png"), scan, stem)
    return row.write(mask, path, scan) if row.write_labels else _foreign(row.name, mask.array, scan.geometry, path)


def middle(grid: Geometry) -> LabelMap:
    """Label 1 in a box in the middle of a grid: 4 x 4 x 3 voxels, or 6 x 10 pixels."""
    array = np.zeros(grid.shape, np.uint8)
    size = (4, 4, 3) if len(grid.shape) == 3 else (6, 10)
    array[tuple(slice(n // 2 - edge // 2, n // 2 - edge // 2 + edge) for n, edge in zip(grid.shape, size, strict=True))] = 1
    return LabelMap.of(array, grid, TABLE)


def picture(seed: int) -> Volume:
    """A grey picture, brighter in the middle."""
    noise = np.random.default_rng(seed).integers(0, 60, PICTURE)
    return Volume((noise + 150 * middle(Geometry(PICTURE)).array).astype(np.uint8)[None], Geometry(PICTURE))


def _foreign(name: str, array: np.ndarray, grid: Geometry, path: Path) -> Path:
    """A file written by another program's library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if name in ("png", "jpeg", "tiff"):
        Image.fromarray(array).save(path)
    elif name == "darwin":
        rows, columns = np.nonzero(array)
        corners = [(x, y) for x in (columns.min(), columns.max()) for y in (rows.min(), rows.max())]
        polygon = [{"x": int(x), "y": int(y)} for x, y in (corners[0], corners[2], corners[3], corners[1])]
        about = {"width": array.shape[1], "height": array.shape[0], "original_filename": f"{path.stem}.png"}
        drawn = [{"name": "organ", "polygon": {"path": polygon}}]
        path.write_text(json.dumps({"image": about, "annotations": drawn}))
    elif name == "analyze":
        nib.AnalyzeImage(array, grid.affine).to_filename(path.with_suffix(".img"))
    elif name == "mgh":
        nib.MGHImage(array, grid.affine).to_filename(path)
    elif name in ("nrrd", "metaimage"):
        nifti = path.with_name("between.nii")
        write(Volume(array[None], grid), nifti)
        sitk.WriteImage(sitk.ReadImage(nifti), path)
        nifti.unlink()
    else:
        raise NotImplementedError(f"format '{name}' is read and not written: write a sample of it here")
    return path
