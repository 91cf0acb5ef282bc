"""Writes Slicer segmentations (``.seg.nrrd``) with names, colours and terminology, overlapping labels on layers."""

from __future__ import annotations

import os
from pathlib import Path

from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.grids.nrrd_write import save_nrrd, segment_fields
from voxelry.formats.label_values import segment_layers, split_instances


def write_seg_nrrd(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write labels as a Slicer segmentation, LPS, on their own grid.

    One layer is written as a 3D array, several as a 4D one whose first axis lists them. A label without a voxel is a segment
    with an empty extent, an instance of a thing a segment of its own with a tag ``Voxelry.Object:instance 3 of lesion``, by
    which its id is read back; voxels of the ignore value are in none. Names are in
    UTF-8, without the characters that separate Slicer's fields.

    Args:
        labels: three spatial axes, any number of layers.
        path: ends in ``.seg.nrrd``; replaced if it exists.

    Returns:
        The path.

    Raises:
        ExportError: a picture, another ending, or values outside 0..65535.
        LabelError: values that the table does not know.
    """
    target = Path(path)
    if labels.geometry.affine is None:
        raise ExportError(f"{path}: a Slicer segmentation lies in the patient, a picture does not", remedy="Write .nrrd or PNG.")
    if not target.name.lower().endswith(".seg.nrrd"):
        raise ExportError(f"{path}: a Slicer segmentation ends in .seg.nrrd", remedy="Change the name.")
    segments, notes = split_instances(labels)
    layers = segment_layers(segments, path)
    fields = segment_fields(segments, path, notes)
    return save_nrrd(target, layers[0] if len(layers) == 1 else layers, labels.geometry, fields)
