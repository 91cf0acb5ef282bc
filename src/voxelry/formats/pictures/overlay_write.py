"""Writes a picture with its labels painted over it as PNG, each object of a thing in a colour that its neighbours do not have."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from voxelry.base.files import atomic_path
from voxelry.core.catalogue import coded
from voxelry.core.label_boxes import boxes
from voxelry.core.object_colors import with_object_colors
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, UsageError
from voxelry.formats.overlay_paint import paint, window_of
from voxelry.formats.pictures.rle import check_picture

_ENDING = ".png"
_COLOURS = 3


def write_overlay(labels: LabelMap, path: str | os.PathLike[str], *, source: Volume | None = None, outline: bool = False) -> Path:
    """Write the labels of a picture in colour over it, for viewing; labels cannot be read back.

    Insides are tinted, borders opaque; where labels overlap the later one of the table is on top. Objects of a thing have colours
    of their own, which differ where objects touch and are the same each time.

    Args:
        labels: ``(rows, columns)``, any number of layers.
        path: ends in ``.png``; replaced if it exists.
        source: the picture, in grey or colour; None paints on black.
        outline: borders alone.

    Returns:
        The path.

    Raises:
        ExportError: a volume, or another ending.
        LabelError: values that the table does not know, or ids that fit no label.
        UsageError: `outline` is neither True nor False.
    """
    check_picture(labels, path, _ENDING)
    if not isinstance(outline, bool):
        raise UsageError(f"outline is {outline!r}", remedy="Give true or false.")
    if source is not None and source.channels not in (1, _COLOURS):
        raise ExportError(f"{path}: a picture of {source.channels} channels cannot be shown", remedy="Give one in grey or RGB.")
    boxes(labels, path)
    picture = _background(labels, source)
    painted = with_object_colors(_in_colour(labels))
    for label in painted.table.labels:
        paint(picture, painted.mask(label.name), np.array(label.rgb, np.float32), outline=outline)
    with atomic_path(path) as temporary:
        Image.fromarray(np.rint(picture).astype(np.uint8)).save(temporary, format="PNG")
    return Path(path)


def _in_colour(labels: LabelMap) -> LabelMap:
    return LabelMap(labels.layers, labels.geometry, coded(labels.table), labels.source, labels.instances)


def _background(labels: LabelMap, source: Volume | None) -> np.ndarray:
    """``(rows, columns, 3)`` float32, 0..255."""
    if source is None:
        return np.zeros((*labels.geometry.shape, 3), np.float32)
    low, high = (0.0, 255.0) if source.array.dtype == np.uint8 and not source.windows else window_of(source)
    grey = np.clip((np.moveaxis(source.array, 0, -1).astype(np.float32) - low) / (high - low), 0, 1) * 255
    return np.repeat(grey, 3, axis=2) if source.channels == 1 else grey
