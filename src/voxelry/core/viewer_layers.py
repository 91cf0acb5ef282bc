"""Scans and labels as NiiVue takes them, thinned to a size that a browser bears: NIfTI in memory, one volume of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.object_palette import Labelled

_NIFTI_LABELS = 1002


def thinning(geometry: Geometry, most: int) -> tuple[int, ...]:
    """Every how many voxels one is kept along each axis, so that `most` are left; the finest axes are thinned first.

    Args:
        geometry: of the scan.
        most: voxels.
    """
    steps, spacing = [1] * geometry.ndim, geometry.spacing or (1.0,) * geometry.ndim
    shape = np.array(geometry.shape)
    while np.prod(-(-shape // np.array(steps))) > most:
        steps[int(np.argmin(np.array(spacing) * steps))] += 1
    return tuple(steps)


def label_numbers(tables: Sequence[LabelTable]) -> dict[str, int]:
    """Label name -> number from 1, in the order of the tables.

    Args:
        tables: of the maps that are shown together.
    """
    return {name: number for number, name in enumerate(dict.fromkeys(name for table in tables for name in table.names), start=1)}


def label_classes(
    labels: Labelled, numbers: Mapping[str, int], take: tuple[slice, ...]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """``(*spatial)``: the number of each voxel's label, 0 for none; where labels overlap, that of the later one.

    Args:
        labels: on any number of layers.
        numbers: label name -> number.
        take: the voxels that are kept, an index for each axis.
    """
    kept = [layer[take] for layer in labels.layers]
    classes = np.zeros(kept[0].shape, np.uint8 if len(numbers) < 256 else np.uint16)
    for label in labels.table.labels:
        classes[kept[label.layer] == label.value] = numbers[label.name]
    return classes


def viewer_nifti(values: NDArray[Any], geometry: Geometry, steps: Sequence[int], *, is_labels: bool) -> bytes:
    """A gzipped NIfTI-1 file; numbers with fractions are rounded to one of 65,536 steps of their range.

    Args:
        values: ``(x, y, z)``, thinned already.
        geometry: of the scan, whole; it has an affine.
        steps: as of `thinning`.
        is_labels: the values are labels.
    """
    import nibabel as nib
    from isal import igzip

    assert geometry.affine is not None
    image = nib.Nifti1Image(np.asarray(values), geometry.affine @ np.diag([*steps, 1]))
    if values.dtype.kind == "f":
        image.set_data_dtype(np.int16)
    if is_labels:
        image.header.set_intent(_NIFTI_LABELS)
    image.header.set_xyzt_units("mm")
    return bytes(igzip.compress(image.to_bytes(), 2, mtime=0))
