"""Writes YOLO segmentation labels: a line of text for each object, or for each part of a label without objects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelry.base.files import write_text
from voxelry.core.volume import LabelMap
from voxelry.formats.outline import outlines
from voxelry.formats.pictures.coco import picture_objects
from voxelry.formats.pictures.rle import check_picture


def write_yolo(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write the labels of a picture as YOLO polygons, ``class x1 y1 x2 y2 ...`` a line.

    The class is the label's index in its table, from 0. Coordinates are fractions of the picture's width and height, along the
    edges of pixels. The format has neither holes nor objects of several parts: both are connected by channels of zero width,
    which the polygon follows in both directions. There is a line for each instance, and for each part of what has no instance
    ids; parts that touch at a corner only are two. Ids are lost: lines are read back as objects 1, 2... A picture without a
    labelled pixel gives an empty file.

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
    rows, columns = labels.geometry.shape
    number = {name: index for index, name in enumerate(labels.table.names)}
    lines = []
    for item in picture_objects(labels, path):
        rings, corner = outlines(item.mask.T), np.array(item.start[::-1]) + 0.5
        for ring in [_joined(rings)] if item.id else rings:
            outline = (ring + corner) / (columns, rows)
            lines.append(" ".join([str(number[item.label.name]), *(f"{value:.10g}" for value in outline.ravel())]))
    write_text(path, "".join(line + "\n" for line in lines))
    return Path(path)


def _joined(rings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The polygons of an object as one: from the first vertex to each other polygon and back, along the edges of pixels."""
    first = rings[0][:1]
    points = [rings[0]]
    for ring in rings[1:]:
        turn = np.array([[ring[0, 0], first[0, 1]]])
        points += [first, turn, ring, ring[:1], turn]
    return np.concatenate(points)
