"""Writes run-length encoded masks (RLE) as COCO defines them: column by column, beginning with the number of zeros."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.files import write_json
from voxelry.core.label_boxes import boxes
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError


def write_rle(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write the labels of a picture as JSON run lengths, a list of whole numbers for each label.

    ``{"size": [rows, columns], "order": "columns", "labels": [{"value": 1, "name": "lung", "layer": 0, "counts": [...]}, ...]}``;
    size and counts together are COCO's uncompressed run lengths.

    Args:
        labels: ``(rows, columns)``, any number of layers.
        path: ends in ``.json``; replaced if it exists.

    Returns:
        The path.

    Raises:
        ExportError: a volume, or another ending.
        LabelError: values that the table does not know.
    """
    check_picture(labels, path, ".json")
    content = [
        {"value": label.value, "name": label.name, "layer": label.layer, "counts": run_lengths(labels.mask(label.name)).tolist()}
        for label, _ in boxes(labels, path)
    ]
    write_json(path, {"size": list(labels.geometry.shape), "order": "columns", "labels": content})
    return Path(path)


def check_picture(labels: LabelMap, path: str | os.PathLike[str], ending: str) -> None:
    """Refuse volumes and other endings.

    Raises:
        ExportError: either of the two.
    """
    if labels.geometry.ndim != 2:
        raise ExportError(
            f"{path}: this format holds the labels of a picture, not of {labels.geometry.describe()}",
            remedy="Write volumes as .nii.gz, .seg.nrrd or DICOM SEG.",
        )
    if not Path(path).name.lower().endswith(ending):
        raise ExportError(f"{path}: such a file ends in {ending}", remedy="Change the name.")


def run_lengths(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of runs of 0, 1, 0, 1...

    Args:
        mask: ``(rows, columns)`` bool.

    Returns:
        ``(n,)`` int64, the first 0 where the first pixel is in the mask; they add up to the number of pixels.
    """
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], [0] if flat[0] else [], changes, [flat.size]])
    return np.diff(edges).astype(np.int64)


def compressed(counts: NDArray[np.int64]) -> str:
    """Run lengths as COCO's text: from the fourth on the difference to the value two before, in groups of five bits plus 48."""
    text = []
    differences: list[Any] = counts.tolist()
    differences[3:] = (counts[3:] - counts[1:-2]).tolist()
    for value in differences:
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(text)
