"""Writes YOLO segmentation labels: a line of text for each connected component of a label."""

from __future__ import annotations

import os
from pathlib import Path

from voxelry.base.files import write_text
from voxelry.core.label_boxes import boxes
from voxelry.core.volume import LabelMap
from voxelry.formats.outline import outlines
from voxelry.formats.pictures.coco import objects
from voxelry.formats.pictures.rle import check_picture


def write_yolo(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write the labels of a picture as YOLO polygons, ``class x1 y1 x2 y2 ...`` a line.

    The class is the label's index in its table, from 0. Coordinates are fractions of the picture's width and height, along the
    edges of pixels; holes are connected to the outside by keyholes, since the format has no holes. Parts that touch at a corner
    only are lines of their own. A picture without a labelled pixel gives an empty file.

    Args:
        labels: ``(rows, columns)``, any number of layers.
        path: ends in ``.txt``; replaced if it exists.

    Returns:
        The path.

    Raises:
        ExportError: a volume, or another ending.
        LabelError: values that the table does not know.
    """
    check_picture(labels, path, ".txt")
    boxes(labels, path)
    rows, columns = labels.geometry.shape
    number = {name: index for index, name in enumerate(labels.table.names)}
    lines = [
        " ".join([str(number[label.name]), *(f"{value:.10g}" for value in ((ring + 0.5) / (columns, rows)).ravel())])
        for label, mask in objects(labels)
        for ring in outlines(mask.T)
    ]
    write_text(path, "".join(line + "\n" for line in lines))
    return Path(path)
