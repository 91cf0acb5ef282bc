"""Writes COCO instance annotations (cocodataset.org, data format 4.1) of a picture's labels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from skimage.measure import label as connected

from voxelry.base.files import write_text
from voxelry.base.version import __version__
from voxelry.core.labels import Label
from voxelry.core.objects import objects_of
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import UsageError
from voxelry.formats.outline import outlines
from voxelry.formats.pictures.coco_read import TABLE_KEY
from voxelry.formats.pictures.rle import check_picture, compressed, placed_run_lengths

Shape = Literal["rle", "polygon"]

NO_SCORES: Mapping[int | str, float | None] = MappingProxyType({})


def write_coco(
    labels: LabelMap,
    path: str | os.PathLike[str],
    *,
    source: Volume | None = None,
    shape: Shape = "rle",
    scores: Mapping[int | str, float | None] = NO_SCORES,
) -> Path:
    """Write the labels of a picture as COCO annotations.

    Categories are the labels of the table, by their stored values; numbered from 1 where two layers share a value. There is
    an annotation for each instance; without instance ids, one for each connected component of a label of kind thing, and one for
    each label of kind stuff.

    Args:
        labels: ``(rows, columns)``, any number of layers.
        path: ends in ``.json``; replaced if it exists.
        source: the picture; its file's name becomes ``file_name``.
        shape: ``rle`` is exact. ``polygon`` runs along pixel edges, x and y in pixels from the corner of the picture; holes are
            keyholes. Readers that fill polygons in another way than by pixel centres lose or gain pixels along the edge.
        scores: score of an object by its instance id, else of all objects of a label by its name; the key ``score`` of their
            annotations, as COCO's results have it.

    Returns:
        The path.

    Raises:
        UsageError: another shape.
        ExportError: a volume, or another ending.
        LabelError: values that the table does not know, or ids that fit no label.
    """
    check_picture(labels, path, ".json")
    if shape not in ("rle", "polygon"):
        raise UsageError(f"shape {shape!r} is unknown", remedy="Known: rle, polygon.")
    rows, columns = labels.geometry.shape
    values = [label.value for label in labels.table.labels]
    numbers = values if len(set(values)) == len(values) else list(range(1, len(values) + 1))
    category = dict(zip(labels.table.names, numbers, strict=True))
    shapes = list(picture_objects(labels, path))
    fresh = count(1 + max((item.id for item in shapes), default=0))
    annotations = [
        {"id": item.id or next(fresh), "image_id": 1, "category_id": category[item.label.name]}
        | _drawn(item, (rows, columns), shape)
        | _scored(item, scores)
        for item in shapes
    ]
    name = Path(source.source.files[0]).name if source is not None and source.source.files else Path(path).name.split(".")[0]
    write_text(
        path,
        json.dumps(
            {
                "info": {"description": f"voxelry {__version__}"},
                "licenses": [],
                "images": [{"id": 1, "file_name": name, "height": rows, "width": columns}],
                "categories": [
                    {
                        "id": category[label.name],
                        "name": label.name,
                        "supercategory": label.category.meaning,
                        "isthing": int(label.kind == "thing"),
                        "color": list(label.rgb),
                    }
                    for label in labels.table.labels
                ],
                "annotations": annotations,
                TABLE_KEY: labels.table.model_dump(mode="json", exclude_defaults=True),
            }
        )
        + "\n",
    )  # on one line: indented, a file of many objects takes five times as long
    return Path(path)


@dataclass(frozen=True, eq=False)
class PictureObject:
    """An object of a picture, or a region whose objects are not told apart.

    Attributes:
        label: its label.
        id: its instance id, 0 where it has none.
        start: row and column of its box.
        mask: its pixels within the box.
        is_crowd: a region of a thing in which objects have no ids, beside others that have.
    """

    label: Label
    id: int
    start: tuple[int, int]
    mask: NDArray[np.bool_]
    is_crowd: bool = False


def picture_objects(labels: LabelMap, where: str | os.PathLike[str]) -> Iterator[PictureObject]:
    """The objects of a picture: instances, connected parts of things without ids (4-connected), labels of stuff.

    Raises:
        LabelError: values that the table does not know, or ids that fit no label.
    """
    for item in objects_of(labels, where):
        if item.box is None:
            continue
        start, mask = (item.box[0].start, item.box[1].start), item.mask(labels)
        if item.by_id or item.label.kind == "stuff":
            yield PictureObject(item.label, item.instance, start, mask, item.by_id and not item.instance)
            continue
        parts = connected(mask, connectivity=1)
        for number, (rows, columns) in enumerate(find_objects(parts), start=1):
            corner = (start[0] + rows.start, start[1] + columns.start)
            yield PictureObject(item.label, 0, corner, parts[rows, columns] == number)


def _scored(item: PictureObject, scores: Mapping[int | str, float | None]) -> dict[str, float]:
    """An object's score, where there is one."""
    score = scores.get(item.id, scores.get(item.label.name))
    return {} if score is None else {"score": float(score)}


def _drawn(item: PictureObject, size: tuple[int, int], shape: Shape) -> dict[str, Any]:
    """An object's segmentation, area, box ``[x, y, width, height]`` in pixels."""
    row, column = item.start
    height, width = item.mask.shape
    segmentation: Any
    if shape == "polygon" and not item.is_crowd:  # COCO wants run lengths of crowds
        segmentation = [(ring + np.array([column + 0.5, row + 0.5])).ravel().tolist() for ring in outlines(item.mask.T)]
    else:
        segmentation = {"size": list(size), "counts": compressed(placed_run_lengths(item.mask, item.start, size))}
    area = int(np.count_nonzero(item.mask))
    return {"segmentation": segmentation, "area": area, "bbox": [column, row, width, height], "iscrowd": int(item.is_crowd)}
