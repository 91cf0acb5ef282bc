"""Reads annotations of V7's Darwin JSON (docs.v7labs.com, versions 1 and 2) of one picture as label maps with instance ids.

Polygons of one or several paths (``polygon``, ``complex_polygon``), ellipses, and masks of a raster layer. Each annotation is an
object, numbered from 1 in the order of the file, since Darwin's own ids are texts; annotations of one class and ``instance_id``
are one object. Boxes, lines and points enclose no pixels and are left out, with a remark; tags without one. Coordinates are
pixels, and the pixels that the outline runs through belong to the object. The paths of one annotation are filled together, so
that one within another is a hole. Videos and several slots are refused.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.files import read_json
from voxelry.base.listing import shown
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ConfigError, CorruptFileError, UnsupportedFormatError
from voxelry.formats.contours import fill
from voxelry.formats.pictures.coco_read import coco_file
from voxelry.formats.pictures.rle import placed_run_lengths, run_lengths
from voxelry.formats.pictures.stored_picture import check_size

Entry = Mapping[str, Any]
Shape = tuple[int, int]
Counts = NDArray[np.int64]

_ELLIPSE_POINTS = 720
"""Points of the polygon that an ellipse is filled as."""

_BESIDE = frozenset("id name slot_names properties attributes annotators reviewers ranges updated_at instance_id text".split())
"""Keys of an annotation that say nothing of its shape."""

_NO_SHAPES = {"tag", "raster_layer"}
"""Kinds of annotations that draw nothing: what a picture is, and the pixels of its masks."""


def read_darwin(
    path: str | os.PathLike[str],
    table: LabelTable | None = None,
    *,
    reference: Volume | str | os.PathLike[str] | None = None,
) -> LabelMap:
    """Read the annotations of a picture as labels with instance ids.

    Args:
        path: a JSON file.
        table: the labels to take, matched to classes by name, as for `read_coco`; a picture may have none of them. None
            takes all, numbered from 1.
        reference: the picture that was annotated, or its path.

    Returns:
        A LabelMap ``(rows, columns)``, on several layers where labels overlap.

    Raises:
        GridMismatchError: the reference is of another size.
        UnsupportedFormatError: a video, or several slots.
        CorruptFileError: no Darwin annotations, or damaged.
    """
    file = Path(path)
    try:
        content = read_json(file)
        coco, left_out = _as_coco(content, file)
    except ConfigError as error:
        raise CorruptFileError(error.problem, remedy="Export it again.") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CorruptFileError(
            f"{file}: not Darwin annotations ({type(error).__name__}: {error})",
            remedy="Export it again, as Darwin JSON of a picture.",
        ) from error
    annotations = replace(coco_file(file, coco), lists_drawn=True)
    labels = annotations.map_of(annotations.pictures[0], table, reference.geometry if isinstance(reference, Volume) else None)
    remarks = [f"annotations without an area are left out: {shown(left_out)}"] if left_out else []
    return replace(labels, source=replace(labels.source, kind="darwin", remarks=(*labels.source.remarks, *remarks)))


def _as_coco(content: Entry, file: Path) -> tuple[dict[str, Any], list[str]]:
    """The content of a COCO file of the same objects, and the kinds of annotations left out, with their numbers."""
    name, shape = _picture(content, file)
    check_size(file, *shape)
    every: Sequence[Entry] = content["annotations"]
    names: dict[str, int] = {}
    objects: dict[tuple[int, object], list[Counts]] = {}
    left_out = Counter[str]()
    rasters = {id: mask for item in every if "raster_layer" in item for id, mask in _raster(item["raster_layer"], shape)}
    for number, item in enumerate(every):
        if "frames" in item:
            raise UnsupportedFormatError(f"{file}: annotations of a video", remedy="Export its frames as pictures.")
        counts = _counts(item, shape, rasters)
        if counts is None:
            left_out.update([_kind(item)] if not _NO_SHAPES & item.keys() else [])
            continue
        category = names.setdefault(str(item["name"]), len(names) + 1)
        instance = item["instance_id"]["value"] if item.get("instance_id") else None
        objects.setdefault((category, (number,) if instance is None else instance), []).append(counts)
    rows = [
        {
            "id": number,
            "image_id": 1,
            "category_id": category,
            "segmentation": {"size": list(shape), "counts": _united(regions, shape)},
        }
        for number, ((category, _), regions) in enumerate(objects.items(), start=1)
    ]
    coco = {
        "images": [{"id": 1, "file_name": name, "height": shape[0], "width": shape[1]}],
        "annotations": rows,
        "categories": [{"id": number, "name": name} for name, number in names.items()],
    }
    return coco, [f"{number} {kind}" for kind, number in left_out.items()]


def _picture(content: Entry, file: Path) -> tuple[str, Shape]:
    """Name, and rows and columns, of the picture."""
    if "item" not in content:
        picture = content["image"]
        return str(picture.get("original_filename") or picture.get("filename", "")), (
            int(picture["height"]),
            int(picture["width"]),
        )
    item = content["item"]
    slots = item["slots"]
    if len(slots) != 1:
        raise UnsupportedFormatError(f"{file}: an item of {len(slots)} slots", remedy="Export each slot as an item of its own.")
    return str(item["name"]), (int(slots[0]["height"]), int(slots[0]["width"]))


def _united(regions: Sequence[Counts], shape: Shape) -> Counts:
    """The run lengths of what lies in any of some regions."""
    if len(regions) == 1:
        return regions[0]
    masks = [np.repeat(np.arange(len(counts)) % 2 == 1, counts) for counts in regions]
    return run_lengths(np.logical_or.reduce(masks).reshape(shape, order="F"))


def _counts(item: Entry, shape: Shape, rasters: Mapping[str, NDArray[np.bool_]]) -> Counts | None:
    """The run lengths of an annotation, None for one that has no area."""
    if "mask" in item:
        return run_lengths(rasters[item["id"]])
    paths = _paths(item)
    if paths is None:
        return None
    filled = fill(paths, shape[::-1])
    if not filled.inside.any():
        return np.array([shape[0] * shape[1]])
    return placed_run_lengths(filled.inside.T, filled.start[::-1], shape)


def _paths(item: Entry) -> list[NDArray[np.float64]] | None:
    """The paths of a polygon or an ellipse, each ``(n, 2)`` of x and y; None for another kind of annotation."""
    if "ellipse" in item:
        return [_outline(item["ellipse"])]
    polygon = item.get("polygon") or item.get("complex_polygon")
    if polygon is None:
        return None
    paths = polygon["paths"] if "paths" in polygon else polygon["path"]
    paths = paths if paths and isinstance(paths[0], list) else [paths]
    paths = [*paths, *polygon.get("additional_paths", ())]
    result = [np.array([(point["x"], point["y"]) for point in path], np.float64).reshape(-1, 2) for path in paths]
    if not all(len(path) and np.isfinite(path).all() for path in result):
        raise ValueError(f"annotation '{item.get('name')}' has a path without points, or with infinite ones")
    return result


def _outline(ellipse: Entry) -> NDArray[np.float64]:
    """An ellipse of a centre, two radii in pixels, and the angle in radians from x to the first radius, as a polygon."""
    centre, radii = (np.array([ellipse[key]["x"], ellipse[key]["y"]], np.float64) for key in ("center", "radius"))
    angle = float(ellipse.get("angle", 0.0))
    if not np.isfinite([*centre, *radii, angle]).all() or (radii < 0).any():
        raise ValueError("an ellipse with a negative or infinite number")
    turns = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)
    x, y = radii[0] * np.cos(turns), radii[1] * np.sin(turns)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine], axis=1)


def _raster(layer: Entry, shape: Shape) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Id and mask of each mask of a raster layer: pairs of a value and its number of pixels, row by row."""
    pairs = np.array(layer["dense_rle"], np.int64).reshape(-1, 2)
    if (pairs < 0).any() or pairs[:, 1].sum() != shape[0] * shape[1]:
        raise ValueError(f"a raster layer of {pairs[:, 1].sum()} pixels for a picture of {shape[1]} x {shape[0]}")
    values = np.repeat(pairs[:, 0], pairs[:, 1]).reshape(shape)
    for id, value in layer["mask_annotation_ids_mapping"].items():
        yield id, values == int(value)


def _kind(item: Entry) -> str:
    return next((key for key in item if key not in _BESIDE), "without a shape")
