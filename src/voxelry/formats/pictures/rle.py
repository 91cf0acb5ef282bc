"""Run-length encoded masks (RLE) as COCO defines them, column by column, beginning with the number of zeros; and their file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.files import write_json
from voxelry.core.objects import objects_of
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.label_layers import SegmentBox


def write_rle(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write the labels of a picture as JSON run lengths, a list of whole numbers for each label.

    ``{"size": [rows, columns], "order": "columns", "labels": [{"value": 1, "name": "lung", "layer": 0, "counts": [...]}, ...]}``;
    size and counts together are COCO's uncompressed run lengths. Each instance of a thing is an entry, its id is ``instance``.

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
    rows, columns = labels.geometry.shape
    content = []
    for item in objects_of(labels, path):
        mask = np.zeros((rows, 1), np.bool_) if item.box is None else item.mask(labels)
        start = (0, 0) if item.box is None else (item.box[0].start, item.box[1].start)
        about = {"value": item.label.value, "name": item.label.name, "layer": item.label.layer}
        about |= {"instance": item.instance} if item.by_id else {}
        content.append(about | {"counts": placed_run_lengths(mask, start, (rows, columns)).tolist()})
    write_json(path, {"size": [rows, columns], "order": "columns", "labels": content})
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


def placed_run_lengths(mask: NDArray[np.bool_], start: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.int64]:
    """The run lengths of a picture that is empty beyond a box, as `run_lengths` gives them.

    Args:
        mask: ``(rows, columns)`` of the box.
        start: row and column of the box.
        shape: rows and columns of the picture.
    """
    strip = np.zeros((shape[0], mask.shape[1]), np.bool_)
    strip[start[0] : start[0] + mask.shape[0]] = mask
    counts, before = run_lengths(strip), start[1] * shape[0]
    after = (shape[1] - start[1] - mask.shape[1]) * shape[0]
    counts[0] += before
    if counts.size % 2:
        counts[-1] += after
    elif after:
        counts = np.append(counts, after)
    return counts


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


_MOST_GROUPS = 10
"""Groups of five bits of one number: more than any picture needs."""


def uncompressed(text: str) -> NDArray[np.int64]:
    """The run lengths that COCO's text stands for; see `compressed`.

    Raises:
        ValueError: it is no such text.
    """
    numbers_of_text, value, place = [], 0, 0
    for letter in text.encode("ascii", errors="replace"):
        group = letter - 48
        if not 0 <= group < 64 or place == 5 * _MOST_GROUPS:
            raise ValueError("the text of run lengths is damaged")
        value |= (group & 0x1F) << place
        place += 5
        if not group & 0x20:
            numbers_of_text.append(value - (1 << place) if group & 0x10 else value)
            value, place = 0, 0
    if place:
        raise ValueError("the text of run lengths is damaged")
    numbers = np.array(numbers_of_text, np.int64)
    numbers[1::2], numbers[2::2] = np.cumsum(numbers[1::2]), np.cumsum(numbers[2::2])
    return numbers


def mask_box(counts: NDArray[np.int64], shape: tuple[int, int]) -> SegmentBox | None:
    """The smallest box that holds the pixels of run lengths; None where there are none.

    Args:
        counts: as of `run_lengths`.
        shape: rows and columns of the picture.

    Raises:
        ValueError: they do not add up to the pixels of the picture, or one is below 0.
    """
    rows, columns = shape
    ends = np.cumsum(counts)
    if not counts.size or counts.min() < 0 or ends[-1] != rows * columns:
        total = int(ends[-1]) if counts.size else 0
        raise ValueError(f"run lengths of {total} pixels for a picture of {columns} x {rows}")
    starts, stops = ends[:-1:2], ends[1::2]
    starts, stops = starts[stops > starts[: len(stops)]], stops[stops > starts[: len(stops)]]
    if not starts.size:
        return None
    first, last = int(starts[0]) // rows, (int(stops[-1]) - 1) // rows
    flat = np.zeros((last - first + 1) * rows + 1, np.int8)
    flat[starts - first * rows] += 1
    flat[stops - first * rows] -= 1
    inside = np.cumsum(flat[:-1], dtype=np.int8).astype(bool).reshape(last - first + 1, rows).T
    filled = np.flatnonzero(inside.any(axis=1))
    return SegmentBox((int(filled[0]), first), np.ascontiguousarray(inside[filled[0] : filled[-1] + 1]))
