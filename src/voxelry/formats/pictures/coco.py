"""Writes COCO instance annotations (cocodataset.org, data format 4.1) of a picture's labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected

from voxelry.base.files import write_json
from voxelry.base.version import __version__
from voxelry.core.label_boxes import boxes
from voxelry.core.labels import Label
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import UsageError
from voxelry.formats.outline import outlines
from voxelry.formats.pictures.rle import check_picture, compressed, run_lengths

Shape = Literal["rle", "polygon"]


def write_coco(labels: LabelMap, path: str | os.PathLike[str], *, source: Volume | None = None, shape: Shape = "rle") -> Path:
    """Write the labels of a picture as COCO annotations.

    Categories are the labels of the table, by their stored values; numbered from 1 where two layers share a value. There is an
    annotation for each instance; without instance ids, one for each connected component of a label of kind thing, and one for
    each label of kind stuff.

    Args:
        labels: ``(rows, columns)``, any number of layers.
        path: ends in ``.json``; replaced if it exists.
        source: the picture; its file's name becomes ``file_name``.
        shape: ``rle`` is exact. ``polygon`` runs along pixel edges, x and y in pixels from the corner of the picture; holes are
            keyholes. Readers that fill polygons in another way than by pixel centres lose or gain pixels along the edge.

    Returns:
        The path.

    Raises:
        UsageError: another shape.
        ExportError: a volume, or another ending.
        LabelError: values that the table does not know.
    """
    check_picture(labels, path, ".json")
    if shape not in ("rle", "polygon"):
        raise UsageError(f"shape {shape!r} is unknown", remedy="Known: rle, polygon.")
    rows, columns = labels.geometry.shape
    boxes(labels, path)
    values = [label.value for label in labels.table.labels]
    numbers = values if len(set(values)) == len(values) else list(range(1, len(values) + 1))
    category = dict(zip(labels.table.names, numbers, strict=True))
    annotations = [
        {"id": number, "image_id": 1, "category_id": category[label.name]} | _drawn(mask, shape)
        for number, (label, mask) in enumerate(objects(labels), start=1)
    ]
    name = Path(source.source.files[0]).name if source is not None and source.source.files else Path(path).name.split(".")[0]
    write_json(
        path,
        {
            "info": {"description": f"voxelry {__version__}"},
            "licenses": [],
            "images": [{"id": 1, "file_name": name, "height": rows, "width": columns}],
            "categories": [
                {"id": category[label.name], "name": label.name, "supercategory": label.category.meaning}
                for label in labels.table.labels
            ],
            "annotations": annotations,
        },
    )
    return Path(path)


def objects(labels: LabelMap) -> Iterator[tuple[Label, NDArray[np.bool_]]]:
    """Each object of a label map and its mask: instances, connected parts of things (4-connected), labels of stuff."""
    for label in labels.table.labels:
        mask = labels.mask(label.name)
        if not mask.any():
            continue
        if labels.instances is not None:
            objects_by_number = np.where(mask, labels.instances[label.layer].astype(np.int64) + 1, 0)
        elif label.kind == "thing":
            objects_by_number = connected(mask, connectivity=1)
        else:
            objects_by_number = mask.astype(np.int64)
        for value in np.unique(objects_by_number[mask]):
            yield label, objects_by_number == value


def _drawn(mask: NDArray[np.bool_], shape: Shape) -> dict[str, Any]:
    """An object's segmentation, area, box ``[x, y, width, height]`` in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
    segmentation: Any
    if shape == "polygon":
        segmentation = [(ring + 0.5).ravel().tolist() for ring in outlines(mask.T)]
    else:
        segmentation = {"size": list(mask.shape), "counts": compressed(run_lengths(mask))}
    return {"segmentation": segmentation, "area": int(mask.sum()), "bbox": box, "iscrowd": 0}
